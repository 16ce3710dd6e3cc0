"""artifacts/evaluation.parquet and plots/train.csv, arranged for the report's tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.aggregates import labels, regimes, with_groups
from pipeline.reporting.result_keys import POLICY
from pipeline.reporting.scores import CALIBRATED, HOLD, REGIMES, TEXTBOOK, TEXTBOOK_WSD, VALIDATED

# Columns of the table of tasks.
TASK_COLUMNS = (
    POLICY, VALIDATED, CALIBRATED, TEXTBOOK, TEXTBOOK_WSD, HOLD, "control.no_loss", "control.mean_lr",
    "control.state_blind", "control.random_init", "rival.finder_tenth", "rival.finder_steepest",
)  # fmt: skip
SHOWN_TASKS = 6  # whose learning-rate curves are drawn
SHOWN_OF_REGIME = 4  # the same, where a page shows regimes one by one


def load(path: Any) -> pd.DataFrame:
    """The evaluation's rows, with their groups."""
    return with_groups(pd.read_parquet(path))


def by_task(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean regret (tasks, methods) of `TASK_COLUMNS`, with the tasks' labels and regimes; the policy's worst task
    first.
    """
    table = rows[rows.group.isin(TASK_COLUMNS)].pivot_table(index="task", columns="group", values="regret")
    table = table[[c for c in TASK_COLUMNS if c in table]].reset_index()
    table.insert(0, "label", table.task.map(labels(rows)))
    table.insert(1, "regime", table.task.map(regimes(rows)).map(REGIMES))
    return table.sort_values([POLICY, "task"], ascending=[False, True], ignore_index=True)


@dataclass(frozen=True)
class TaskCurves:
    """Learning rates of one task at evenly spaced points of progress."""

    label: str  # of the task
    regret: float  # of the policy
    policy: np.ndarray  # (seeds, points)
    oracle: np.ndarray  # (points,) of the best schedule of the grid
    textbook: np.ndarray  # (points,) of the textbook default


def task_curves(rows: pd.DataFrame, most: int = SHOWN_TASKS) -> list[TaskCurves]:
    """At most so many tasks from the policy's best to its worst, evenly spaced in rank."""
    ranked = rows[rows.group == POLICY].groupby("task").regret.mean().sort_values(kind="stable")
    where = np.unique(np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int))
    label, out = labels(rows), list[TaskCurves]()
    for task in ranked.index[where]:
        curves = rows[rows.task == task].groupby("group").lr_curve.apply(lambda of: np.stack(of.to_list()))
        oracle, textbook = curves["oracle.test_loss"][0], curves[TEXTBOOK][0]
        out.append(TaskCurves(label[task], float(ranked[task]), curves[POLICY], oracle, textbook))
    return out


def sensitivity(schedules: pd.DataFrame, rows: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, float]]:
    """For each optimizer mean regrets, with equal weights for all tasks: of the runs `schedules` (initial rates,
    schedules), and of the policy.
    """
    out, policy = {}, rows[rows.group == POLICY]
    for optimizer, part in schedules.groupby("optimizer", sort=True):
        table = part.pivot_table(index="lr0", columns="method", values="regret")
        mean = float(policy.regret[policy.optimizer == optimizer].mean())
        out[str(optimizer)] = table.add_prefix("baseline."), mean
    return out


def by_family(rows: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Mean regret (families, groups), the policy's worst family first."""
    table = rows[rows.group.isin(groups)].pivot_table(index="family", columns="group", values="regret")
    return table.loc[:, [g for g in groups if g in table]].sort_values(POLICY, ascending=False)


def profiles(rows: pd.DataFrame, groups: Sequence[str], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """For each group the share of (task, seed, initial rate) whose regret is at most each of the thresholds.

    Performance profiles: Dolan & More 2002; Agarwal et al. 2021, arXiv:2108.13264, section 4.2.
    """
    return {
        group: (rows[rows.group == group].regret.to_numpy()[:, None] <= thresholds).mean(axis=0) for group in groups
    }
