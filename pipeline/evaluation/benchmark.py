"""What a benchmark trains and where, how much each of its tasks counts, and its runs, none of which is trained twice.

These runs train together as one population: those with known rates; those of policies with the same decision process;
all seeds of a rule inside it; and the rivals. All others train one by one. Only this process writes to the cache, as
results arrive, so a kill loses only the trainings in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.engines import Engine, EngineError, progress
from pipeline.evaluation.aggregates import add_regret
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.runs import Run, execute, facts_key, task_facts
from pipeline.evaluation.splits import Task, entry
from pipeline.result_cache import through

MEMBERS = 64  # of one population
WEIGHTS = 2**23  # of all its members, about: more of them take memory, and no less time


@dataclass(frozen=True)
class Benchmark:
    """The tasks, seeds, weights and processes of a benchmark."""

    tasks: Sequence[Task]
    shares: Mapping[str, float]  # by regime: how much its tasks count, together
    seeds: int  # that methods are judged on
    tuning_seeds: int
    learning_rates: Sequence[float]  # initial ones of the baselines
    workers: Engine
    cache: Path
    device: str = "cpu"

    def runs(self, methods: Iterable[Method], task: Task, seeds: Iterable[int] | None = None) -> list[Run]:
        judged = range(self.seeds) if seeds is None else seeds
        return [Run(task, method, seed, self.device) for method in methods for seed in judged]

    def compute(self, runs: Sequence[Run], what: str) -> pd.DataFrame:
        """A row for every run, in their order: its results, and what it was (split, task, kind, method, lr0, seed).

        Raises EngineError if a training cannot be run. Trainings that finished before it are cached.
        """
        train = partial(_train, workers=self.workers, what=what)
        results = through(self.cache, {run: run.key() for run in runs}, train)
        return pd.DataFrame([run.columns() | results[run] for run in runs]).astype({"lr0": float})

    def facts(self) -> pd.DataFrame:
        """The result of `task_facts` for each task, by its name."""
        keys = {task: facts_key(task, self.seeds, self.device) for task in self.tasks}

        def measure(tasks: Sequence[Task]) -> Iterator[dict[Task, dict[str, Any]]]:
            return ({task: task_facts(task, range(self.seeds), self.device)} for task in tasks)

        measured = through(self.cache, keys, measure)
        return pd.DataFrame(list(measured.values())).set_index("task")

    def with_regrets(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with the facts of their tasks as columns, and those of `add_regret`."""
        return add_regret(rows.join(self.facts().drop(columns="split"), "task", validate="m:1"))


def _train(runs: Sequence[Run], workers: Engine, what: str) -> Iterator[dict[Run, dict[str, Any]]]:
    outcomes = workers.imap_unordered(execute, batches(runs))
    for outcome in progress(outcomes, len(runs), what, lambda outcome: len(outcome.item), "runs"):
        if outcome.failure is not None:
            run = outcome.item[0]
            raise EngineError(
                f"{what}: {run.task.name}, {run.method.name}: {outcome.failure.message}"
            ) from outcome.failure.error
        yield dict(zip(outcome.item, outcome.result, strict=True))


def batches(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs that train together, the longest trainings first, so that no worker is left with a long one at the end."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.together(), []).append(run)
    parts = [tuple(part) for group in groups.values() for part in _parts(group)]
    length = _steps(run.task for run in runs)
    return sorted(parts, key=lambda part: -length(part[0].task))


def _parts(runs: Sequence[Run]) -> list[Sequence[Run]]:
    """Runs of one task in populations of a bearable size."""
    said = entry(runs[0].task)
    members = MEMBERS if said is None else min(MEMBERS, max(1, WEIGHTS // said["parameters"]))
    return [runs[i : i + members] for i in range(0, len(runs), members)]


def _steps(tasks: Iterable[Task]) -> Callable[[Task], int]:
    """The number of steps of a task's trainings. For frozen tasks it is known without drawing them."""
    known = {task: entry(task) for task in dict.fromkeys(tasks)}
    steps = {task: said["n_steps"] if said else task.sample().n_steps for task, said in known.items()}
    return steps.__getitem__
