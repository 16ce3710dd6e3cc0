"""Figures of a method's runs besides regret, computed once for metrics/evaluate.json and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation import stats

JUDGED = ("policy", "baseline", "textbook", "rival", "control")


def with_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """The evaluation's rows with the column `group`, the name of a method in metrics/evaluate.json."""
    return rows.assign(group=np.where(rows.kind == "policy", rows.method, rows.kind + "." + rows.method))


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs of methods that compete, without those of grids and oracles, with their groups."""
    return with_groups(rows.query("kind in @JUDGED"))


def regimes(rows: pd.DataFrame) -> dict[str, str]:
    """The regime of every task."""
    return {str(task): str(regime) for task, regime in zip(rows.task, rows.regime, strict=True)}


def weights(tasks: Iterable[str], rows: pd.DataFrame, shares: Mapping[str, float]) -> np.ndarray:
    """Weights (tasks,) of these tasks of the rows, from the shares of their regimes."""
    of_task = regimes(rows)
    return stats.regime_weights([of_task[task] for task in tasks], shares)


@dataclass(frozen=True)
class Outcome:
    """Figures of a method's runs."""

    group: str
    runs: int
    diverged: float  # share of the runs
    error_gap: float  # median error rate over the oracle's, test data; nan where no task has an error rate
    val_loss: float  # median, final; a run that diverged counts as infinite
    reached: float  # share of the runs that came within a tenth of the oracle's gain
    steps: float  # mean share of the training's steps until then; a run that never did counts with all of its steps
    epochs: float  # the same, in epochs
    seconds: float  # mean per run


def outcomes(rows: pd.DataFrame) -> dict[str, Outcome]:
    """One outcome per group of the rows."""
    return {str(group): _outcome(str(group), part) for group, part in rows.groupby("group", sort=True)}


def _outcome(group: str, part: pd.DataFrame) -> Outcome:
    diverged = ~np.isfinite(part.test_loss)
    # Leaving out the runs that never get there would flatter bad methods.
    steps = part.steps_to_target.fillna(part.n_steps)
    return Outcome(
        group, len(part), float(diverged.mean()), float(part.error_gap.median()),
        float(np.median(part.val_loss.fillna(np.inf))), float(part.steps_to_target.notna().mean()),
        float((steps / part.n_steps).mean()), float((steps / part.steps_per_epoch).mean()), float(part.seconds.mean()),
    )  # fmt: skip
