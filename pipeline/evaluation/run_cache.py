"""Trainings of a benchmark, each cached under the hash of everything that decides it, so none is trained twice.

These train together as one population: runs with known rates; runs of policies with the same decision process; all
seeds of a rule inside it; and the rivals. All others train one by one. Only this process writes, as results arrive, so
a kill loses only the trainings in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import diskcache
import pandas as pd

from pipeline.engines import Engine, EngineError, progress
from pipeline.evaluation.splits import Task, entry
from pipeline.evaluation.trial import Run, execute, facts_key, task_facts

MEMBERS = 64  # of one population

Item = TypeVar("Item", bound=Hashable)


def compute(runs: Sequence[Run], workers: Engine, folder: Path, what: str) -> pd.DataFrame:
    """A row for every run, in their order: its results, and what it was (split, task, kind, method, lr0, seed).

    Raises EngineError if a training cannot be run. Trainings that finished before it are cached.
    """
    results = through(folder, {run: run.key() for run in runs}, partial(_train, workers=workers, what=what))
    return pd.DataFrame([run.columns() | results[run] for run in runs]).astype({"lr0": float})


def _train(runs: Sequence[Run], workers: Engine, what: str) -> Iterator[dict[Run, dict[str, Any]]]:
    outcomes = workers.imap_unordered(execute, batches(runs))
    for outcome in progress(outcomes, len(runs), what, lambda outcome: len(outcome.item), "runs"):
        if outcome.failure is not None:
            run = outcome.item[0]
            raise EngineError(
                f"{what}: {run.task.name}, {run.method.name}: {outcome.failure.message}"
            ) from outcome.failure.error
        yield dict(zip(outcome.item, outcome.result, strict=True))


def facts(tasks: Iterable[Task], seeds: int, device: str, folder: Path) -> pd.DataFrame:
    """The result of `trial.task_facts` for each task, by its name."""

    def measure(tasks: Sequence[Task]) -> Iterator[dict[Task, dict[str, Any]]]:
        for task in tasks:
            yield {task: task_facts(task, range(seeds), device)}

    results = through(folder, {task: facts_key(task, seeds, device) for task in tasks}, measure)
    return pd.DataFrame(list(results.values())).set_index("task")


def through(
    folder: Path, keys: Mapping[Item, Hashable], compute: Callable[[Sequence[Item]], Iterable[Mapping[Item, Any]]]
) -> dict[Item, Any]:
    """For each item the result that `folder` holds under its key. Missing results are computed, and cached as they
    arrive.

    `compute` gets one item for each missing key, and yields results of some of them at a time; none is None.
    """
    with open_cache(folder) as cache:
        results = {key: cache.get(key) for key in dict.fromkeys(keys.values())}
        missing = {key: item for item, key in keys.items() if results[key] is None}
        for part in compute([*missing.values()]) if missing else ():
            with cache.transact():
                for item, result in part.items():
                    results[keys[item]] = cache[keys[item]] = result
    return {item: results[key] for item, key in keys.items()}


def open_cache(folder: Path) -> diskcache.Cache:
    """Results by key. Nothing is ever removed."""
    return diskcache.Cache(str(folder), eviction_policy="none", size_limit=2**40)


def batches(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs that train together, the longest trainings first, so that no worker is left with a long one at the end."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.together(), []).append(run)
    parts = [tuple(group[i : i + MEMBERS]) for group in groups.values() for i in range(0, len(group), MEMBERS)]
    length = _steps(run.task for run in runs)
    return sorted(parts, key=lambda part: -length(part[0].task))


def _steps(tasks: Iterable[Task]) -> Callable[[Task], int]:
    """The number of steps of a task's trainings. For frozen tasks it is known without drawing them."""
    known = {task: entry(task) for task in dict.fromkeys(tasks)}
    steps = {task: said["n_steps"] if said else task.sample().n_steps for task, said in known.items()}
    return steps.__getitem__
