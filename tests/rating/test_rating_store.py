"""The file of ratings: whole, shared, and of one study."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from comparisons import ROOT, SYSTEMS, begin, write_comparison

from tuner.errors import UserError
from tuner.rating.store import Rating, Store

WRITER = """
import sys
from pathlib import Path
from tuner.rating.store import Rating, Store
folder, rater = sys.argv[1:]
for n in range(150):
    Store(Path(folder)).save([Rating(rater=rater, item=f"i{n}", turn=1, kind="score",
        criterion="tone", system="s", value=str(n % 5 + 1))])
"""


def score(value: str = "4", **fields: str) -> Rating:
    return Rating(
        **{"rater": "Ann", "item": "id0", "criterion": "tone", "system": SYSTEMS[0]} | fields,  # pyright: ignore
        turn=1,
        kind="score",
        value=value,
    )


def test_the_last_click_counts_and_only_changes_are_counted(tmp_path: Path) -> None:
    _, store = begin(write_comparison(tmp_path))
    assert store.save([score("4")]) == 1
    assert store.save([score("4")]) == 0
    assert store.save([score("2"), score("2", rater="Ben")]) == 2
    assert store.ratings("Ann") == [score("2")]
    assert len(store.ratings()) == 2


def test_all_or_none(tmp_path: Path) -> None:
    _, store = begin(write_comparison(tmp_path))
    with pytest.raises(UserError, match="CHECK"):
        store.save([score("4"), score("6", item="id1")])
    assert store.ratings() == []


def test_two_processes_write_at_the_same_time(tmp_path: Path) -> None:
    _, store = begin(write_comparison(tmp_path))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, rater], cwd=ROOT) for rater in ("Ann", "Ben")]
    assert [writer.wait() for writer in writers] == [0, 0]
    for rater in ("Ann", "Ben"):
        stored = {rating.item: rating.value for rating in store.ratings(rater)}
        assert stored == {f"i{n}": str(n % 5 + 1) for n in range(150)}


def test_of_two_that_begin_at_once_one_wins(tmp_path: Path) -> None:
    write_comparison(tmp_path, count=50)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: begin(tmp_path, seed=seed)[0], range(8)))
    assert len(set(map(repr, found))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "predictions.jsonl",
        "ratings.sqlite",
    ]


def test_settings_survive_as_they_were(tmp_path: Path) -> None:
    rubric = {"'; DROP TABLE rating; --": "\u202e<b>", "overall": "x"}
    study, store = begin(write_comparison(tmp_path, rubric=rubric), seed=7, repeats=2, items=3)
    assert Store(tmp_path).study() == study
    hostile = "'); DROP TABLE rating; --\x00\ud7ff"
    store.save([score(rater=hostile, item=hostile, system=hostile)])
    assert store.ratings(hostile) == [score(rater=hostile, item=hostile, system=hostile)]


def test_other_files_are_refused_and_not_touched(tmp_path: Path) -> None:
    store = Store(write_comparison(tmp_path))
    assert store.study() is None
    store.path.write_bytes(b"this is no database at all" * 99)
    with pytest.raises(UserError, match="not a database"):
        store.study()
    assert store.path.read_bytes().startswith(b"this is no")
    store.path.unlink()
    begin(tmp_path)
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(UserError, match="version 9"):
        store.study()


def test_a_file_that_was_moved_away_is_an_error_and_not_made_anew(tmp_path: Path) -> None:
    _, store = begin(write_comparison(tmp_path))
    store.path.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="unable to open"):
        store.save([score()])
    assert not store.path.exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_leads_no_ratings_out_of_their_folder(there: bool, tmp_path: Path) -> None:
    away = tmp_path / "away.sqlite"
    if there:
        away.touch()
    folder = write_comparison(tmp_path / "a")
    (folder / "ratings.sqlite").symlink_to(away)
    with pytest.raises(UserError, match=r"ratings\.sqlite is a link"):
        begin(folder)
    assert away.exists() == there
    assert not there or not away.read_bytes()


def test_what_a_killed_process_left_does_not_get_into_a_new_study(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path)
    _, store = begin(folder)
    store.save([score("4", rater="Zed")])
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", f"{WRITER}{killed}", str(tmp_path), "Ann"], cwd=ROOT)
    (folder / "ratings.sqlite-journal").touch()
    moved = (folder / "ratings.sqlite").rename(folder / "old.sqlite")
    _, store = begin(folder)
    assert store.ratings() == []
    with closing(sqlite3.connect(moved)) as old:
        assert old.execute("SELECT COUNT(*) FROM rating WHERE rater = 'Zed'").fetchone() == (1,)
