"""The base class of everything that can drive the learning rate of a training of the benchmark.

Each way to drive a rate has a module of its own. So the code that decides the numbers of its methods is what that
module imports.
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
    """One way to drive a learning rate. Its name in tables does not change what it does."""

    kind: str  # "baseline", "grid", "oracle", "rival", "control", "policy", "textbook", "loop"
    name: str

    @property
    def alone(self) -> bool:
        """Whether each of its runs trains by itself."""
        return False

    @property
    def initial_rate(self) -> float | None:
        """The highest rate of a schedule."""
        return None

    def content(self) -> dict[str, Any]:
        """Everything that decides what it does, independent of its name, in JSON's types."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("kind", "name")}
        return {"method": type(self).__name__} | fields

    @property
    def module(self) -> str:
        """The module whose code, with its imports, decides its numbers."""
        return type(self).__module__

    def packages(self) -> tuple[str, ...]:
        """The packages besides torch that decide its numbers, by the names that they are installed under."""
        return ()

    def together(self) -> tuple[Hashable, ...]:
        """Equal for methods whose runs of one task can train in one population; by default those of one method."""
        return (self,)

    @classmethod
    @abstractmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        """Train one run for each method and its seed. All methods are equal in `together`; a method that trains alone
        is the only one.
        """


def milestones(n: int) -> list[int]:
    """Completed steps at which the validation loss is measured, including the end."""
    return np.unique(np.linspace(0, n, MILESTONES + 1).round().astype(int)[1:]).tolist()
