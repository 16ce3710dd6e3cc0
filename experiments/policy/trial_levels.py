"""Trainings of one task from the rate that a policy names, and from rates beside it: short ones, whole ones, and whole
ones that make up for the steps of the short ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lrpilot.actions import reference
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.splits import Task
from pipeline.simulation.simulate import kind_of
from pipeline.workloads.base import Workload

OFF = (-0.5, 0.0, 0.5)  # decades from the policy's rate
SHARES = (0.05, 0.1)  # of the steps, that one short training takes
LEAST = 10  # steps of a short training


def train(task: Task, policy: str, seeds: int) -> tuple[Task, Mapping[str, np.ndarray]]:
    """The task, and the losses (OFF, seeds) of its trainings: `full`, and `trial` and `shorter` of each of SHARES."""
    workload = task.sample()
    rates = named(workload, policy, seeds) * 10.0 ** np.array(OFF)[:, None]
    out = {"full": losses(workload, rates, workload.n_steps)[1]}
    for share in SHARES:
        steps = max(LEAST, round(share * workload.n_steps))
        out[f"trial.{share:g}"] = losses(workload, rates, steps)[0]
        out[f"shorter.{share:g}"] = losses(workload, rates, workload.n_steps - (len(OFF) - 1) * steps)[1]
    return task, out


def named(workload: Workload, policy: str, seeds: int) -> np.ndarray:
    """The rates (seeds,) that the policy names after its probe, before the envelope."""
    held = Learned("control", "hold", policy, epochs=True, ablation="hold")
    record = Learned.train([held] * seeds, range(seeds), workload, "cpu")
    return 10.0 ** (reference(kind_of(workload)) + record.levels[0])


def losses(workload: Workload, rates: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Final validation and test losses (OFF, seeds) of trainings from these rates (OFF, seeds), under linear decay."""
    methods = [Scheduled("trial", "linear", schedule="linear", lr0=float(rate)) for rate in rates.ravel()]
    seeds = np.tile(np.arange(rates.shape[1]), len(rates)).tolist()
    record = Scheduled.train(methods, seeds, replace(workload, n_steps=steps), "cpu")
    assert record.test_loss is not None
    return record.val_loss[-1].reshape(rates.shape), record.test_loss.reshape(rates.shape)
