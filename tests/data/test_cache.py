"""Prepared data is found again as long as nothing that shapes it has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tuner.data import cache
from tuner.data.cache import cached, key_of
from tuner.data.curate import Curated
from tuner.data.curation import Curation
from tuner.data.datamodule import ConversationData
from tuner.data.prompts.chat import Chat
from tuner.data.sources.conversations import Conversations
from tuner.data.sources.mixture import Mixture
from tuner.errors import UserError
from tuner.plugins import settings_of

ROWS = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(40)]
Prepare = Callable[..., Curated]


@pytest.fixture
def path(write: Any) -> str:
    return write("a.jsonl", ROWS)


@pytest.fixture
def prepare(path: str, tmp_path: Path, pico: Any) -> Prepare:
    def run(tokenizer: Any = pico, **settings: Any) -> Curated:
        given = {"source": Conversations(path), "cache_dir": str(tmp_path / "cache")} | settings
        return ConversationData(**given).prepare(tokenizer)

    return run


def folders(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_a_second_start_reads_no_row(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare()
    monkeypatch.setattr(Conversations, "items", lambda self: pytest.fail("read again"))
    second = prepare()
    assert second.folder == first.folder
    assert second.account == first.account
    assert list(second.splits["train"]) == list(first.splits["train"])
    assert len(folders(tmp_path)) == 1


def test_everything_that_shapes_the_data_makes_it_new(
    prepare: Prepare, path: str, write: Any, tmp_path: Path, pico: Any, llama: Any
) -> None:
    changed = [
        {"max_length": 99},
        {"seed": 7},
        {"val_size": 3},
        {"val_size": 3.0 / 10},
        {"prompt": Chat(system="Be brief.")},
        {"curation": Curation(redact=True)},
        {"source": Conversations(path, limit=30)},
        {"source": Conversations(path, limit=30, seed=1)},
        {"source": Conversations(path, shape="prompt_completion")},
        {"source": Mixture([Conversations(path)])},
        {"tokenizer": llama},
    ]
    known = {prepare().folder}
    for settings in changed:
        folder = prepare(**settings).folder
        assert folder not in known, settings
        known.add(folder)
    pico.chat_template = str(pico.chat_template) + "{# new #}"
    assert prepare().folder not in known
    write("a.jsonl", [*ROWS, {"prompt": "new", "completion": "row"}])
    assert prepare().folder not in known


def test_code_of_the_package_and_of_plug_ins_counts(
    pico: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Conversations(path)
    before = key_of({}, pico, [source])
    assert key_of({}, pico, [source]) == before
    monkeypatch.setattr(cache, "_code", lambda: "other")
    assert key_of({}, pico, [source]) != before


def test_a_failed_or_killed_preparation_leaves_nothing_to_be_taken(
    tmp_path: Path, prepare: Prepare
) -> None:
    done = prepare()

    def fails(folder: Path) -> Curated:
        (folder / "rows.arrow").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("key", tmp_path / "cache", fails)
    assert folders(tmp_path) == [done.folder]
    (tmp_path / "cache" / "other.part").mkdir()  # as a kill leaves it
    (tmp_path / "cache" / "other.part" / "rows.arrow").write_bytes(b"half")
    found = cached("other", tmp_path / "cache", lambda folder: _copy(done, folder))
    assert list(found.splits["test"]) == list(done.splits["test"])


def _copy(done: Curated, folder: Path) -> Curated:
    assert not list(folder.iterdir())
    for file in done.folder.iterdir():
        os.link(file, folder / file.name)
    return Curated.open(folder)


def test_two_at_a_time_build_once(tmp_path: Path, prepare: Prepare) -> None:
    done, built = prepare(), list[Path]()

    def build(folder: Path) -> Curated:
        built.append(folder)
        return _copy(done, folder)

    threads = [
        threading.Thread(target=cached, args=("k", tmp_path / "cache", build)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_settings_of_nested_plug_ins(path: str) -> None:
    found = settings_of(Mixture([Conversations(path, limit=3)], seed=5))
    assert found["class_path"] == "tuner.data.sources.mixture.Mixture"
    assert found["init_args"]["seed"] == 5
    (part,) = found["init_args"]["sources"]
    assert part["init_args"]["limit"] == 3
    assert settings_of(Curation(keywords=("a",)))["keywords"] == ["a"]


@pytest.mark.parametrize("file", ["rows.arrow", "index.npz", "account.json"])
@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(f.read_bytes()[:50]), Path.unlink])
def test_a_damaged_cache_is_made_again(
    file: str, damage: Callable[[Path], object], prepare: Prepare, tmp_path: Path
) -> None:
    before = [example.id for example in prepare().splits["train"]]
    (found,) = tmp_path.glob(f"cache/*/{file}")
    damage(found)
    assert [example.id for example in prepare().splits["train"]] == before


def zeroed(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:1000] + bytes(64) + whole[1064:])


def other_tokens(file: Path) -> None:
    """Leaves a whole Arrow file with as many tokens, all of them 0."""
    rows = pa.ipc.open_file(file.read_bytes()).read_all()
    place = rows.schema.get_field_index("input_ids")
    zeros = [[0] * len(ids) for ids in rows["input_ids"].to_pylist()]
    column = pa.array(zeros, rows.schema.field(place).type)
    rows = rows.set_column(place, rows.schema.field(place), column)
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, rows.schema) as writer:
        writer.write_table(rows)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("rows.arrow", zeroed),
        ("rows.arrow", other_tokens),
        ("account.json", lambda f: f.write_text(f.read_text().replace("rows_in", "rows_im"))),
        *(("account.json", lambda f, text=text: f.write_text(text)) for text in ("{}", "null")),
        ("rejected.jsonl", Path.unlink),
        ("SHA256SUMS", Path.unlink),  # an entry of a version that wrote none
    ],
)
def test_an_entry_that_is_not_as_it_was_written_is_made_again(
    file: str, damage: Callable[[Path], object], prepare: Prepare, tmp_path: Path
) -> None:
    def content(found: Curated) -> list[Any]:
        tokens = [row.input_ids.tolist() for row in found.encoded["train"]]
        return [[example.id for example in found.splits["train"]], tokens, found.account]

    before = content(prepare())
    (found,) = tmp_path.glob("cache/*/account.json")
    whole = {one.name: one.read_bytes() for one in found.parent.iterdir()}
    damage(found.with_name(file))
    assert content(prepare()) == before
    again = {one.name: one.read_bytes() for one in found.parent.iterdir()}
    assert again.keys() == whole.keys()
    assert again["rows.arrow"] == whole["rows.arrow"]
    assert again["account.json"] == whole["account.json"]


def test_a_cache_that_cannot_be_written(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache_dir: cannot write to .*file"):
        prepare(cache_dir=str(tmp_path / "file"))
