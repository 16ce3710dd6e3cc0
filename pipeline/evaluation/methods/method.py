"""What drives the learning rate of a training of the benchmark: what every method has.

Each way of driving one is a module of its own, so that the code which decides its numbers is what that module imports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from pipeline.simulation.recorder import Recording
from pipeline.workloads.base import Workload

MILESTONES = 20  # evenly spaced points of a run at which its validation loss is noted
VAL_EXAMPLES = 256


@dataclass(frozen=True)
class Method(ABC):
    """One way to drive a learning rate; how it is called in tables is not part of what it does."""

    kind: str  # "baseline", "grid", "oracle", "rival", "control", "policy", "textbook", "loop"
    name: str

    @property
    def alone(self) -> bool:
        """Whether each of its runs trains by itself."""
        return False

    @property
    def initial_rate(self) -> float | None:
        """Of a schedule: its highest rate."""
        return None

    def content(self) -> dict[str, Any]:
        """All that decides what it does, whatever it is called here; JSON's types."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("kind", "name")}
        return {"method": type(self).__name__} | fields

    @property
    def module(self) -> str:
        """The module whose code, with what that imports, decides its numbers."""
        return type(self).__module__

    def packages(self) -> tuple[str, ...]:
        """The packages besides torch that decide its numbers, by the names that they are installed under."""
        return ()

    @abstractmethod
    def together(self) -> tuple[Hashable, ...]:
        """Equal for methods whose runs of one task train in one population."""

    @classmethod
    @abstractmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        """Train a run of each method and its seed: all equal in `together`, of one only where it trains alone."""


def milestones(n: int) -> list[int]:
    """Completed steps at which the validation loss is noted; the end is one of them."""
    return np.unique(np.linspace(0, n, MILESTONES + 1).round().astype(int)[1:]).tolist()
