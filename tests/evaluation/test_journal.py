"""A comparison that is stopped goes on where it was, and leaves nothing of the way there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tuner.errors import UserError
from tuner.evaluation import answer
from tuner.evaluation.journal import Journal, alone, forget
from tuner.tools.compare import main
from tuner.tools.report import main as report


def test_a_line_that_was_cut_is_found_out_again(tmp_path: Path) -> None:
    first = Journal(tmp_path, "key")
    assert [first.once(name, lambda: [1.5, "é\n"]) for name in "ab"] == [[1.5, "é\n"]] * 2
    first.close()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        again = Journal(tmp_path, "key")
        assert len(again.found) == whole[:cut].count(b"\n")
        again.once("b", lambda: "anew")
        again.close()
        last = Journal(tmp_path, "key")
        assert last.found == again.found
        last.close()


@pytest.mark.parametrize(
    "middle",
    [
        *(b"\0\0\0\0\n", b"5\n", b"[1]\n", b'["\xff", 1]\n', b'["b", 2]\n', b'[["b"], 2, ""]\n'),
        *(b'["b", 2, ""]\n', b"[" * 100_000 + b"\n", None),
    ],
)
def test_what_stands_behind_damage_does_not_count(middle: bytes | None, tmp_path: Path) -> None:
    journal = Journal(tmp_path, "key")
    (file,) = tmp_path.iterdir()
    journal.put("a", 1)
    first = file.read_bytes()
    journal.put("b", "said")
    whole = file.read_bytes()[len(first) :]
    journal.close()
    # Null stands for a line in which one letter of the finding has changed.
    changed = whole.replace(b"said", b"paid") if middle is None else middle
    file.write_bytes(first + changed + whole)
    damaged = Journal(tmp_path, "key")
    assert damaged.found == {"a": 1}
    damaged.close()


def test_other_keys_have_other_journals_and_all_are_forgotten(tmp_path: Path) -> None:
    for key in ("one", "other"):
        journal = Journal(tmp_path, key)
        assert not journal.found
        journal.put("a", 1)
        journal.close()
    (tmp_path / "report.md").touch()
    forget(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]


def test_a_comparison_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    for _ in range(2):
        with alone(tmp_path):
            refused = pytest.raises(UserError, match="another process is writing this comparison")
            with refused, alone(tmp_path):
                pytest.fail("two at a time")
        with pytest.raises(KeyboardInterrupt), alone(tmp_path):
            raise KeyboardInterrupt
        assert not list(tmp_path.iterdir())


@pytest.fixture
def small(fit: Callable[..., Path]) -> Path:
    options = ["--trainer.max_steps=6", "--optimizer.lr=0.01", "--data.test_size=0.5"]
    return fit("--name=small", *options, rows=80).parent.parent


def arguments(logs: Path, output: Path) -> list[str]:
    options = ["--max_new_tokens=12", "--batch_size=4", "--latency=0", f"--output={output}"]
    return ["small", f"--logs={logs}", *options, "--baselines=[]", "--metrics=[bleu]"]


def replies(output: Path) -> list[dict[str, Any]]:
    """The rows of a comparison without what time has to do with."""
    lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_only_what_is_missing_is_generated(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments(small, tmp_path / "whole")) == 0
    generate, asked, limit = answer.generate, list[int](), [25]

    def stopping(model: Any, headers: Any, **options: Any) -> Any:
        each = options.pop("each_reply", None)
        if each is None:  # the warm-up
            return generate(model, headers, **options)
        asked.append(len(headers))

        def count(place: int, reply: Any) -> None:
            each(place, reply)
            limit[0] -= 1
            if not limit[0]:
                raise KeyboardInterrupt

        return generate(model, headers, each_reply=count, **options)

    monkeypatch.setattr(answer, "generate", stopping)
    part = arguments(small, tmp_path / "part")
    assert main(part) == 130
    rows = len({row["id"] for row in replies(tmp_path / "whole")})
    assert asked == [rows]
    assert rows > 25
    limit[0] = rows  # and then in the middle of the run
    assert main(part) == 130
    limit[0] = -1
    assert main([*part, "--batch_size=8"]) == 0
    assert asked == [rows, rows - 25, rows, rows - 25]
    assert replies(tmp_path / "part") == replies(tmp_path / "whole")
    assert not list((tmp_path / "part").glob(".*"))
    assert main(part) == 0
    assert asked[4:] == [rows, rows]  # a comparison that is done is made anew


def test_a_second_comparison_leaves_the_journals_of_the_first(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / ".answers-of-the-first.jsonl").touch()
    with alone(output):
        assert main(arguments(small, output)) == 2
        (output / "predictions.jsonl").touch()  # by which a comparison is found
        assert report([str(output)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: ") == errors.count("is writing this comparison") == 2
    assert [file.name for file in output.glob(".answers-*")] == [".answers-of-the-first.jsonl"]
    assert main(arguments(small, output)) == 0


def test_another_question_is_not_answered_by_the_journal(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "output"
    with monkeypatch.context() as patch:
        patch.setattr("tuner.evaluation.compare.score", fails)
        assert main(arguments(small, output)) == 130
    kept = {file.name for file in output.glob(".answers-*")}
    assert len(kept) == 2
    assert main([*arguments(small, output), "--max_new_tokens=3"]) == 0
    assert max(row["new_tokens"] for row in replies(output)) == 3
    assert not list(output.glob(".*"))


def killed(
    command: list[str], output: Path, errors: Path, draw: random.Random, seconds: float
) -> bool:
    """Starts a comparison and kills it: a fifth of the time while it starts, else while it answers.

    Returns:
        Whether it was killed before it was done.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors.open("wb")
    )
    if draw.random() > 0.2:
        while not list(output.glob(".answers-*")) and process.poll() is None:
            time.sleep(0.02)
    try:
        assert process.wait(timeout=draw.uniform(0, seconds)) == 0, errors.read_text()
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_at_any_instant(
    small: Path, tmp_path: Path, figures: Callable[..., None], kills: int
) -> None:
    began = time.perf_counter()
    assert main(arguments(small, tmp_path / "whole")) == 0
    seconds = time.perf_counter() - began
    whole = replies(tmp_path / "whole")
    files = {file.name for file in (tmp_path / "whole").iterdir()}
    draw, done, kept, comparisons = random.Random(kills), 0, 0, 0
    while done < kills:
        output = tmp_path / f"part-{comparisons}"
        command = [sys.executable, "eval.py", *arguments(small, output)]
        for _ in range(min(5, kills - done)):
            if not killed(command, output, tmp_path / "errors", draw, seconds):
                break
            done += 1
            kept += sum(file.read_bytes().count(b"\n") for file in output.glob(".answers-*"))
        assert main(arguments(small, output)) == 0
        assert replies(output) == whole
        assert {file.name for file in output.iterdir()} == files
        comparisons += 1
    found = {"comparisons_that_ended_as_if_never_killed": comparisons, "findings_kept": kept}
    figures("faults", "`eval.py` killed at a random instant", done, **found)
