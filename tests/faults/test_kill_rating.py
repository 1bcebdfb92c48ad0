"""A rating page, a sheet and the beginning of a study, killed at any instant."""

from __future__ import annotations

import http.client
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from comparisons import SYSTEMS, begin, start_server, write_comparison

from tests.faults.conftest import Child
from tuner.rating.items import arrange
from tuner.rating.store import FILE, Rating, Store
from tuner.rating.study import RUBRIC, read_answers
from tuner.tools import rate

Clicks = dict[tuple[int, str, int], str]
LETTERS = ("A", "B")
# SQLite's own; an open journal is rolled back by the next one that looks.
ALLOWED = {FILE, f"{FILE}-journal", "predictions.jsonl"}


def click(server: Any, draw: random.Random, confirmed: Clicks, on_the_way: Clicks) -> None:
    """Clicks until the server is gone."""
    while True:
        place = draw.randint(1, 6), draw.choice(LETTERS), draw.randrange(len(RUBRIC) + 1)
        value = str(draw.randint(1, 5))
        on_the_way.clear()
        on_the_way[place] = value
        try:
            status = server.score("Ann", *place, value)
        except (OSError, http.client.HTTPException):
            return
        assert status == 200
        confirmed[place] = value


def stored(store: Store) -> Clicks:
    study = store.study()
    assert study
    items = arrange(study, "Ann")
    by_id = {item.id: item for item in items}
    return {
        (items.index(by_id[r.item]) + 1, letter, study.criteria.index(r.criterion)): r.value
        for r in store.ratings("Ann")
        for letter in LETTERS
        if by_id[r.item].system(letter) == r.system
    }


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_what_was_confirmed_is_there_after_every_kill(
    tmp_path: Path, figures: Callable[..., None], kills: int
) -> None:
    _, store = begin(write_comparison(tmp_path))
    draw, confirmed, clicks = random.Random(kills), Clicks(), 0
    for _ in range(kills):
        server, on_the_way, new = start_server(tmp_path), Clicks(), Clicks()
        rater = threading.Thread(target=click, args=[server, draw, new, on_the_way])
        rater.start()
        while not new:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        server.stop()
        rater.join(30)
        clicks += len(new)
        confirmed |= new
        found = stored(store)
        # The click that was on its way may be there or not.
        assert found in (confirmed, confirmed | on_the_way)
        confirmed = found
        with closing(sqlite3.connect(store.path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {file.name for file in tmp_path.iterdir()} <= ALLOWED
    figures("faults", "rating page killed in mid-click", kills, confirmed_clicks=clicks)


class Options(dict[str, Any]):
    """What `tuner rate` was told: nothing."""

    __getattr__ = dict.__getitem__


def begun(folder: Path) -> Any:
    given = Options(systems=None, items=None, repeats=None, seed=None)
    return rate.begin(folder, read_answers(folder), Store(folder), given)


@pytest.mark.parametrize("kills", [20, pytest.param(500, marks=pytest.mark.soak)])
def test_a_study_whose_beginning_was_killed_begins(
    tmp_path: Path, child: Callable[..., Child], figures: Callable[..., None], kills: int
) -> None:
    whole = begun(write_comparison(tmp_path / "whole"))
    draw, none = random.Random(kills), 0
    for number in range(kills):
        folder = write_comparison(tmp_path / str(number))
        one = child(lambda folder=folder: begun(folder) and 0)
        until = time.monotonic() + 20
        while not any(FILE in file.name for file in folder.iterdir()):
            assert time.monotonic() < until, one.said
        time.sleep(draw.choice([0, draw.uniform(0, 0.01)]))
        one.process.kill()
        one.process.join()
        none += Store(folder).study() is None
        assert begun(folder) == whole
        Store(folder).save([rating()])
        assert Store(folder).ratings() == [rating()]
        assert {file.name for file in folder.iterdir()} <= ALLOWED
    figures("faults", "beginning of a rating killed", kills, began_anew=none)


def rating() -> Rating:
    return Rating(
        rater="Ann",
        item="id0",
        turn=1,
        kind="score",
        criterion="tone",
        system=SYSTEMS[0],
        value="4",
    )


def test_a_killed_import_of_a_sheet_is_all_or_nothing(
    tmp_path: Path, child: Callable[..., Child]
) -> None:
    _, store = begin(write_comparison(tmp_path))

    def half() -> None:
        def rows() -> Any:
            yield rating()
            signal.raise_signal(signal.SIGKILL)

        store.save(rows())

    assert child(half).wait() == -signal.SIGKILL
    assert store.ratings() == []
    assert store.save([rating()]) == 1
    assert {file.name for file in tmp_path.iterdir()} <= ALLOWED | {"child-0.txt"}
