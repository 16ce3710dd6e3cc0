"""artifacts/evaluation.parquet and plots/train.csv, arranged for the report's tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import labels
from pipeline.evaluation.aggregates import with_groups
from pipeline.reporting.result_keys import POLICY
from pipeline.reporting.scores import CALIBRATED, HOLD, NAMES, TEXTBOOK, VALIDATED

# Columns of the table of tasks.
TASK_COLUMNS = (
    POLICY, VALIDATED, CALIBRATED, TEXTBOOK, HOLD, "control.no_loss", "control.mean_lr", "control.state_blind",
    "control.random_init", "rival.finder_tenth", "rival.finder_steepest",
)  # fmt: skip
SHOWN_TASKS = 6  # whose learning-rate curves are drawn


def load(path: Any) -> pd.DataFrame:
    """The evaluation's rows, with their groups."""
    return with_groups(pd.read_parquet(path))


def by_task(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean regret (tasks, methods) of `TASK_COLUMNS`, with the tasks' labels; the policy's worst task first."""
    table = rows[rows.group.isin(TASK_COLUMNS)].pivot_table(index="task", columns="group", values="regret")
    table = table[[c for c in TASK_COLUMNS if c in table]].reset_index()
    table.insert(0, "label", table.task.map(labels.of_runs(rows)))
    return table.sort_values([POLICY, "task"], ascending=[False, True], ignore_index=True)


@dataclass(frozen=True)
class TaskCurves:
    """Learning rates over progress, evenly spaced points, of one task."""

    label: str  # of the task
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
    label = labels.of_runs(rows)
    return [_curves(rows.loc[rows.task == task], label[task], float(ranked[task])) for task in ranked.index[where]]


def _curves(part: pd.DataFrame, label: str, regret: float) -> TaskCurves:
    grid = part.loc[part.kind == "grid"]
    oracle, linear = _winner(grid), _winner(grid.loc[grid.method == "linear"])
    name = NAMES[f"baseline.{oracle.method}"]
    return TaskCurves(
        label, regret, np.stack(part[part.group == POLICY].lr_curve.to_list()),
        np.asarray(oracle.lr_curve), f"{name}, {oracle.lr0:g}", np.asarray(linear.lr_curve), f"{linear.lr0:g}",
    )  # fmt: skip


def _winner(grid: pd.DataFrame) -> pd.Series:
    """A run of the (schedule, initial rate) with the lowest mean regret."""
    method, lr0 = grid.groupby(["method", "lr0"]).regret.mean().idxmin()
    return grid[(grid.method == method) & (grid.lr0 == lr0)].iloc[0]


def sensitivity(rows: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, float]]:
    """By optimizer: mean regret of the grid (initial rates, schedules), and the policy's mean."""
    out = {}
    for optimizer, part in rows.groupby("optimizer", sort=True):
        grid = part[part.kind == "grid"].pivot_table(index="lr0", columns="method", values="regret")
        out[str(optimizer)] = grid.add_prefix("baseline."), float(part[part.group == POLICY].regret.mean())
    return out


def by_family(rows: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Mean regret (families, groups), the policy's worst family first."""
    table = rows[rows.group.isin(groups)].pivot_table(index="family", columns="group", values="regret")
    return table.loc[:, [g for g in groups if g in table]].sort_values(POLICY, ascending=False)


def profiles(rows: pd.DataFrame, groups: Sequence[str], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """By group the share of (task, seed, initial rate) whose regret is at most each of the thresholds.

    Performance profiles: Dolan & More 2002; Agarwal et al. 2021, arXiv:2108.13264, section 4.2.
    """
    return {
        group: (rows[rows.group == group].regret.to_numpy()[:, None] <= thresholds).mean(axis=0) for group in groups
    }
