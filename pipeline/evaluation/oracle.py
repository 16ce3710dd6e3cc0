"""The oracle of a task: the best configuration of its grid, trained again.

The winner of a grid is trained on the seeds that all methods are judged on. These seeds did not choose it, and its
losses can be paired with those of every method (common random numbers).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipeline.evaluation import frozen
from pipeline.evaluation.bench import Bench, with_facts
from pipeline.evaluation.frozen import Winners
from pipeline.evaluation.grid import mean_scores, train_grids
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.regrets import SCORES, add_regret
from pipeline.evaluation.splits import Task
from pipeline.evaluation.trial import Run


def winners(tuned: pd.DataFrame, known: pd.DataFrame) -> dict[str, Winners]:
    """For each task and score the configuration of its grid that is best on average over the seeds that choose."""
    best: dict[str, dict[str, Scheduled]] = {task: {} for task in tuned.task.unique()}
    for score in SCORES.values():
        for task, name, lr0 in mean_scores(tuned, known, score).groupby("task").idxmin():
            best[task][score] = Scheduled("oracle", score, schedule=name, lr0=lr0)
    return {**best}


def oracles(bench: Bench, *, grids: bool = False) -> tuple[pd.DataFrame, list[Run]]:
    """The grids that were trained, and the runs of all winners on the judged seeds.

    A task whose oracle is frozen needs no grid. With `grids` it has one, and a message if the two disagree.
    """
    known = frozen.oracles(bench.tasks)
    tuned = train_grids(bench, [task for task in bench.tasks if grids or task.name not in known])
    best = winners(tuned, bench.facts()) if len(tuned) else {}
    for task in best.keys() & known.keys():
        if best[task] != known[task]:
            print(f"benchmark: the grid of {task} has other winners than oracles.json, which count; "
                  "`python -m benchmarks.spread` writes it anew", flush=True)  # fmt: skip
    return tuned, _runs(bench, best | known)


def _runs(bench: Bench, best: Mapping[str, Winners]) -> list[Run]:
    return [run for task in bench.tasks for run in bench.runs(best[task.name].values(), task)]


def against_oracle(bench: Bench) -> tuple[pd.DataFrame, dict[Task, Winners]]:
    """The grids of all tasks with regrets against their own winners, ignoring frozen ones; and these winners."""
    tuned = train_grids(bench, bench.tasks)
    best = winners(tuned, bench.facts())
    rows = pd.concat([tuned, bench.compute(_runs(bench, best), "oracle")], ignore_index=True)
    return add_regret(with_facts(rows, bench)), {task: best[task.name] for task in bench.tasks}
