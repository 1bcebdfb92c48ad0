"""Clean blocks of rows in several processes, in order and without reading ahead."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice

from tuner.data.clean import Cleaned, Cleaner
from tuner.data.example import Example
from tuner.lost import when_gone

ALONE = 20  # blocks that this process cleans alone before others are worth their start


def cleaned(blocks: Iterator[list[Example]], cleaner: Cleaner, processes: int) -> Iterator[Cleaned]:
    """The blocks in order, cleaned here or, when there are many, by further processes."""
    yield from (cleaner(block) for block in islice(blocks, ALONE))
    if processes == 1:
        yield from map(cleaner, blocks)
        return
    following = next(blocks, None)
    if following is None:
        return
    # A fork shares the tokenizer; the parent has run no tokenizer threads (TOKENIZERS_PARALLELISM).
    context = multiprocessing.get_context("fork")
    given = (cleaner, os.getpid())
    with ProcessPoolExecutor(processes, context, _start_worker, given) as pool:
        waiting: deque[Future[Cleaned]] = deque([pool.submit(_work, following)])
        for block in blocks:
            waiting.append(pool.submit(_work, block))
            if len(waiting) > 2 * processes:  # the file is read no faster than it is cleaned
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_worker: list[Cleaner] = []


def _start_worker(cleaner: Cleaner, parent: int) -> None:
    _worker.append(cleaner)
    when_gone(parent, lambda: os._exit(1))  # else it would wait for work for ever


def _work(block: list[Example]) -> Cleaned:
    return _worker[0](block)
