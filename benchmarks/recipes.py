"""Every recipe of configs/recipes on a small base: what it trains, learns and costs.

    python benchmarks/recipes.py --data Dolly=FILE Bitext=FILE MedQuAD=FILE TwitterSupport=FILE
    python benchmarks/recipes.py pico --steps 40 --again --data Dolly=FILE MedQuAD=FILE

Runs the commands in the head of each recipe, `fit` and then each `eval.py`, in processes of their
own and writes benchmarks/results/recipes/NAME.json; then `python benchmarks/tables.py`. What has a
result is not run again unless `--again` says so. A source without FILE is read from the hub.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from measure import RESULTS, ROOT, run, write

RECIPES = ROOT / "configs" / "recipes"
METRICS = ("nll", "rouge1", "rougeL", "bleu")
COUNTED = ("trainable_params", "trainable_percent", "quantize", "head", "steps", "examples_seen")
COST = ("training_seconds", "peak_memory_mib")
SAID = re.compile(r"^#   python (\S+) (.*)$", re.M)


def published(recipe: Path) -> str:
    """Figures that others gave for the experiment, as the head of the recipe has them."""
    found = re.search(r"^# Published: (.+)\.$", recipe.read_text(encoding="utf-8"), re.M)
    return found[1] if found else ""


def commands(recipe: Path, script: str) -> list[list[str]]:
    """The options of each command in the head of a recipe that calls the script."""
    lines = SAID.findall(recipe.read_text(encoding="utf-8"))
    return [shlex.split(options) for called, options in lines if called == script]


def data_options(source: Any, files: dict[str, str], rows: int | None = None) -> list[str]:
    """Options of `fit` that give a recipe's source its local files.

    Args:
        source: `data.source` of the recipe: a class name, or class_path and init_args.
        files: a local file by the name of the class that reads it.
        rows: most examples of a published set; shipped sets are small.
    """
    name, settings = _parts(source)
    given: list[str] = []
    if name == "Mixture":
        parts = [_parts(part) for part in settings["sources"]]
        with_files = [
            {"class_path": one, "init_args": own | ({"path": files[one]} if one in files else {})}
            for one, own in parts
        ]
        given += ["--data.source.sources", json.dumps(with_files)]
    elif name in files:
        given += ["--data.source.path", files[name]]
    if rows is not None and name != "Conversations":
        given += ["--data.source.limit", str(min(rows, settings.get("limit", rows)))]
    return given


def _parts(source: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(source, str):
        return source, {}
    return source["class_path"], source.get("init_args", {})


def fit_options(
    recipe: Path, base: str, files: dict[str, str], rows: int | None, steps: int
) -> list[str]:
    """Options of `fit` for a recipe on another base, with local files and limits."""
    source = yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]["source"]
    given = ["--config", str(recipe.relative_to(ROOT)), "--model.base", base]
    given += data_options(source, files, rows)
    return [*given, "--trainer.max_steps", str(steps), "--samples.count", "0"]


def shown(words: list[str], files: dict[str, str]) -> str:
    """A command as one would type it beside the files: no folder of this machine is in it."""
    for file in files.values():
        words = [word.replace(file, Path(file).name) for word in words]
    return shlex.join(["python", *words])


def with_file(options: list[str], files: dict[str, str], folder: Path) -> list[str]:
    """The options of `eval.py`, its `--data` YAML with the local file in it."""
    if "--data" not in options:
        return options
    place = options.index("--data") + 1
    content = yaml.safe_load((ROOT / options[place]).read_text(encoding="utf-8"))
    source = content["data"]["source"]
    if source["class_path"] not in files:
        return options
    source.setdefault("init_args", {})["path"] = files[source["class_path"]]
    overlay = folder / "data.yaml"
    overlay.write_text(yaml.safe_dump(content), encoding="utf-8")
    return [*options[:place], str(overlay), *options[place + 1 :]]


def figures(results: dict[str, Any], name: str) -> dict[str, Any]:
    """What the table needs of a results.json: test set, values and intervals of base and run."""
    test_set = results["test_set"]
    found: dict[str, Any] = {
        "n": test_set["n"],
        "sha256": test_set["sha256"],
        "source": test_set["source"].split(" (")[0],  # its place is left out
    }
    for key, system in (("base", "base"), ("tuned", name)):
        one = results["systems"][system]
        found[key] = {m: {"value": one["metrics"][m], "ci95": one["ci95"][m]} for m in METRICS}
    return found


def evaluations(
    recipe: Path, files: dict[str, str], folder: Path, limits: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Each comparison of the recipe's head; its own number of rows stays what it is."""
    for place, options in enumerate(commands(recipe, "eval.py")):
        given = list(options)
        if not {"--limit", "--suite"} & set(options):
            given += ["--limit", str(limits.test_rows)]
        given += ["--max_new_tokens", str(limits.new_tokens)]
        output = folder / f"compared-{place}"
        hidden = ["--logs", str(folder), "--output", str(output)]
        run("eval.py", *with_file(given, files, folder), *hidden)
        results = json.loads((output / "results.json").read_text(encoding="utf-8"))
        yield {"command": shown(["eval.py", *given], files), **figures(results, recipe.stem)}


def result(recipe: Path, files: dict[str, str], limits: argparse.Namespace) -> dict[str, Any]:
    """Run a recipe and its comparisons.

    Returns:
        The result without the machine; see `measure.write`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = fit_options(recipe, limits.base, files, limits.rows, limits.steps)
        run("train.py", "fit", *options, "--trainer.default_root_dir", str(folder))
        (home,) = (folder / recipe.stem).glob("version_*")
        record, card = (
            json.loads((home / name).read_text(encoding="utf-8"))
            for name in ("run.json", "data_card.json")
        )
        return {
            "command": shown(["train.py", "fit", *options], files),
            "base": limits.base,
            **{key: record[key] for key in (*COUNTED, *COST)},
            "val_loss": record["best"]["val_loss"],
            "precision": record["hardware"]["precision"],
            "source": card["source"]["name"],
            "rows_read": card["rows_in"],
            "rows": {split: part["rows"] for split, part in card["splits"].items()},
            "evaluations": list(evaluations(recipe, files, folder, limits)),
        }


def main() -> None:
    """Run what has no result, print and write."""
    every = {recipe.stem: recipe for recipe in sorted(RECIPES.glob("*.yaml"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", help="all when none is named")
    parser.add_argument("--data", nargs="+", default=[], metavar="CLASS=FILE")
    parser.add_argument("--base", default="pico")
    parser.add_argument("--rows", type=int, default=2000, help="most examples of a published set")
    parser.add_argument("--steps", type=int, default=250, help="most optimiser steps")
    parser.add_argument("--test_rows", type=int, default=200, help="most rows of a test split")
    parser.add_argument("--new_tokens", type=int, default=96, help="tokens a reply at most")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    limits = parser.parse_args()
    if unknown := set(limits.recipes) - every.keys():
        parser.error(f"no such recipe: {', '.join(unknown)}")
    files: dict[str, str] = dict(entry.split("=", 1) for entry in limits.data)
    (RESULTS / "recipes").mkdir(exist_ok=True)
    for name in limits.recipes or every:
        if limits.again or not (RESULTS / "recipes" / f"{name}.json").is_file():
            found = result(every[name], files, limits)
            write(f"recipes/{name}", found)
            print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
