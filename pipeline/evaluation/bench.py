"""Where and how much a benchmark trains, and the grid of schedules that all its methods are measured by.

Grids are trained on seeds of their own: those of the runs that methods are judged on choose nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.engines import Engine
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.run_cache import compute, facts
from pipeline.evaluation.splits import Task
from pipeline.evaluation.trial import Run

SCHEDULES = ("constant", "step", "exponential", "cosine", "onecycle", "warmup_cosine", "linear", "wsd")
HALF_DECADES = tuple(float(f"{m}e{e}") for e in range(-5, 2) for m in (1, 3))  # 1e-5, 3e-5, ... 3e1
HIGHEST = {"adam": 0.3, "adamw": 0.3, "sgd": 10.0}  # of the grid; a textbook grid for SGD reaches further up
TUNING = 1000  # the first of the seeds that choose


@dataclass(frozen=True)
class Bench:
    """Where and how much is trained."""

    tasks: Sequence[Task]
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


def grid(optimizer: str) -> list[Scheduled]:
    """The tuned grid: every schedule from every initial (highest) learning rate."""
    return schedules("grid", [lr for lr in HALF_DECADES if lr <= HIGHEST[optimizer]])


def schedules(kind: str, rates: Sequence[float]) -> list[Scheduled]:
    """Every schedule from each of these initial learning rates."""
    return [Scheduled(kind, name, schedule=name, lr0=lr) for name in SCHEDULES for lr in rates]


def train_grid(bench: Bench) -> pd.DataFrame:
    """The grids of all tasks, on the seeds that choose."""
    optimizer = bench.facts().optimizer
    seeds = range(TUNING, TUNING + bench.tuning_seeds)
    return bench.compute([r for t in bench.tasks for r in bench.runs(grid(optimizer[t.name]), t, seeds)], "grid")


def with_facts(rows: pd.DataFrame, bench: Bench) -> pd.DataFrame:
    """The rows with what is known of their tasks."""
    return rows.join(bench.facts().drop(columns="split"), "task", validate="m:1")


def name_of(bench: Bench) -> str:
    """Hash of what is judged, on what: figures of equal names compare."""
    known = bench.facts()
    fixed = {
        "tasks": sorted(known.index), "workloads": sorted(known.workload), "seeds": bench.seeds,
        "tuning_seeds": bench.tuning_seeds, "schedules": SCHEDULES, "rates": HALF_DECADES, "highest": HIGHEST,
        "initial": bench.learning_rates,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]
