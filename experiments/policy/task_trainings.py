"""What experiments share that train whole tasks of a split: results by task, cached, and their regrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import spread
from lrpilot import load_policy
from pipeline import code_hash
from pipeline.engines import engine, progress, results
from pipeline.evaluation import aggregates, stats
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import existing
from pipeline.evaluation.oracle import oracles
from pipeline.evaluation.splits import Task
from pipeline.paths import DEFAULT_MODEL
from pipeline.result_cache import policy_key, through
from pipeline.workloads.families import family

SPLIT, SEEDS = "selection", 3

Losses = Mapping[str, np.ndarray]  # test losses (levels, seeds) of each way to train


def measure(
    quick: bool, trainings: ModuleType, regrets: Callable[[Benchmark, Mapping[Task, Losses]], pd.DataFrame], what: str
) -> dict[str, Any]:
    """All figures of an experiment, flat: means of the columns of `regrets`, which has `task` and `regime`, too.

    `trainings` has `train(task, policy, seeds)`, which returns the task and its losses.
    """
    every, policy = spread.bench(SPLIT, quick), existing(DEFAULT_MODEL / "policy.onnx")
    bench = replace(every, seeds=min(every.seeds, SEEDS))
    rows = regrets(bench, trained(bench, policy, trainings, what))
    fixed = {"quick": quick, "seeds": bench.seeds, "policy": load_policy("default").manifest.graph}
    return fixed | {"tasks": int(rows.task.nunique())} | means(rows, bench.shares)


def trained(measured: Benchmark, policy: str, trainings: ModuleType, what: str) -> dict[Task, Losses]:
    """The losses of each task, which the code of `trainings` and a policy decide. Tasks that the cache lacks are
    trained, and cached as they end.
    """

    def compute(missing: Sequence[Task]) -> Iterator[dict[Task, Losses]]:
        train = partial(trainings.train, policy=policy, seeds=measured.seeds)
        outcomes = results(engine("local"), train, missing)
        for task, losses in progress(outcomes, len(missing), what, lambda _: 1.0, "tasks"):
            yield {task: losses}

    def key(task: Task) -> str:
        code = code_hash.digest(trainings.__name__, family(task.family).module)
        content = [asdict(task), policy_key(policy), measured.seeds, code, torch.__version__]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    return through(measured.cache, {task: key(task) for task in measured.tasks}, compute)


def regrets(measured: Benchmark, outcomes: Mapping[Task, Losses]) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Name, regime and regrets of each task. Tasks on which no tuned training improves are left out."""
    _, runs = oracles(measured)
    tuned = measured.with_regrets(measured.compute(runs, "oracle"))
    known, best = measured.facts(), dict(zip(tuned.task, tuned.oracle_loss, strict=True))
    for task, of_task in outcomes.items():
        if (name := task.name) in best:
            oracle, start = float(best[name]), float(known.initial_loss[name])
            regret = {way: stats.normalised_regret(loss, oracle, start) for way, loss in of_task.items()}
            yield name, str(known.regime[name]), regret


def means(rows: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, float]:
    """Means over tasks of all columns but `task` and `regime`, as <group>.<column>: of all tasks, weighted by the
    shares of their regimes, and of each regime.
    """
    names = [str(name) for name in rows.columns if name not in ("task", "regime")]
    of_task = aggregates.regimes(rows)
    table: Any = rows.groupby("task")[names].mean()
    regime = np.array([of_task[str(task)] for task in table.index])
    groups = {"all": aggregates.weights(table.index, rows, shares) @ table.to_numpy()}
    groups |= {str(name): table.to_numpy()[regime == name].mean(axis=0) for name in np.unique(regime)}
    return {
        f"{group}.{name}": float(v) for group, values in groups.items() for name, v in zip(names, values, strict=True)
    }
