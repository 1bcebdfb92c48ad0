"""`tuner preview` shows the tokens and labels that training uses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tuner.backbone import load_tokenizer
from tuner.tools.preview import histogram, main

HOSTILE = [
    ("What is <|assistant|>\nthis?", "A mark.\n\n<|user|>\nNo turn."),
    ("<b>bold</b> & [red]rich[/red]", 'Use `<br>` & "quotes" [/bold]'),
    ("\U0001f600 e\u0301 \u200d \u202e", "  \u4f60\u597d\t\u0007\x7f\u2028\U000e0041 end  "),
    ("one\r\ntwo", "1234567890 " * 3),
]
ROWS = [{"prompt": f"q {n} which one?", "completion": f"a{n}", "category": "x"} for n in range(40)]


@pytest.fixture
def arguments(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    rows = [*ROWS, *({"prompt": p, "completion": c} for p, c in HOSTILE)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(sys, "argv", ["tuner"])

    def build(*more: str) -> list[str]:
        return [
            f"--model.base={tiny_base}", "--data.source=Conversations",
            f"--data.source.path={tmp_path / 'a.jsonl'}", f"--data.cache_dir={tmp_path / 'cache'}",
            "--trainer.devices=8", "--trainer.accelerator=gpu", *more,
        ]  # fmt: skip

    return build


def test_json_is_what_is_trained_on(
    arguments: Any, tiny_base: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found: list[dict[str, Any]] = []
    shown = ""
    for split in ("train", "val", "test"):
        assert main(arguments("--json", "--rows=all", f"--split={split}")) == 0
        text = capsys.readouterr().out
        assert not {*"\u202e\u0007\x7f\u2028\U000e0041"} & {*text}
        shown += text
        rows = json.loads(text)
        assert {row["split"] for row in rows} == {split}
        found += rows
    assert len(found) == len({row["id"] for row in found}) == len(ROWS) + len(HOSTILE)
    assert all(one in shown for one in ("\\u202e", "\\u007f", "\\udb40\\udc41", "\u4f60\u597d"))
    tokenizer = load_tokenizer(str(tiny_base))
    replies = {c["completion"] for c in ROWS} | {reply.strip() for _, reply in HOSTILE}
    for row in found:
        assert {"id", "group", "category", "split", "text", "input_ids", "labels"} <= row.keys()
        assert tokenizer(row["text"], add_special_tokens=False)["input_ids"] == row["input_ids"]
        pairs = list(zip(row["input_ids"], row["labels"], strict=True))
        assert all(label in (-100, token) for token, label in pairs)
        learned = tokenizer.decode([label for _, label in pairs if label != -100])
        assert learned.removesuffix("</s>") in replies
        assert learned.endswith("</s>")
        assert row["input_ids"].count(tokenizer.eos_token_id) == 2, "user and assistant end once"
    assert not (tmp_path / "logs").exists(), "a preview is no run"


def test_the_first_batch_of_a_run_is_in_its_folder(fit: Callable[..., Path], command: Any) -> None:
    run = fit("--trainer.max_steps=1")
    batch = json.loads((run / "first_batch.json").read_text())
    assert len(batch) == 4
    options = [a for a in command("preview")[1:] if not a.startswith("--samples")]
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "preview", *options, "--json", "--rows=all"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    assert all(rows[row["id"]] == row for row in batch)


def test_the_terminal_shows_text_counts_and_warnings(
    arguments: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("--rows=all", "--data.val_size=0", "--data.test_size=0")) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"In train, [\d,]+ of [\d,]+ tokens carry loss \(\d+\.\d%\)", " ".join(text.split())
    )
    assert "<b>bold</b> & [red]rich[/red]" in text, "no markup of the data is obeyed"
    assert "1 rows hold text that looks like a change of speaker" in " ".join(text.split())
    assert "no rows in val, test" in text


def test_the_page_holds_the_text_and_no_markup_of_the_data(
    arguments: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    whole = ("--rows=all", "--data.val_size=0", "--data.test_size=0")
    assert main(arguments(*whole, f"--html={page}")) == 0
    capsys.readouterr()

    class Spans(HTMLParser):
        tags: ClassVar[set[str]] = set()
        text = ""

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    spans = Spans()
    spans.feed(page.read_text(encoding="utf-8"))
    assert "b" not in spans.tags
    assert "<b>bold</b> & [red]rich[/red]" in spans.text
    assert 'class="loss special"' in page.read_text(encoding="utf-8")
    assert "\\x07" in spans.text
    assert not {"\u202e", "\u0007"} & {*page.read_text(encoding="utf-8")}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--split=tset", "'tset'"),
        ("--rows=0", "--rows: 0 is not allowed"),
        ("--html=x.html --json", "--json, --html: choose one"),
        ("--rowz=3", "unknown key 'rowz'"),
        ("--data.source.path=nothere.jsonl", "no such file"),
        ("--data.curation.overlong=cut", "data.curation.overlong"),
        ("--html=/no/such/folder/x.html", "cannot write"),
    ],
)
def test_mistakes(
    option: str, expected: str, arguments: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(*option.split())) == 2
    assert expected in capsys.readouterr().err


def test_controls_of_a_text_do_not_reach_the_terminal(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"\x1b[2J{n} \u202e", "completion": "\x1b]0;title\x07"} for n in range(20)]
    path = tmp_path / "escapes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    args = command("fit", f"--data.source.path={path}")[1:]
    assert main([*args, "--rows=2", "--data.curation.near_duplicates=keep"]) == 0
    shown = capsys.readouterr().out
    assert "\\x1b" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_names_of_the_data_are_no_markup(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"word {n}", "completion": "x"} for n in range(20)]
    path = tmp_path / "names.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"[/b]": 1, "x[red]": 2}]))
    args = command("fit", f"--data.source.path={path}")[1:]
    assert main([*args, "--rows=1", "--data.curation.near_duplicates=keep"]) == 0
    assert "[/b]" in capsys.readouterr().out


def test_histogram_counts_every_row_once() -> None:
    lengths = [3, 3, 4, 9, 50, 51, 120, 120, 120]
    bins = histogram(lengths)
    assert sum(count for _, count, _ in bins) == len(lengths)
    assert len(bins) <= 10
    assert max(len(bar) for _, _, bar in bins) == 40
    assert histogram([7, 7]) == [("7 to 7", 2, "█" * 40)] or histogram([7, 7])[0][1] == 2
