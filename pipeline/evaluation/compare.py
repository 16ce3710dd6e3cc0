"""The benchmark: schedules, rivals, controls and policies next to the oracle, all on the same tasks and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lrpilot import digests
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.evaluation import oracle
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.policies import ABLATIONS, Learned, Ruled
from pipeline.evaluation.methods.schedules import Replayed, Scheduled
from pipeline.evaluation.oracle import oracles
from pipeline.evaluation.rivals import CALIBRATED

BASELINES = ("constant", "step", "exponential", "cosine")  # of the experiment plan: docs/original-experiment.md


def compare(bench: Benchmark, methods: Sequence[Method], *, grids: bool = False) -> pd.DataFrame:
    """Run all methods, schedules, the oracles of every score, and the replay of the policy's mean curve; one row per
    run.

    Rows include the facts of their task, and regrets. With `grids`, the grids of tasks with a frozen oracle are also
    trained and returned.
    """
    known = bench.facts()
    tuned, first = oracles(bench, grids=grids)
    asked = [*schedules("baseline", bench.learning_rates), *methods]
    default = calibrated()
    for task in bench.tasks:
        of_task = known.loc[task.name]
        untuned = textbook(str(of_task.default_schedule), float(of_task.default_rate))
        first += bench.runs([*asked, default[str(of_task.optimizer)], *untuned], task)
    rows = bench.compute(first, "compare")
    curves = mean_curves(
        rows[(rows.kind == "policy") & (rows.method == "policy")].join(known[["optimizer", "n_steps"]], "task")
    )
    second = [r for t in bench.tasks for r in bench.runs([curves[known.optimizer[t.name]]], t)]
    parts = [rows, bench.compute(second, "replay"), tuned]
    return bench.with_regrets(pd.concat([part for part in parts if len(part)], ignore_index=True))


def schedules(kind: str, rates: Sequence[float]) -> list[Scheduled]:
    """The baselines from each of these initial learning rates."""
    return [Scheduled(kind, name, schedule=name, lr0=rate) for name in BASELINES for rate in rates]


def textbook(schedule: str, rate: float) -> list[Scheduled]:
    """The task's default, which a person would type for it, and other schedules from the same rate."""
    default = Scheduled("textbook", "default", schedule=schedule, lr0=rate)
    return [default, Scheduled("textbook", "wsd", schedule="wsd", lr0=rate), *schedules("textbook", [rate])]


def name_of(bench: Benchmark) -> str:
    """Hash of what is judged, on which tasks, and with which weights. Only figures with an equal hash are
    comparable.
    """
    known = bench.facts()
    won = oracle.frozen_winners(bench.tasks)
    fixed = {
        "tasks": sorted(known.index), "workloads": sorted(known.workload), "seeds": bench.seeds,
        "shares": dict(bench.shares), "oracles": {task: repr([*won[task].items()]) for task in sorted(won)},
        "tuning_seeds": bench.tuning_seeds, "schedules": oracle.SCHEDULES, "rates": oracle.HALF_DECADES,
        "highest": oracle.HIGHEST, "near": oracle.NEAR, "initial": bench.learning_rates,
    }  # fmt: skip
    return digests.of_json(fixed)[:16]


def contenders(policy: Path, blind: Path) -> list[Method]:
    """The policy by default and with the validation loss, its controls, and the LR finders, which need no rate.

    By default, as in a loop over a DataLoader, it knows the training loss and the size of the data. Raises
    FileNotFoundError if there is no policy.
    """
    learned = existing(policy)
    return [
        Learned("policy", "policy", learned, epochs=True),
        Learned("policy", "policy_val", learned, epochs=True, validation=True),
        *(Learned("control", name, learned, epochs=True, ablation=name) for name in ABLATIONS),
        Ruled("control", "random_init", rule="random_init"),
        Learned("control", "state_blind", existing(blind)),
        Ruled("rival", "finder_steepest", rule="finder_steepest"),
        Ruled("rival", "finder_tenth", rule="finder_tenth"),
    ]


def existing(path: Path) -> str:
    """`path` as a string, for a method. Raises FileNotFoundError if there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy; run the export stage first")
    return str(path)


def calibrated() -> dict[str, Scheduled]:
    """For each optimizer the frozen schedule and rate that is best on average over tasks of the training families.

    An optimizer that the file does not name uses Adam's.
    """
    chosen = json.loads(CALIBRATED.read_text(encoding="utf-8"))
    return {o: Scheduled("rival", "calibrated", **chosen.get(o, chosen["adam"])) for o in OPTIMIZERS}


def mean_curves(rows: pd.DataFrame) -> dict[str, Replayed]:
    """For each optimizer the replay of the policy's learning rate, the geometric mean over its runs.

    A probe is rolled back, so its rates do not count. Those that follow it are stretched over the whole training.
    """
    curves: dict[str, list[np.ndarray]] = {}
    for optimizer, probed, curve in zip(rows.optimizer, rows.probe_steps / rows.n_steps, rows.lr_curve, strict=True):
        log_lr = np.log10(np.maximum(np.asarray(curve), 1e-12))
        last = len(log_lr) - 1
        points = np.linspace(np.ceil(probed * last), last, len(log_lr))
        curves.setdefault(str(optimizer), []).append(np.interp(points, np.arange(len(log_lr)), log_lr))
    return {
        optimizer: Replayed("control", "mean_lr", curve=tuple(np.mean(of_runs, axis=0).tolist()))
        for optimizer, of_runs in curves.items()
    }
