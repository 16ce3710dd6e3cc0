"""Trainings without a pilot: at learning rates that are known in advance, or that the trainings set themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from pipeline.simulation.recorder import Recorder, Recording, Runs
from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import Population


class Driven(Runs, Protocol):
    """K runs, and what sets their learning rates."""

    def rates(self, step: int) -> np.ndarray: ...  # (K,)

    def train_step(self, step: int, lr: np.ndarray) -> Any: ...

    def evaluating(self) -> AbstractContextManager[object]: ...  # in which their weights are those to evaluate

    def validated(self, loss: np.ndarray) -> object: ...  # takes note of validation losses (K,)


def train(workload: Workload, runs: Driven, val_examples: int, milestones: Sequence[int]) -> Recording:
    """Train to the end and test. The validation loss is measured at `milestones`, in completed steps."""
    recorder = Recorder(workload, runs, val_examples, milestones)
    for step in range(workload.n_steps):
        lr = recorder.lr_curve[step] = runs.rates(step)
        runs.train_step(step, lr)
        if recorder.is_milestone(step + 1):
            with runs.evaluating():
                loss = recorder.pass_milestone()
            runs.validated(loss)
    with runs.evaluating():
        recorder.validate(at_end=True)
        return recorder.finish()


class GivenRates(Population):
    """A population whose members follow learning rates (N, K). Members that diverge are retired at milestones."""

    def __init__(self, workload: Workload, seeds: Sequence[int], rates: np.ndarray, device: str) -> None:
        super().__init__(workload, seeds, device)
        self._rates = rates

    def rates(self, step: int) -> np.ndarray:
        return self._rates[step]

    def evaluating(self) -> AbstractContextManager[object]:
        return nullcontext()

    def validated(self, loss: np.ndarray) -> None:
        self.retire(~np.isfinite(loss))


def follow(
    workload: Workload,
    seeds: Sequence[int],
    rates: np.ndarray,
    *,
    val_examples: int = 128,
    milestones: Sequence[int] = (),
    device: str = "cpu",
) -> Recording:
    """Train one run per seed at given learning rates (N, K), without a pilot, and test it."""
    return train(workload, GivenRates(workload, seeds, rates, device), val_examples, milestones)
