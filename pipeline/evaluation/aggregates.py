"""Regrets of a benchmark's runs against the oracle, and figures of a method's runs besides, computed once for
metrics/evaluate.json and the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation import stats

TARGET = 0.1  # steps to target: share of the oracle's gain that may still be missing
SCORES = {  # column of normalised regret -> what of
    "regret": "test_loss",  # at the end
    "best_regret": "best_loss",  # of the milestone with the lowest validation loss
    "error_regret": "test_error",
    "best_error_regret": "best_error",
}
ROOM = 0.02  # of an error rate, between untrained and oracle: below, its regret is noise
HOPELESS = "no tuned training improves on its start"  # why a task has no regret


def start_of(score: str) -> str:
    """The column that holds a score's value before training."""
    return "initial_error" if score.endswith("error") else "initial_loss"


def add_regret(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the regrets of `SCORES`, the difference of the error rate to the oracle's, and steps and epochs to target.

    A task on which no tuned training improves has no room for regret and is left out, with a message.
    """
    parts = []
    for name, part in rows.groupby("task", sort=True):
        oracle = {score: _oracle(part, score) for score in SCORES.values()}
        if not oracle["test_loss"] < part.initial_loss.iloc[0]:
            print(f"benchmark: {name} left out: {HOPELESS}", flush=True)
            continue
        of_oracle = part[(part.kind == "oracle") & (part.method == "test_loss")]
        target = of_oracle.val_loss.mean()
        target += TARGET * (part.initial_loss.iloc[0] - target)
        reached = stats.steps_to_threshold(part.milestones.iloc[0], np.stack(part.val_curve.to_list()), target)
        regrets = {column: _regret(part, score, oracle[score]) for column, score in SCORES.items()}
        parts.append(part.assign(
            oracle_loss=oracle["test_loss"], **regrets, steps_to_target=reached,
            epochs_to_target=reached / part.steps_per_epoch, error_gap=part.test_error - oracle["test_error"],
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def left_out(tasks: Iterable[str], rows: pd.DataFrame) -> dict[str, str]:
    """Which of these tasks `add_regret` left out of the rows, and why."""
    return {task: HOPELESS for task in tasks if task not in set(rows.task)}


def _oracle(part: pd.DataFrame, score: str) -> float:
    """Mean score of the tuned winner, nan if there is none. A run that ended above its initial loss counts as its
    initial loss.
    """
    winner = part.query("kind == 'oracle' and method == @score")
    return float(np.fmin(winner[score], winner[start_of(score)]).mean())


def _regret(part: pd.DataFrame, score: str, oracle: float) -> np.ndarray:
    """Regrets of one score; nan if an error rate leaves no room."""
    start = part[start_of(score)]
    if score.endswith("error") and not start.iloc[0] - oracle > ROOM:
        return np.full(len(part), np.nan)
    return stats.normalised_regret(part[score], oracle, start)


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


def labels(rows: pd.DataFrame) -> dict[str, str]:
    """The label of every task of the rows, which are of one split. The task's name tells equal ones apart."""
    of_task = {str(task): str(label) for task, label in zip(rows.task, rows.label, strict=True)}
    count = Counter(of_task.values())
    return {task: label if count[label] == 1 else f"{label} · {task}" for task, label in of_task.items()}


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
