"""Controls: the policy without its later moves, or without the training loss."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrpilot import load_policy
from lrpilot.features import GROUPS, NAMES
from lrpilot.pilot import Policy
from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.evaluation.methods.policies import policy_content, side_by_side
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import follow_policy, simulate
from pipeline.workloads.base import Workload
from policy.observations import mask

FIRST = NAMES.index("first")


def hold(policy: Policy) -> Policy:
    """The policy's first action, and no move at any later decision."""
    return lambda observations: np.where(observations[:, FIRST] > 0, np.ravel(policy(observations)), 0.0)


def no_loss(policy: Policy) -> Policy:
    """The policy without the training loss after the probe: the loss features are 0."""
    shown = mask(group for group in GROUPS if group != "loss")
    return lambda observations: policy(observations * shown)


ABLATIONS: dict[str, Callable[[Policy], Policy]] = {"hold": hold, "no_loss": no_loss}


@dataclass(frozen=True)
class Ablated(Method):
    """A policy changed by one of `ABLATIONS`. Guards see what they always see."""

    policy: str  # path of a bundle
    ablation: str
    epochs: bool = True  # it knows how long an epoch is, and how many examples there are

    def content(self) -> dict[str, Any]:
        return super().content() | {"policy": policy_content(self.policy)}

    def together(self) -> tuple[Hashable, ...]:
        return ("ablated", policy_content(self.policy)[1])

    @classmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        bundles = {path: load_policy(path) for path in dict.fromkeys(method.policy for method in methods)}
        made = {
            (path, name): ABLATIONS[name](bundles[path])
            for path, name in dict.fromkeys((method.policy, method.ablation) for method in methods)
        }
        return simulate(
            workload, seeds, bundles[methods[0].policy].protocol,
            follow_policy(side_by_side([made[method.policy, method.ablation] for method in methods])),
            val_examples=VAL_EXAMPLES, show_validation=False,
            show_epochs=np.array([method.epochs for method in methods]), milestones=milestones(workload.n_steps),
            test=True, device=device,
        )  # fmt: skip
