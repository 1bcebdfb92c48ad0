"""How far results move from one training seed to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.evaluation.estimate import Estimates


def spread(
    recipes: Mapping[str, str], estimates: Estimates, systems: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Summarises the runs of each recipe, which differ in their seed alone.

    This is another uncertainty than that of the test set, and no interval covers both
    (Clark et al. 2011, https://aclanthology.org/P11-2031).

    Args:
        recipes: recipe of each run; empty for one that stands for itself.
        estimates: values of all systems.
        systems: their names, in the order of the estimates.

    Returns:
        By recipe: `runs`, and under `metrics` by key `mean`, `sd` (of a sample; null for one run),
        `min` and `max` over the runs.
    """
    found: dict[str, dict[str, Any]] = {}
    for recipe in dict.fromkeys(filter(None, recipes.values())):
        runs = [run for run, own in recipes.items() if own == recipe]
        columns = [systems.index(run) for run in runs]
        metrics: dict[str, dict[str, float | None]] = {}
        for key, values in estimates.values.items():
            own = values[columns]
            if np.isfinite(own).all():
                metrics[key] = {
                    "mean": float(own.mean()),
                    "sd": float(own.std(ddof=1)) if len(own) > 1 else None,
                    "min": float(own.min()),
                    "max": float(own.max()),
                }
        found[recipe] = {"runs": runs, "metrics": metrics}
    return found


def mean_interval(values: Sequence[float]) -> list[float] | None:
    """The 95 % interval of a mean over training seeds, by Student's t.

    It supposes that results of other seeds scatter around the mean like a normal distribution.

    Args:
        values: one a seed.

    Returns:
        Both ends; null where no two values differ: they say nothing of other seeds.
    """
    if len(set(values)) < 2:
        return None
    from scipy import stats

    error = np.std(values, ddof=1) / np.sqrt(len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1) * error)
    mean = float(np.mean(values))
    return [mean - reach, mean + reach]
