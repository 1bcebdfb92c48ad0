"""What a sweep is: recipes, the keys that vary, the seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tuner.errors import UserError
from tuner.runs import NAME

Setting = dict[str, str]  # a value for each key that varies, as on the command line


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a search draws a number from.

    Attributes:
        low: the least value.
        high: the largest value; whole numbers are drawn where both ends are whole.
        log: whether each factor, not each difference, is as likely as any other.
        step: distance of the values from each other; any value when null.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A sweep.

    Attributes:
        config: the recipes, as after `--config` of `fit`.
        options: further options of `fit`, the same in every trial, as on the command line.
        over: what varies: by key its values, or the range that a search draws it from.
        seeds: `seed_everything` of the runs of each setting.
        trials: how many settings a search tries; null for a grid of all values.
        pruner: class of `optuna.pruners` and its settings; null for none.
        compare: how many of the best settings answer the test split at the end.
        evaluation: options of `eval.py` for that.
    """

    config: tuple[str, ...]
    options: tuple[str, ...] = ()
    over: Mapping[str, tuple[str, ...] | Range]
    seeds: tuple[int, ...] = (42,)
    trials: int | None = None
    pruner: tuple[str, Mapping[str, Any]] | None = None
    compare: int = 1
    evaluation: tuple[str, ...] = ()

    def grid(self) -> list[Setting]:
        """All settings of a grid, the last key changing fastest; none for a search."""
        if self.trials is not None:
            return []
        values = [v for v in self.over.values() if not isinstance(v, Range)]
        return [dict(zip(self.over, chosen, strict=True)) for chosen in product(*values)]

    def samples(self) -> list[Setting]:
        """Settings in which every value and every end of a range occurs."""
        if self.trials is None:
            return self.grid()
        ends = {
            key: (json.dumps(of.low), json.dumps(of.high)) if isinstance(of, Range) else of
            for key, of in self.over.items()
        }
        longest = max(map(len, ends.values()))
        return [{k: v[min(n, len(v) - 1)] for k, v in ends.items()} for n in range(longest)]

    def names(self) -> list[str]:
        """What the settings are called: after their values, where that is clear."""
        if self.trials is None:
            named = list(map(_name, self.grid()))
            if "" not in named and len({name.lower() for name in named}) == len(named):
                return named
        return [f"setting-{number:03}" for number in range(self.trials or len(self.grid()))]

    def arguments(self, setting: Setting) -> list[str]:
        """The command line of `fit` for a setting."""
        recipes = [f"--config={file}" for file in self.config]
        varied = [f"--{key}={value}" for key, value in setting.items()]
        # A bar that is drawn anew all the time is of no use in a file.
        return ["fit", *recipes, "--trainer.enable_progress_bar=false", *self.options, *varied]

    def described(self) -> dict[str, Any]:
        """What makes two sweeps the same one, as plain data; the recipes by their content.

        Raises:
            UserError: a recipe cannot be read.
        """
        try:
            files = {
                file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in self.config
            }
        except OSError as error:
            raise UserError(f"config: cannot read {error.filename}: {error.strerror}") from error
        plain = asdict(self) | {"config": files}
        kept = {key: plain[key] for key in plain if key not in ("compare", "evaluation")}
        return json.loads(json.dumps(kept))


def brief(value: object) -> str:
    """A value as it is shown: of a number that was drawn four digits."""
    text = str(value)
    try:
        return text if len(text) < 9 else f"{float(text):.4g}"
    except ValueError:
        return text


def _name(setting: Setting) -> str:
    said = "_".join(f"{key.rsplit('.', 1)[-1]}-{value}" for key, value in setting.items())
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", said).strip("-")
    return plain if NAME.fullmatch(plain) else ""
