"""The benchmark: tasks, methods, and one job = one method (or a slice of the grid) on one task.

All methods of a task share initialisations and batches (common random numbers): run `seed` starts from the same
weights and meets the same batches whatever drives its learning rate. Every step counts, those of a probe too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrpilot import load_policy
from lrpilot.features import NAMES
from lrpilot.pilot import Pilot, Protocol
from pipeline.schedules import multipliers
from pipeline.simulate import Act, Recording, follow, follow_policy, hold_level, simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.registry import family

SCHEDULES = ("constant", "step", "exponential", "cosine", "onecycle", "warmup_cosine", "linear")
HALF_DECADES = tuple(float(f"{m}e{e}") for e in range(-5, 2) for m in (1, 3))  # 1e-5, 3e-5, ... 3e1
HIGHEST = {"adam": 0.1, "adamw": 0.1, "sgd": 3.0}  # of the grid; a textbook grid for SGD reaches further up
MILESTONES = 20  # evenly spaced points of a run at which its validation loss is noted
VAL_EXAMPLES = 64
CURVE_POINTS = 100  # of a learning-rate curve, evenly spaced in progress
MEMBERS = 64  # of one population of grid runs


@dataclass(frozen=True)
class Task:
    """A workload by name and seed; `sample` makes it."""

    split: str
    family: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.seed}"

    def sample(self) -> Workload:
        return family(self.family).sample(np.random.default_rng(self.seed))


@dataclass(frozen=True)
class Method:
    """What drives the learning rate: a schedule from an initial rate, or a rule inside the decision process."""

    kind: str  # "baseline", "rival", "control", "policy"
    name: str
    lr0: float | None = None  # of a schedule
    policy: str | None = None  # path of a bundle
    validation: bool = False  # shows the validation loss to the policy


@dataclass(frozen=True)
class Job:
    """Methods of one task that run in one population: all schedules, or one other method."""

    task: Task
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    device: str
    curves: tuple[tuple[str, tuple[float, ...]], ...] = ()  # log10 LR by optimizer, for the method "mean_lr"


def grid(optimizer: str, asked: Sequence[float]) -> list[Method]:
    """The tuned grid: every schedule from every initial (peak) learning rate, those `asked` for included."""
    rates = sorted({lr for lr in HALF_DECADES if lr <= HIGHEST[optimizer]} | set(asked))
    return [Method("baseline", name, lr) for name in SCHEDULES for lr in rates]


def run(job: Job) -> pd.DataFrame:
    """Train the runs of a job; one row per (method, seed)."""
    workload = job.task.sample()
    start = time.perf_counter()
    record = _follow(job, workload) if job.methods[0].lr0 is not None or job.curves else _drive(job, workload)
    seconds = (time.perf_counter() - start) / (len(job.methods) * len(job.seeds))
    return _rows(job, workload, record, seconds)


def _milestones(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n, MILESTONES + 1).round().astype(int)[1:])


def _follow(job: Job, workload: Workload) -> Recording:
    """Schedules, and the replayed mean curve, at their learning rates (N, methods x seeds)."""
    n, curves = workload.n_steps, dict(job.curves)
    if curves:
        x = np.linspace(0, 1, CURVE_POINTS)
        columns = [10 ** np.interp((np.arange(n) + 0.5) / n, x, curves[workload.optimizer])]
    else:
        columns = [m.lr0 * multipliers(m.name, n) for m in job.methods if m.lr0 is not None]
    rates = np.repeat(np.stack(columns, axis=1), len(job.seeds), axis=1)
    seeds = list(job.seeds) * len(job.methods)
    return follow(workload, seeds, rates, val_examples=VAL_EXAMPLES, milestones=_milestones(n), device=job.device)


def _drive(job: Job, workload: Workload) -> Recording:
    (method,) = job.methods
    if method.policy is None:
        protocol, act = Protocol(), RULES[method.name]()
    else:
        bundle = load_policy(method.policy)
        protocol, act = bundle.protocol, follow_policy(bundle)
    return simulate(
        workload, job.seeds, protocol, act, val_examples=VAL_EXAMPLES, test=True,
        show_validation=method.validation, milestones=_milestones(workload.n_steps), device=job.device,
    )  # fmt: skip


def _steepest(pilot: Pilot) -> np.ndarray:
    return pilot.anchor + pilot.protocol.action.below_blowup + pilot.observer.probe[:, _PROBE["steepest"]]


def _tenth(pilot: Pilot) -> np.ndarray:
    return pilot.anchor + pilot.protocol.action.below_blowup - 1.0


_PROBE = {"steepest": [n for n in NAMES if n.startswith("probe")].index("probe_steepest")}


def random_network(seed: int, hidden: Sequence[int] = (128, 128)) -> Callable[[np.ndarray], np.ndarray]:
    """A policy network that was never trained (He-normal weights, tanh output)."""
    rng = np.random.default_rng(seed)
    sizes = (len(NAMES), *hidden, 1)
    weights = [rng.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in itertools.pairwise(sizes)]

    def policy(x: np.ndarray) -> np.ndarray:
        for w in weights[:-1]:
            x = np.maximum(x @ w, 0)
        return np.tanh(x @ weights[-1])[:, 0]

    return policy


RULES: dict[str, Callable[[], Act]] = {
    "finder_steepest": partial(hold_level, _steepest),  # the range test's steepest descent, then linear decay
    "finder_tenth": partial(hold_level, _tenth),  # a tenth of its blow-up, then linear decay
    "random_init": lambda: follow_policy(random_network(0)),
}


def _rows(job: Job, workload: Workload, record: Recording, seconds: float) -> pd.DataFrame:
    seeds, k = len(job.seeds), len(job.methods) * len(job.seeds)
    points = _milestones(workload.n_steps)
    assert record.curve is not None and record.lr_curve is not None
    where = np.clip((np.linspace(0, 1, CURVE_POINTS) * workload.n_steps).astype(int), 0, workload.n_steps - 1)
    columns: dict[str, Any] = {
        "split": job.task.split, "family": job.task.family, "task": job.task.name,
        "workload": workload.name, "optimizer": workload.optimizer, "n_steps": workload.n_steps,
        "probe_steps": 0 if record.probe is None else record.probe[0].shape[1],
        "steps_per_epoch": workload.steps_per_epoch, "baseline_loss": workload.baseline_loss,
        "kind": np.repeat([m.kind for m in job.methods], seeds),
        "method": np.repeat([m.name for m in job.methods], seeds),
        "lr0": np.repeat([np.nan if m.lr0 is None else m.lr0 for m in job.methods], seeds),
        "seed": list(job.seeds) * len(job.methods),
        "val_loss": record.val_loss[-1], "val_error": record.val_error[-1],
        "test_loss": record.test_loss, "test_error": record.test_error,
        "milestones": [points.tolist()] * k, "val_curve": record.curve.T.tolist(),
        "lr_curve": record.lr_curve[where].T.tolist(), "seconds": seconds,
    }  # fmt: skip
    return pd.DataFrame(columns)


def initial_losses(task: Task, seeds: Sequence[int], device: str) -> dict[str, Any]:
    """What the plan needs to know of a task before anything is trained: optimizer, and test loss at the start."""
    from pipeline.workloads.population import Population

    workload = task.sample()
    loss, _ = Population(workload, seeds, device).score(workload.test)
    return {
        "optimizer": workload.optimizer, "workload": workload.name,
        "initial_loss": float(min(np.mean(loss), workload.baseline_loss)),
    }  # fmt: skip


def exists(path: Path) -> str:
    """`path` as a string, for a `Method`; FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy; run the export stage first")
    return str(path)
