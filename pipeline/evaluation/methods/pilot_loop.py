"""PilotLR in a plain loop, as users run it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from lrpilot.torch import PilotLR
from pipeline.evaluation.methods.loops import LoopMethod
from pipeline.evaluation.training_loops import Driver, Recipe, textbook_optimizer
from pipeline.result_cache import policy_key
from pipeline.workloads.base import Workload


@dataclass(frozen=True)
class PilotLoop(LoopMethod):
    """The scheduler with a policy. It knows the size of the data, as it does in a loop over a DataLoader."""

    policy: str  # path of a bundle, or "default"

    @property
    def alone(self) -> bool:
        return True

    def recipe(self) -> Recipe:
        return partial(_pilot, policy=self.policy)

    def content(self) -> dict[str, Any]:
        return super().content() | {"policy": policy_key(self.policy)}


def _pilot(params: list[nn.Parameter], workload: Workload, policy: str) -> Driver:
    optimizer = textbook_optimizer(params, workload)
    sizes = {"steps_per_epoch": workload.steps_per_epoch, "examples": len(workload.train)}
    return Driver(optimizer, PilotLR(optimizer, workload.n_steps, policy, **sizes), "loss")
