"""Time of `eval.py` beyond the models: everything but generation and likelihood.

    python benchmarks/evaluation.py [--rows 1000] [--turns 3]

A base and two tuned runs on pico answer the test rows, beside the two systems without training that
a comparison has by default. What a model would compute is made up, at once: replies of 60 to 100
words, the likelihood of references and general text, and waiting times. All else is the command as
it is, from the start of its process to its end. Writes benchmarks/results/evaluation.json; then
`python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from measure import measured, run, write
from rows import Words, write_rows

RUNS = ("first", "second")


def make_runs(folder: Path, rows: int) -> None:
    """Fit two runs for one step on a set with that many test rows."""
    write_rows(folder / "rows.jsonl", 2 * rows, 90, 150)
    options = ["--model.base=pico", "--data.source=Conversations", "--trainer.max_steps=1"]
    options += [f"--data.source.path={folder}/rows.jsonl", f"--data.test_size={rows}"]
    options += ["--data.val_size=0", "--samples.count=0", f"--data.cache_dir={folder}/cache"]
    for name in RUNS:
        where = [f"--trainer.default_root_dir={folder}/logs", f"--name={name}"]
        run("train.py", "fit", *options, *where)


def made_up(seconds: dict[str, float]) -> None:
    """Let `eval.py` make up what models would compute, and take the time of its other parts."""
    from tuner.evaluation import answer, compare
    from tuner.generate import Reply

    words = Words(seed=1)

    def generate(model: Any, headers: Sequence[Any], **options: Any) -> list[Reply]:
        texts = [" ".join(words.text(60, 100)) + "." for _ in headers]
        replies = [Reply(text, "eos", 2 * text.count(" "), 0.1) for text in texts]
        for place, reply in enumerate(replies):
            options.get("each_reply", lambda *_: None)(place, reply)
        return replies

    def nats(rows: Sequence[Any]) -> list[tuple[float, int]]:
        return [(words.draw.uniform(100, 300), 100) for _ in rows]

    answer.generate = generate
    answer.row_nats = lambda model, rows, **options: nats(rows)
    answer.text_nll = lambda model, tokenizer, texts, size: nats(texts)
    waited = dict.fromkeys(("p50", "p95", "first_token_p50", "first_token_p95"), 0.1)
    waited |= {"prompts": 8, "batch_size": 1, "max_new_tokens": 64, "new_tokens_per_second": 100.0}
    answer.measure_latency = lambda model, headers, **options: waited

    def timed(name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            found = part(*args, **kwargs)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
            return found

        return call

    compare.answer = timed("models loaded, prompts encoded", compare.answer)
    compare.score = timed("scores", compare.score)
    compare.build_results = timed("statistics", compare.build_results)
    compare.write_predictions = timed("files and reports", compare.write_predictions)
    compare.write_reports = timed("files and reports", compare.write_reports)


def compared(arguments: list[str]) -> dict[str, Any]:
    """Run `eval.py` in this process; seconds of its parts and counts."""
    began = time.perf_counter()
    gc.disable()  # as `tuner.process.start` does
    command = import_module("tuner.tools.compare")
    gc.freeze()
    gc.enable()
    seconds = {"imports": time.perf_counter() - began}
    made_up(seconds)
    sys.argv = ["eval.py", *arguments]
    if code := command.main(arguments):
        raise SystemExit(code)
    seconds["data and the rest"] = time.perf_counter() - began - sum(seconds.values())
    output = Path(arguments[arguments.index("--output") + 1])
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return {
        "parts": {name: round(taken, 2) for name, taken in seconds.items()},
        "rows": results["test_set"]["n"],
        "systems": len(results["systems"]),
        "metrics": len(results["metric_info"]),
        "comparisons": len(results["comparisons"]),
        "slices": len({(one["slice"], one["value"]) for one in results["slices"]})
        + len({one["category"] for one in results["categories"]}),
        "resamples": results["resampling"]["resamples"],
    }


def measure(folder: Path, *options: str) -> dict[str, Any]:
    """One comparison in a process of its own."""
    where = ["--logs", f"{folder}/logs", "--output", f"{folder}/output"]
    return measured(__file__, "--compare", *options, *where)


def main() -> None:
    """Measure, print and write."""
    if sys.argv[1:2] == ["--compare"]:
        print(json.dumps(compared(sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), options.rows)
        for _ in range(options.turns):
            turns.append(measure(Path(folder), *RUNS))
            print(turns[-1], flush=True)
    write("evaluation", {"turns": turns})
    print(statistics.median(turn["seconds"] for turn in turns))


if __name__ == "__main__":
    main()
