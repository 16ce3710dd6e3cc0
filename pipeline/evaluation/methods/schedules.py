"""Methods whose learning rates are known before the training begins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.simulation.follow import follow
from pipeline.simulation.recorder import Recording
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload


@dataclass(frozen=True)
class KnownRates(Method):
    """A method with known rates. All such methods train together, whatever their rates are."""

    @abstractmethod
    def rates(self, n: int) -> np.ndarray:
        """(n,) learning rates."""

    def together(self) -> tuple[Hashable, ...]:
        return ("known rates",)

    @classmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        n = workload.n_steps
        table = np.stack([method.rates(n) for method in methods], axis=1)
        return follow(
            workload, seeds, table, val_examples=VAL_EXAMPLES, milestones=milestones(n), device=device
        )  # fmt: skip


@dataclass(frozen=True)
class Scheduled(KnownRates):
    """A schedule by its name."""

    schedule: str
    lr0: float  # its highest rate

    @property
    def initial_rate(self) -> float:
        return self.lr0

    def rates(self, n: int) -> np.ndarray:
        return self.lr0 * multipliers(self.schedule, n)


@dataclass(frozen=True)
class Replayed(KnownRates):
    """A curve, linear between its points in log10 of the rate over progress."""

    curve: tuple[float, ...]

    def rates(self, n: int) -> np.ndarray:
        return 10 ** np.interp((np.arange(n) + 0.5) / n, np.linspace(0, 1, len(self.curve)), self.curve)
