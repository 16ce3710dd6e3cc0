"""The grid of schedules and rates that is tuned for every task. Its best member is the task's oracle.

The grid is thinned. The cosine is trained from every rate. The other schedules are trained only near the rates at which
the cosine does well, since no schedule does well where the cosine gains little. Grids are trained on seeds of their
own; the seeds on which methods are judged choose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.regrets import start_of
from pipeline.evaluation.splits import Task

FIRST = "cosine"  # the schedule that is trained from every rate
SCHEDULES = ("constant", "step", "exponential", FIRST, "onecycle", "warmup_cosine", "linear", "wsd")
HALF_DECADES = tuple(float(f"{m}e{e}") for e in range(-5, 2) for m in (1, 3))  # 1e-5, 3e-5, ... 3e1
HIGHEST = {name: kind.highest for name, kind in OPTIMIZERS.items()}  # rate of the grid
NEAR = 0.1  # regret of the cosine, against its own best, up to which a rate is worth trying with other schedules
TUNING = 1000  # the first of the seeds that choose


def rates(optimizer: str) -> list[float]:
    """Initial (highest) learning rates of the grid."""
    return [rate for rate in HALF_DECADES if rate <= HIGHEST[optimizer]]


def train_grids(bench: Bench, tasks: Sequence[Task]) -> pd.DataFrame:
    """The thinned grids of these tasks, on the seeds that choose the winner."""
    known, seeds = bench.facts(), range(TUNING, TUNING + bench.tuning_seeds)
    every = {task: rates(known.optimizer[task.name]) for task in tasks}
    first = [run for task in tasks for run in bench.runs(of_grid([FIRST], every[task]), task, seeds)]
    if not first:
        return pd.DataFrame()
    cosines = bench.compute(first, "grid")
    near = promising(cosines, known)
    others = [name for name in SCHEDULES if name != FIRST]
    rest = [run for task in tasks for run in bench.runs(of_grid(others, near[task.name]), task, seeds)]
    return pd.concat([cosines, bench.compute(rest, "grid")], ignore_index=True)


def of_grid(names: Sequence[str], rates: Sequence[float]) -> list[Scheduled]:
    """Each of these schedules from each of these rates."""
    return [Scheduled("grid", name, schedule=name, lr0=rate) for name in names for rate in rates]


def promising(cosines: pd.DataFrame, known: pd.DataFrame) -> dict[str, list[float]]:
    """For each task the rates whose mean regret against the best cosine is at most `NEAR`, and their direct
    neighbours.
    """
    means, near = mean_scores(cosines, known, "test_loss"), dict[str, list[float]]()
    for task, of_task in means.groupby("task"):
        by_rate = of_task.sort_index(level="lr0")
        losses, every = by_rate.to_numpy(), by_rate.index.get_level_values("lr0").to_numpy(float)
        span = known.initial_loss[task] - losses.min()
        good = np.flatnonzero(losses - losses.min() <= NEAR * span)
        chosen = {i + step for i in good.tolist() for step in (-1, 0, 1)} & {*range(len(losses))}
        near[str(task)] = every[sorted(chosen)].tolist()
    return near


def mean_scores(tuned: pd.DataFrame, known: pd.DataFrame, score: str) -> pd.Series:
    """Mean score by task, method and lr0 over the seeds that choose. Tasks without that score are left out.

    A run that diverged or ended above its initial loss counts as its initial loss.
    """
    start = tuned.task.map(known[start_of(score)])
    values = tuned.assign(start=start, value=np.fmin(tuned[score], start)).dropna(subset=["start"])
    return values.groupby(["task", "method", "lr0"]).value.mean()


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """The grids among a benchmark's rows, completed: where thinning left a configuration out, the cosine from that rate
    counts.
    """
    grid = rows.query("kind == 'grid'")
    cosines, cells = grid.query("method == @FIRST"), [grid]
    trained = set(zip(grid.task, grid.method, grid.lr0, strict=True))
    for name in sorted(set(grid.method) - {FIRST}):
        lacking = [(task, name, lr0) not in trained for task, lr0 in zip(cosines.task, cosines.lr0, strict=True)]
        cells.append(cosines.loc[lacking].assign(method=name))
    return pd.concat(cells, ignore_index=True)
