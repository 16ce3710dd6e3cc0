"""Trainings of a benchmark, each kept under the hash of what decides it: what was trained once is not trained again.

Those whose rates are known beforehand train together, a population at a time, and so do those that policies of one
decision process drive, all seeds of a rule inside it, and the rivals; the rest one by one. This process alone writes,
as results come: a kill costs what is in training.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import diskcache
import pandas as pd

from pipeline.engines import Engine, EngineError, progress
from pipeline.evaluation.splits import Task
from pipeline.evaluation.trial import Run, about, execute, untrained

MEMBERS = 64  # of one population


def compute(runs: Sequence[Run], workers: Engine, folder: Path, what: str) -> pd.DataFrame:
    """A row for every run, in their order: what came of it, and what it was (split, task, kind, method, lr0, seed).

    Raises EngineError where a training cannot be run; those before it are kept.
    """
    with kept(folder) as cache:
        keys = [run.key() for run in runs]
        found = {key: cache.get(key) for key in dict.fromkeys(keys)}
        missing = {key: run for key, run in zip(keys, runs, strict=True) if found[key] is None}
        key_of = {run: key for key, run in missing.items()}
        work = batches([*missing.values()])
        outcomes = workers.imap_unordered(execute, work)
        for outcome in progress(outcomes, len(missing), what, lambda outcome: len(outcome.item), "runs"):
            if outcome.failure is not None:
                first = outcome.item[0]
                raise EngineError(
                    f"{what}: {first.task.name}, {first.method.name}: {outcome.failure.message}"
                ) from outcome.failure.error
            with cache.transact():
                for run, row in zip(outcome.item, outcome.result, strict=True):
                    found[key_of[run]] = cache[key_of[run]] = row
    named = [
        {"split": run.task.split, "task": run.task.name, "kind": run.method.kind, "method": run.method.name,
         "lr0": run.method.lr0, "seed": run.seed} | found[key]
        for key, run in zip(keys, runs, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(named).astype({"lr0": float})


def facts(tasks: Iterable[Task], seeds: int, device: str, folder: Path) -> pd.DataFrame:
    """What `trial.about` says of each task, by its name."""
    with kept(folder) as cache:
        rows = []
        for task in tasks:
            key = untrained(task, seeds, device)
            if (row := cache.get(key)) is None:
                row = cache[key] = about(task, range(seeds), device)
            rows.append(row)
    return pd.DataFrame(rows).set_index("task")


def kept(folder: Path) -> diskcache.Cache:
    """What was trained or measured once, by its key; nothing is ever dropped."""
    return diskcache.Cache(str(folder), eviction_policy="none", size_limit=2**40)


def batches(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """What trains together, the longest trainings' first, so that no worker is left alone with one at the end."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        method = run.method
        alone = (method, run.seed) if method.alone() else ()
        groups.setdefault((run.task, run.device, *method.together(), *alone), []).append(run)
    parts = [tuple(group[i : i + MEMBERS]) for group in groups.values() for i in range(0, len(group), MEMBERS)]
    length = _steps(run.task for run in runs)
    return sorted(parts, key=lambda part: -length(part[0].task))


def _steps(tasks: Iterable[Task]) -> Callable[[Task], int]:
    """How many steps a task's trainings have."""
    steps = {task: task.sample().n_steps for task in dict.fromkeys(tasks)}
    return steps.__getitem__
