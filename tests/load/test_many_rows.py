"""Large sets: what preparation and a comparison take in memory, and what they leave on the disk."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.made import made
from tuner.backbone import load_tokenizer
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations
from tuner.evaluation.compare import write_reports
from tuner.evaluation.predictions import write_predictions

MIB = 2**20


def in_a_process(work: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What `work` returns, from a process of its own, and `bytes`: what it added to its memory."""
    context = multiprocessing.get_context("fork")
    parent, child = context.Pipe(duplex=False)

    def measured() -> None:
        before = _memory("VmRSS")
        found = work()
        child.send(found | {"bytes": max(_memory("VmHWM") - before, 0)})

    process = context.Process(target=measured)
    process.start()
    child.close()  # so that a process that fails ends the wait
    found = parent.recv()
    process.join()
    return found


def _memory(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


@pytest.mark.parametrize("rows", [400, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_large_set_is_prepared_in_little_memory(
    tmp_path: Path, figures: Callable[..., None], rows: int
) -> None:
    file, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    draw = random.Random(0)
    with file.open("w") as out:
        for _ in range(rows):
            words = [f"w{draw.randrange(20_000)}" for _ in range(30)]
            row = {"prompt": " ".join(words[:10]), "completion": " ".join(words[10:])}
            out.write(json.dumps(row) + "\n")
    tokenizer = load_tokenizer("pico")

    def prepare() -> dict[str, int]:
        data = ConversationData(Conversations(str(file)), cache_dir=str(cache))
        found = data.prepare(tokenizer)
        return {name: len(found.encoded[name]) for name in found.encoded}

    first, again = in_a_process(prepare), in_a_process(prepare)
    assert first["train"] + first["val"] + first["test"] == rows
    # A few numbers of each row are held for the split and the search for repetitions.
    assert first["bytes"] < 100 * MIB + 1200 * rows
    assert again["bytes"] < 50 * MIB + 100 * rows, "it is read row by row"
    folder = next(path for path in cache.iterdir() if path.is_dir())
    assert sorted(path.name for path in cache.iterdir()) == [folder.name, f"{folder.name}.lock"]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    listed = {"rows.arrow", "index.npz", "account.json", "rejected.jsonl"}
    assert sizes.keys() == listed | {"SHA256SUMS"}
    assert sum(sizes.values()) < 5 * file.stat().st_size + MIB
    figures(
        "load", "rows prepared", rows, file_mib=file.stat().st_size // MIB,
        memory_mib=first["bytes"] // MIB, memory_of_a_second_start_mib=again["bytes"] // MIB,
        cache_mib=sum(sizes.values()) // MIB, files=len(sizes),
    )  # fmt: skip


@pytest.mark.parametrize("rows", [100, pytest.param(20_000, marks=pytest.mark.soak)])
def test_a_large_comparison_stays_one_that_can_be_read(
    tmp_path: Path, figures: Callable[..., None], rows: int
) -> None:
    """Three systems; each example has a category of its own, as titles of documents are."""
    draw = random.Random(0)

    def replies() -> list[str]:
        words = ("one", "two", "three", "four", "parcel", "order", "refund", "where")
        return [" ".join(draw.choices(words, k=40)) for _ in range(rows)]

    said = {name: replies() for name in ("base", "lora", "qlora")}

    def write() -> dict[str, int]:
        results, predictions = made(
            said, ["bleu", "chrf", "rouge1", "rougeL"], categories=rows, resamples=10_000
        )
        write_predictions(tmp_path / "predictions.jsonl", predictions)
        write_reports(tmp_path, results, predictions)
        return {"rows": len(predictions), "categories": len(results["categories"])}

    found = in_a_process(write)
    assert found["rows"] == 3 * rows
    assert found["categories"] == 3 * 50
    assert found["bytes"] < 150 * MIB + 20_000 * rows
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()}
    assert sizes["results.json"] < MIB
    assert sizes["report.md"] < MIB
    assert sizes["report.html"] < 2 * MIB
    assert sizes["predictions.jsonl"] < 3 * rows * 1200
    assert f"the 50 largest of {rows:,}" in (tmp_path / "report.md").read_text()
    figures(
        "load", "rows of a comparison of 3 systems: scored, resampled and reported", rows,
        memory_mib=found["bytes"] // MIB, report_kib=sizes["report.html"] // 1024,
        results_kib=sizes["results.json"] // 1024,
        predictions_mib=sizes["predictions.jsonl"] // MIB,
    )  # fmt: skip
