"""The oracle of a task: the best configuration of a grid of schedules and rates, trained again.

The grid is thinned. The cosine is trained from every rate. The other schedules are trained only near the rates at which
the cosine does well, since no schedule does well where the cosine gains little. Grids are trained on seeds of their
own. The winner is trained on the seeds that all methods are judged on. These seeds did not choose it, and its losses
can be paired with those of every method (common random numbers).

A grid costs as much as everything else on a task, and its winner does not change. So `benchmarks.spread` stores the
winners of the frozen tasks in oracles.json, by score, and `dvc repro` trains only these. An entry is valid as long as
the task's entry in splits.json is the one that its grid was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.aggregates import SCORES, start_of
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.runs import Run
from pipeline.evaluation.splits import Task, entry

ORACLES = Path(__file__).with_name("oracles.json")
FIRST = "cosine"  # the schedule that is trained from every rate
SCHEDULES = ("constant", "step", "exponential", FIRST, "onecycle", "warmup_cosine", "linear", "wsd")
HALF_DECADES = tuple(float(f"{m}e{e}") for e in range(-5, 2) for m in (1, 3))  # 1e-5, 3e-5, ... 3e1
HIGHEST = {  # rate of the grid; a textbook grid for SGD reaches further up
    "adam": 0.3, "adamw": 0.3, "sgd": 10.0, "rmsprop": 0.3, "nadam": 0.3, "adagrad": 3.0, "lion": 0.1,
}  # fmt: skip
NEAR = 0.1  # regret of the cosine, against its own best, up to which a rate is worth trying with other schedules
TUNING = 1000  # the first of the seeds that choose
Winners = Mapping[str, Scheduled]  # by score


def rates(optimizer: str) -> list[float]:
    """Initial (highest) learning rates of the grid."""
    return [rate for rate in HALF_DECADES if rate <= HIGHEST[optimizer]]


def train_grids(bench: Benchmark, tasks: Sequence[Task], schedules: Sequence[str] | None = None) -> pd.DataFrame:
    """The thinned grids of these tasks, on the seeds that choose the winner; FIRST is one of the schedules,
    which are those of `SCHEDULES` by default."""
    known, seeds = bench.facts(), range(TUNING, TUNING + bench.tuning_seeds)
    every = {task: rates(known.optimizer[task.name]) for task in tasks}
    first = [run for task in tasks for run in bench.runs(of_grid([FIRST], every[task]), task, seeds)]
    if not first:
        return pd.DataFrame()
    cosines = bench.compute(first, "grid")
    near = promising(cosines, known)
    others = [name for name in schedules or SCHEDULES if name != FIRST]
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


def whole_grid(rows: pd.DataFrame) -> pd.DataFrame:
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


def winners(tuned: pd.DataFrame, known: pd.DataFrame) -> dict[str, Winners]:
    """For each task and score the configuration of its grid that is best on average over the seeds that choose."""
    best: dict[str, dict[str, Scheduled]] = {task: {} for task in tuned.task.unique()}
    for score in SCORES.values():
        for task, name, lr0 in mean_scores(tuned, known, score).groupby("task").idxmin():
            best[task][score] = Scheduled("oracle", score, schedule=name, lr0=lr0)
    return {**best}


def oracles(bench: Benchmark, *, grids: bool = False) -> tuple[pd.DataFrame, list[Run]]:
    """The grids that were trained, and the runs of all winners on the judged seeds.

    A task whose oracle is frozen needs no grid. With `grids` it has one, and a message if the two disagree.
    """
    known = frozen_winners(bench.tasks)
    tuned = train_grids(bench, [task for task in bench.tasks if grids or task.name not in known])
    best = winners(tuned, bench.facts()) if len(tuned) else {}
    for task in best.keys() & known.keys():
        if best[task] != known[task]:
            print(f"benchmark: the grid of {task} has other winners than oracles.json, which count; "
                  "`python -m benchmarks.spread` writes it anew", flush=True)  # fmt: skip
    return tuned, _runs(bench, best | known)


def _runs(bench: Benchmark, best: Mapping[str, Winners]) -> list[Run]:
    return [run for task in bench.tasks for run in bench.runs(best[task.name].values(), task)]


def against_oracle(bench: Benchmark) -> tuple[pd.DataFrame, dict[Task, Winners]]:
    """The grids of all tasks with regrets against their own winners, ignoring frozen ones; and these winners."""
    tuned = train_grids(bench, bench.tasks)
    best = winners(tuned, bench.facts())
    rows = pd.concat([tuned, bench.compute(_runs(bench, best), "oracle")], ignore_index=True)
    return bench.with_regrets(rows), {task: best[task.name] for task in bench.tasks}


def frozen_winners(tasks: Iterable[Task]) -> dict[str, Winners]:
    """By name the winners of those tasks that the file has."""
    known = json.loads(ORACLES.read_text(encoding="utf-8"))
    return {
        task.name: {score: Scheduled("oracle", score, **won) for score, won in known[task.name]["winners"].items()}
        for task in tasks
        if task.name in known and known[task.name]["task"] == _digest(task)
    }


def freeze(winners: Mapping[Task, Winners]) -> None:
    """Put these winners into the file, except for tasks that splits.json lacks; those of other tasks stay."""
    before = json.loads(ORACLES.read_text(encoding="utf-8")) if ORACLES.exists() else {}
    content = before | {
        task.name: {
            "task": _digest(task),
            "winners": {score: {"schedule": won.schedule, "lr0": won.lr0} for score, won in of_task.items()},
        }
        for task, of_task in winners.items()
        if _digest(task) is not None
    }
    ORACLES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def changed_winners(winners: Mapping[Task, Winners]) -> list[str]:
    """The names of the tasks for which the file has other winners."""
    known = frozen_winners(winners)
    return [task.name for task, of_task in winners.items() if known.get(task.name, of_task) != of_task]


def _digest(task: Task) -> str | None:
    """Hash of a task's entry in splits.json; None if it has none."""
    said = entry(task)
    return None if said is None else hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def random_search(val_loss: ArrayLike, regret: ArrayLike, trials: int) -> NDArray[np.float64]:
    """Expected regret (...,) of the best of `trials` configurations, drawn at random and chosen by `val_loss`.

    Both are (..., configurations). A validation loss that is not finite comes last, and no configuration is drawn
    twice. The expectation is exact: the i-th best of n is the best of a draw with probability
    C(n - i, trials - 1) / C(n, trials). Bergstra & Bengio 2012 made the case for drawing at random.

    Raises ValueError unless 1 <= trials <= configurations, and for regrets that are not finite.
    """
    loss, regret = np.broadcast_arrays(np.asarray(val_loss, float), np.asarray(regret, float))
    n = loss.shape[-1]
    if not 1 <= trials <= n:
        raise ValueError(f"random_search, trials: {trials}, want 1 to {n}, the number of configurations")
    if not np.isfinite(regret).all():
        raise ValueError("random_search, regret: some are not finite; a diverged training counts as 1")
    order = np.argsort(np.where(np.isfinite(loss), loss, np.inf), axis=-1, kind="stable")
    # P(best is the i-th) = P(first i-1 are not drawn, the i-th is), by the chain rule: no factorials, no overflow.
    left = n - np.arange(n)
    drawn = trials / left
    missed = np.append(1.0, np.cumprod(np.maximum(1 - drawn, 0.0))[:-1])
    return np.take_along_axis(regret, order, axis=-1) @ (missed * np.minimum(drawn, 1.0))
