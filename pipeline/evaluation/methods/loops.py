"""Optimizers and schedulers of packages, and of users, in a plain loop."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch

from lrpilot import digests
from pipeline.evaluation import training_loops
from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.evaluation.rivals import RIVALS
from pipeline.evaluation.training_loops import Recipe, of_scheduler
from pipeline.simulation.recorder import Recording
from pipeline.workloads.base import Workload


@dataclass(frozen=True)
class LoopMethod(Method):
    """A training with an optimizer of its own."""

    @abstractmethod
    def recipe(self) -> Recipe:
        """The recipe of the driver that makes its steps."""

    @classmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        torch.set_num_threads(1)
        recipes = [method.recipe() for method in methods]
        return training_loops.train(workload, seeds, recipes, VAL_EXAMPLES, milestones(workload.n_steps))


@dataclass(frozen=True)
class Rival(LoopMethod):
    """One of `rivals.RIVALS`."""

    rival: str
    lr0: float | None = None  # in place of the one that is frozen, for a rival whose rate is calibrated

    @property
    def initial_rate(self) -> float | None:
        return self.lr0

    @property
    def alone(self) -> bool:
        return RIVALS[self.rival].alone

    def recipe(self) -> Recipe:
        return RIVALS[self.rival].of(self._given())

    def content(self) -> dict[str, Any]:
        """Its settings by value, whether they are frozen or given."""
        return super().content() | RIVALS[self.rival].settings() | self._given()

    def _given(self) -> dict[str, Any]:
        return {} if self.lr0 is None else {"lr0": self.lr0}

    def packages(self) -> tuple[str, ...]:
        return RIVALS[self.rival].packages

    def together(self) -> tuple[Hashable, ...]:
        return super().together() if self.alone else ("rivals",)


@dataclass(frozen=True)
class UserScheduler(LoopMethod):
    """A user's own scheduler, which may look at a model's tensors."""

    factory: str  # module:function, which makes one of (optimizer, total_steps)

    @property
    def alone(self) -> bool:
        return True

    def recipe(self) -> Recipe:
        """Raises ImportError, AttributeError or ValueError if there is no such factory."""
        module, _, factory = self.factory.partition(":")
        return of_scheduler(getattr(importlib.import_module(module), factory))

    def content(self) -> dict[str, Any]:
        return super().content() | {"source": _source(self.factory.partition(":")[0])}


@cache
def _source(module: str) -> str:
    """Hash of a user's module."""
    file = importlib.import_module(module).__file__
    return digests.of_file(Path(file)) if file else module
