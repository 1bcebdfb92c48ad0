"""`transformers serve` behind this project's guard: `python -m tuner.engine serve MODEL ...`."""

from __future__ import annotations

import sys
from typing import Any

from transformers.cli.serving import server as serving
from transformers.cli.transformers import main

from tuner.guards import Doors, Guard, Limit
from tuner.private import keep_private

# What clients of OpenAI ask for, and whether the engine lives. Anybody could let it load another
# model, or forget its own, through the others.
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health")
LARGEST_POST = 4 * 1024 * 1024  # bytes; longer than the context of any small model
POLICY = "default-src 'none'; frame-ancestors 'none'"


def guard(host: str) -> None:
    """Let the engine answer programs and its own address alone, on few paths, and no long bodies.

    Args:
        host: name or address that it is told to listen on.
    """
    build: Any = serving.build_server

    def guarded(*args: Any, **options: Any) -> Guard:
        doors = Doors(build(*args, **options), PATHS)
        return Guard(Limit(doors, LARGEST_POST), host, POLICY, programs=True)

    serving.build_server = guarded  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    keep_private()
    guard(sys.argv[sys.argv.index("--host") + 1])
    main()
