"""Regrets of a benchmark's runs against the oracle, and the steps until they come near it."""

from __future__ import annotations

from collections.abc import Iterable

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
