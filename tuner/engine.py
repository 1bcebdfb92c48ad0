"""`transformers serve` behind this project's guard: `python -m tuner.engine serve MODEL ...`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from transformers.cli.serving import server as serving
from transformers.cli.serving import utils
from transformers.cli.transformers import main

from tuner.backbone import positions
from tuner.completions import Bodies, answer_in_words
from tuner.connection import bounds
from tuner.guards import Doors, Guard, Limit
from tuner.private import keep_private

# What clients of OpenAI ask for, and whether the engine lives. Anybody could let it load another
# model, or forget its own, through the others.
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health")
LARGEST_POST = 4 * 1024 * 1024  # bytes; longer than the context of any small model
POLICY = "default-src 'none'; frame-ancestors 'none'"


class Bounded(utils.GenerateManager):
    """Takes no prompt that is longer than the model's context, and ends replies where that ends.

    Beyond, the engine would compute what no model has learned to read, for hours, or break.
    """

    def generate_streaming(self, model: Any, *args: Any, **options: Any) -> Any:
        """See the base class."""
        _bound(model, *args)
        return super().generate_streaming(model, *args, **options)

    async def generate_non_streaming(self, model: Any, *args: Any, **options: Any) -> Any:
        """See the base class."""
        _bound(model, *args)
        return await super().generate_non_streaming(model, *args, **options)


def _bound(model: Any, processor: object, inputs: Any, settings: Any) -> None:
    room, prompt = positions(model.config), inputs["input_ids"].shape[-1]
    if room is None:
        return
    if prompt >= room:
        raise HTTPException(
            400,
            f"the prompt takes {prompt} tokens, but the model was made for {room} of prompt and "
            "reply; shorten it",
        )
    settings.max_new_tokens = min(settings.max_new_tokens, room - prompt)


def guard(host: str) -> None:
    """Let the engine answer programs and its own address alone, on few paths, and what it can.

    Args:
        host: name or address that it is told to listen on.
    """
    build: Any = serving.build_server

    def guarded(*args: Any, **options: Any) -> Guard:
        app = build(*args, **options)
        answer_in_words(app)
        doors = Limit(Bodies(Doors(app, PATHS)), LARGEST_POST)
        return Guard(doors, host, POLICY, programs=True)

    utils.GenerateManager = Bounded  # pyright: ignore[reportAttributeAccessIssue]
    serving.build_server = guarded  # pyright: ignore[reportAttributeAccessIssue]
    uvicorn.Config = partial(uvicorn.Config, **bounds())


if __name__ == "__main__":
    keep_private()
    guard(sys.argv[sys.argv.index("--host") + 1])
    main()
