"""Trainings of one task from the rate that a policy names, and from rates beside it, under several envelopes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.policy.trial_levels import named
from lrpilot.decisions.actions import ActionEquation
from pipeline.evaluation.methods.method import VAL_EXAMPLES, milestones
from pipeline.evaluation.splits import Task
from pipeline.simulation.follow import follow

OFF = (-0.5, -0.25, 0.0, 0.25)  # decades from the policy's rate
ENVELOPES = {  # shares of the steps: in which the rate climbs to its level, and in which it falls to 0
    "linear decay": (0.0, 1.0),
    "warm-up of 5 %, then linear decay": (0.05, 0.95),
    "decay in the last 80 %": (0.0, 0.8),
    "decay in the last half": (0.0, 0.5),
    "decay in the last fifth": (0.0, 0.2),
    "warm-up of 2 %, decay in the last half": (0.02, 0.5),
    "warm-up of 5 %, decay in the last 80 %": (0.05, 0.8),
    "warm-up of 5 %, decay in the last half": (0.05, 0.5),
    "warm-up of 5 %, decay in the last fifth": (0.05, 0.2),
    "warm-up of 10 %, decay in the last half": (0.1, 0.5),
}


def envelope(n: int, warm: float, decay: float) -> np.ndarray:
    """Factors (n,) on the rates of the steps: a linear climb, a level, a linear decay to 0."""
    falls = np.array([ActionEquation(decay=decay).envelope(step, n) for step in range(n)])
    return np.minimum(falls, (np.arange(n) + 0.5) / (warm * n)) if warm else falls


def train(task: Task, policy: str, seeds: int) -> tuple[Task, Mapping[str, np.ndarray]]:
    """The task, and for each of ENVELOPES the test losses (OFF, seeds) of its trainings. All train side by side."""
    workload = task.sample()
    n = workload.n_steps
    rates = named(workload, policy, seeds) * 10.0 ** np.array(OFF)[:, None]  # (OFF, seeds)
    tables = [envelope(n, *shares)[:, None] * rates.ravel() for shares in ENVELOPES.values()]
    each = np.tile(np.arange(seeds), len(OFF) * len(ENVELOPES)).tolist()
    record = follow(
        workload, each, np.concatenate(tables, axis=1), val_examples=VAL_EXAMPLES, milestones=milestones(n),
        device="cpu",
    )  # fmt: skip
    assert record.test_loss is not None
    return task, dict(zip(ENVELOPES, record.test_loss.reshape(len(ENVELOPES), *rates.shape), strict=True))
