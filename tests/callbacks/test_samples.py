"""Sample replies during training, scored as the reference packages score them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from tuner.callbacks.samples import SampleReplies
from tuner.errors import UserError

Fit = Callable[..., Path]


def written(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def test_scores_are_those_of_rouge_score_and_sacrebleu(fit: Fit) -> None:
    """A few steps on a handful of rows, so that replies have words of their references."""
    run = fit(
        "--trainer.max_epochs=12", "--optimizer.lr=0.01", "--trainer.check_val_every_n_epoch=6",
        "--samples.count=3", "--samples.max_new_tokens=24", rows=60,
    )  # fmt: skip
    rows = written(run)
    steps = sorted({row["step"] for row in rows})
    assert len(steps) == 2
    assert len(rows) == 6
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    with (run / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["sample_bleu"]]
    any_overlap = 0.0
    for step, scores in zip(steps, logged, strict=True):
        now = [row for row in rows if row["step"] == step]
        for key in ("rouge1", "rouge2", "rougeL"):
            each = [scorer.score(r["reference"], r["reply"])[key].fmeasure for r in now]
            assert float(scores[f"sample_{key}"]) == pytest.approx(sum(each) / 3, abs=1e-5)
        bleu = sacrebleu.corpus_bleu(
            [r["reply"] for r in now], [[r["reference"] for r in now]], smooth_method="none"
        )
        assert float(scores["sample_bleu"]) == pytest.approx(bleu.score / 100, abs=1e-5)
        any_overlap += float(scores["sample_rouge1"])
    assert any_overlap > 0.1, "nothing was compared"
    events = EventAccumulator(str(run))
    events.Reload()
    assert len([tag for tag in events.Tags()["tensors"] if tag.startswith("sample/")]) == 3


def test_sampling_changes_nothing_in_the_training(fit: Fit) -> None:
    with_samples = fit("--trainer.max_epochs=2", "--samples.count=2")
    without = fit("--trainer.max_epochs=2", "--samples.count=0")
    files = [run / "adapter" / "adapter_model.safetensors" for run in (with_samples, without)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (without / "samples.jsonl").exists()


def test_a_run_without_validation_still_shows_replies_at_its_end(fit: Fit) -> None:
    run = fit("--data.val_size=0", "--trainer.max_steps=2", "--samples.count=2")
    assert [row["step"] for row in written(run)] == [2, 2]


def test_texts_of_a_sample_are_no_markup_in_tensorboard(fit: Fit, tmp_path: Path) -> None:
    live = "# a\n```\n[b](http://c.test) ![d](http://e.test)\n````\n<img src=f> http://g.test"
    rows = [{"prompt": f"{n} {live}", "completion": f"**{n}** {live}"} for n in range(8)]
    (tmp_path / "live.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = fit(
        f"--data.source.path={tmp_path / 'live.jsonl'}", "--data.curation.near_duplicates=keep",
        "--data.val_size=0", "--data.test_size=0", "--trainer.max_steps=1", "--samples.count=1",
    )  # fmt: skip
    events = EventAccumulator(str(run))
    events.Reload()
    (tag,) = [one for one in events.Tags()["tensors"] if one.startswith("sample/")]
    (event,) = events.Tensors(tag)
    page = markdown_to_safe_html(event.tensor_proto.string_val[0])
    assert set(re.findall(r"<(\w+)", page)) == {"p", "pre", "code"}
    assert page.count("<pre>") == 3
    assert page.count("[b](http://c.test) ![d](http://e.test)") == 2


@pytest.mark.parametrize("settings", [{"count": -1}, {"max_new_tokens": 0}])
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="samples"):
        SampleReplies(**settings)


def test_a_run_cut_by_max_steps_logs_its_scores(fit: Fit) -> None:
    """It stops between two validations; one more follows, and what it says belongs to the run."""
    run = fit("--trainer.max_steps=3", "--samples.count=2", "--samples.max_new_tokens=4")
    record = json.loads((run / "run.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        (logged,) = [row for row in csv.DictReader(file) if row.get("sample_rougeL")]
    for name in ("sample_rougeL", "sample_bleu", "val_loss"):
        assert record["last"][name] == record["best"][name] == pytest.approx(float(logged[name]))
    assert {"train_loss", "tokens_seen", "lr-AdamW"} <= record["last"].keys()
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"sample_rougeL", "sample_bleu", "val_loss"} <= set(events.Tags()["scalars"])
    assert len(written(run)) == 2
