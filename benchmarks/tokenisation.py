"""Rows a second of preparing data beside the bare tokenizer, on the same rows and processes.

    python benchmarks/tokenisation.py [--rows 100000] [--turns 3] [--base pico] [NAME=FILE ...]

Made-up rows, and those of each FILE, of any shape that `Conversations` reads, called NAME in the
result. Writes benchmarks/results/tokenisation.json; then `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import measured, write
from rows import write_rows

from data import prepare

CHUNK = 1000  # rows that a process is handed at a time


def rate(file: str, base: str, turns: int) -> dict[str, Any]:
    """Rows a second of the bare tokenizer, tokenisation with the mask, and the whole, in turn."""
    from tuner.backbone import load_tokenizer
    from tuner.data import encode as module
    from tuner.data.curate import BLOCK
    from tuner.data.pool import ALONE
    from tuner.data.prompts.base import Rendered
    from tuner.data.prompts.chat import Chat
    from tuner.data.sources.conversations import Conversations

    tokenizer, prompt = load_tokenizer(base), Chat()
    rows = [example.messages for example in Conversations(file).rows().examples]
    rendered = {id(row): prompt.render(row, tokenizer) for row in rows}
    texts = [item.text for item in rendered.values()]
    some = rows[:20_000]
    # A small set is prepared by one process.
    processes = os.cpu_count() or 1 if len(rows) > ALONE * BLOCK else 1

    class Ready(Chat):
        """Gives what was rendered before, so that tokenisation alone is measured."""

        def render(self, messages: Any, tokenizer: Any) -> Rendered:
            return rendered[id(messages)]

    found: dict[str, list[int]] = {"bare": [], "with_mask": [], "bare_all": [], "whole": []}
    tokens = 0

    def note(name: str, count: int, began: float) -> None:
        found[name].append(round(count / (time.perf_counter() - began)))

    gc.freeze()  # as a command has done with its imports: these rows are not looked through
    for _ in range(turns):
        began = time.perf_counter()
        tokenised(tokenizer, texts[: len(some)], 1)
        note("bare", len(some), began)
        began = time.perf_counter()
        module.encode(some, Ready(), tokenizer)
        note("with_mask", len(some), began)
        began = time.perf_counter()
        tokens = tokenised(tokenizer, texts, processes)
        note("bare_all", len(rows), began)
        with tempfile.TemporaryDirectory() as cache:
            whole = prepare(file, cache, base)
        found["whole"].append(round(whole["rows"] / whole["seconds"]))
    return {"rows": len(rows), "tokens": tokens, "processes": processes, "rows_a_second": found}


_held: list[Any] = []  # tokenizer and texts; a forked process has them without a copy


def tokenised(tokenizer: Any, texts: list[str], processes: int) -> int:
    """Tokenise texts in several processes, which share them; the number of tokens."""
    _held[:] = [tokenizer, texts]
    starts = range(0, len(texts), CHUNK)
    if processes == 1:
        return sum(map(_tokens, starts))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return sum(pool.map(_tokens, starts, chunksize=1))


def _tokens(start: int) -> int:
    tokenizer, texts = _held
    found = tokenizer(texts[start : start + CHUNK], add_special_tokens=False)["input_ids"]
    return sum(map(len, found))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="NAME=FILE")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--base", default="pico")
    parser.add_argument("--rate", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rate:
        print(json.dumps(rate(args.rate, args.base, args.turns)))
        return
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        made_up = Path(folder) / "rows.jsonl"
        write_rows(made_up, args.rows)
        for name, file in (one.split("=", 1) for one in (f"made up={made_up}", *args.files)):
            options = ("--base", args.base, "--turns", str(args.turns))
            sets[name] = measured(__file__, *options, "--rate", file)
            print(name, json.dumps(sets[name]), flush=True)
    write("tokenisation", {"base": args.base, "sets": sets})


if __name__ == "__main__":
    main()
