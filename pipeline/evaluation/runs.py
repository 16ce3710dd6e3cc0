"""One training of the benchmark: a task, what drives its learning rate, and a seed.

All methods of a task share initialisations and batches (common random numbers): run `seed` starts from the same weights
and sees the same batches whatever drives its learning rate. Every step counts, including those of a probe.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lrpilot import digests
from pipeline import code_hash
from pipeline.evaluation.methods.method import Method, milestones
from pipeline.evaluation.splits import Task
from pipeline.simulation.recorder import Recording
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family
from pipeline.workloads.training.population import Population

CURVE_POINTS = 100  # of a learning-rate curve, evenly spaced in progress


@dataclass(frozen=True)
class Run:
    """One training."""

    task: Task
    method: Method
    seed: int
    device: str = "cpu"

    def key(self) -> str:
        """Identifies everything that decides its result."""
        content = {"method": self.method.content(), "seed": self.seed, "device": self.device}
        return _key(content, self.task, self.method.module, packages=self.method.packages())

    def together(self) -> Hashable:
        """Equal for runs that can train together."""
        alone = (self.seed,) if self.method.alone else ()
        return self.task, self.device, *self.method.together(), *alone

    def columns(self) -> dict[str, Any]:
        """Its properties, as columns of the benchmark's table."""
        return {
            "split": self.task.split, "task": self.task.name, "kind": self.method.kind, "method": self.method.name,
            "lr0": self.method.initial_rate, "seed": self.seed,
        }  # fmt: skip


def _key(content: dict[str, Any], task: Task, *modules: str, packages: tuple[str, ...] = ()) -> str:
    drawn = family(task.family)
    code = code_hash.digest(__name__, *modules, drawn.module, packages=(*packages, *drawn.packages))
    content = content | {"task": asdict(task), "code": code, "torch": torch.__version__}
    return digests.of_json(content)


def execute(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Train runs that are equal in `Run.together`; a row of results for each."""
    workload, first = runs[0].task.sample(), runs[0]
    begin = time.perf_counter()
    record = first.method.train([run.method for run in runs], [run.seed for run in runs], workload, first.device)
    return _rows(workload, record, len(runs), (time.perf_counter() - begin) / len(runs))


def _rows(workload: Workload, record: Recording, runs: int, seconds: float) -> list[dict[str, Any]]:
    points = np.clip((np.linspace(0, 1, CURVE_POINTS) * workload.n_steps).astype(int), 0, workload.n_steps - 1)
    assert record.curve is not None and record.lr_curve is not None
    columns = {
        "val_loss": record.val_loss[-1], "val_error": record.val_error[-1], "test_loss": record.test_loss,
        "test_error": record.test_error, "best_loss": record.best_loss, "best_error": record.best_error,
    }  # fmt: skip
    counts = {"guard_acts": record.guard_acts, "restarts": record.restarts}  # of what a pilot drives
    columns |= {name: np.zeros(runs) if values is None else values for name, values in counts.items()}
    probe = 0 if record.probe is None else record.probe.loss.shape[1]
    return [
        {name: float(values[i]) for name, values in columns.items()}
        | {"val_curve": record.curve[:, i].tolist(), "lr_curve": record.lr_curve[points, i].tolist()}
        | {"probe_steps": probe, "seconds": seconds}
        for i in range(runs)
    ]


def facts_key(task: Task, seeds: int, device: str) -> str:
    """Identifies everything that decides the result of `task_facts`."""
    return _key({"seeds": seeds, "device": device}, task)


def task_facts(task: Task, seeds: Sequence[int], device: str) -> dict[str, Any]:
    """What is known of a task before training: its settings, its textbook default, and its scores at that point.

    Scores are the mean at initialisation, or those of the best constant prediction if these are lower.
    """
    workload, of_task = task.sample(), family(task.family)
    loss, error = Population(workload, seeds, device).score(workload.test)
    y = workload.test.y
    constant = np.nan if workload.error is None else 1 - float(y.flatten().bincount().max()) / y.numel()
    return {
        "split": task.split, "family": task.family, "task": task.name, "workload": workload.name,
        "label": of_task.label(workload), "regime": of_task.regime, "optimizer": workload.optimizer,
        "default_schedule": workload.default[0], "default_rate": workload.default[1], "n_steps": workload.n_steps,
        "steps_per_epoch": workload.steps_per_epoch, "milestones": milestones(workload.n_steps),
        "initial_loss": float(min(np.mean(loss), workload.baseline_loss)),
        "initial_error": float(min(np.mean(error), constant)),
    }  # fmt: skip
