"""What a benchmark trains, where, and how much each of its tasks counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.engines import Engine
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.run_cache import compute, facts
from pipeline.evaluation.splits import Task
from pipeline.evaluation.trial import Run


@dataclass(frozen=True)
class Bench:
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
        return compute(runs, self.workers, self.cache, what)

    def facts(self) -> pd.DataFrame:
        return facts(self.tasks, self.seeds, self.device, self.cache)


def with_facts(rows: pd.DataFrame, bench: Bench) -> pd.DataFrame:
    """The rows with the facts of their tasks as columns."""
    return rows.join(bench.facts().drop(columns="split"), "task", validate="m:1")
