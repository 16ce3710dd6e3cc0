"""artifacts/evaluation.parquet and plots/train.csv, arranged for the report's tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.verdict import NAMES, POLICY

# Columns of the table of tasks; the baselines come as the best of them.
TASK_COLUMNS = (
    POLICY, "policy_val", "rival.calibrated", "rival.finder_steepest", "rival.finder_tenth",
    "control.random_init", "control.state_blind", "control.mean_lr",
)  # fmt: skip
SHOWN_TASKS = 6  # whose learning-rate curves are drawn


def load(path: Any) -> pd.DataFrame:
    """The evaluation's rows with the column `group`, which spells a method as metrics/evaluate.json does."""
    rows = pd.read_parquet(path)
    return rows.assign(group=np.where(rows.kind == "policy", rows.method, rows.kind + "." + rows.method))


def blind_rates(rows: pd.DataFrame, rates: Sequence[float]) -> pd.DataFrame:
    """Without the baselines' runs from other initial learning rates than `rates`: what the means are made of."""
    return rows[rows.lr0.isna() | rows.lr0.isin(rates)]


def by_task(rows: pd.DataFrame, best_baseline: str) -> pd.DataFrame:
    """Mean regret (tasks, methods) of `TASK_COLUMNS` and one baseline, sorted by family, the policy's worst last."""
    wanted = [*TASK_COLUMNS[:2], best_baseline, *TASK_COLUMNS[2:]]
    table = rows[rows.group.isin(wanted)].pivot_table(index=["family", "task"], columns="group", values="regret")
    table = table[[c for c in wanted if c in table]].reset_index()
    return table.sort_values(["family", POLICY, "task"], ignore_index=True)


@dataclass(frozen=True)
class Outcome:
    """What a method's runs came to."""

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
    """One per method."""
    return {str(group): _outcome(str(group), part) for group, part in rows.groupby("group", sort=True)}


def _outcome(group: str, part: pd.DataFrame) -> Outcome:
    diverged = ~np.isfinite(part.test_loss)
    steps = part.steps_to_target.fillna(part.n_steps)
    return Outcome(
        group, len(part), float(diverged.mean()), float(part.error_gap.median()),
        float(np.median(part.val_loss.fillna(np.inf))), float(part.steps_to_target.notna().mean()),
        float((steps / part.n_steps).mean()), float((steps / part.steps_per_epoch).mean()), float(part.seconds.mean()),
    )  # fmt: skip


@dataclass(frozen=True)
class TaskCurves:
    """Learning rates over progress, evenly spaced points, of one task."""

    task: str
    optimizer: str
    regret: float  # of the policy
    policy: np.ndarray  # (seeds, points)
    oracle: np.ndarray  # (points,) of the best schedule of the grid
    oracle_name: str
    linear: np.ndarray  # (points,) of the best linear decay
    linear_name: str


def task_curves(rows: pd.DataFrame) -> list[TaskCurves]:
    """Tasks from the policy's best to its worst, evenly spaced in rank."""
    ranked = rows[rows.group == POLICY].groupby("task").regret.mean().sort_values(kind="stable")
    where = np.unique(np.linspace(0, len(ranked) - 1, min(SHOWN_TASKS, len(ranked))).round().astype(int))
    return [_curves(rows[rows.task == task], float(ranked[task])) for task in ranked.index[where]]


def _curves(part: pd.DataFrame, regret: float) -> TaskCurves:
    baselines = part[part.kind == "baseline"]
    oracle, linear = _winner(baselines), _winner(baselines[baselines.method == "linear"])
    first = part.iloc[0]
    return TaskCurves(
        first.task, first.optimizer, regret, np.stack(part[part.group == POLICY].lr_curve.to_list()),
        np.asarray(oracle.lr_curve), f"{NAMES[oracle.group]}, {oracle.lr0:g}", np.asarray(linear.lr_curve),
        f"{linear.lr0:g}",
    )  # fmt: skip


def _winner(baselines: pd.DataFrame) -> pd.Series:
    """A run of the (schedule, initial rate) with the lowest mean regret."""
    method, lr0 = baselines.groupby(["method", "lr0"]).regret.mean().idxmin()
    return baselines[(baselines.method == method) & (baselines.lr0 == lr0)].iloc[0]


def sensitivity(rows: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, float]]:
    """By optimizer: mean regret (initial rates, schedules), and the policy's mean."""
    out = {}
    for optimizer, part in rows.groupby("optimizer", sort=True):
        base = part[part.kind == "baseline"].pivot_table(index="lr0", columns="group", values="regret")
        out[str(optimizer)] = base, float(part[part.group == POLICY].regret.mean())
    return out
