"""Learned policies inside the decision process, with guards as in a user's training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrpilot import load_policy
from lrpilot.decisions.protocol import Policy
from pipeline.evaluation.methods.ablations import ABLATIONS
from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.evaluation.methods.policies import policy_content, side_by_side
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import follow_policy, simulate
from pipeline.workloads.base import Workload


@dataclass(frozen=True)
class Learned(Method):
    """A policy, what it is shown besides the training loss, and what a control takes from it."""

    policy: str  # path of a bundle
    validation: bool = False  # the validation loss, at the milestones
    epochs: bool = False  # how long an epoch is, and how many examples there are
    unprobed: bool = False  # it begins without a probe
    guarded: bool = True  # guards check its answers
    guess: float | None = None  # a first guess of the rate
    ablation: str | None = None  # one of ABLATIONS

    def content(self) -> dict[str, Any]:
        return super().content() | {"policy": policy_content(self.policy)}

    def together(self) -> tuple[Hashable, ...]:
        return ("policies", policy_content(self.policy)[1], self.unprobed, self.guarded)

    @classmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        bundles = {path: load_policy(path) for path in dict.fromkeys(method.policy for method in methods)}
        made = {(m.policy, m.ablation): _without(m.ablation, bundles[m.policy]) for m in dict.fromkeys(methods)}
        act = follow_policy(side_by_side([made[m.policy, m.ablation] for m in methods]))
        return simulate(
            workload, seeds, bundles[methods[0].policy].protocol, act,
            probed=not methods[0].unprobed, guards=methods[0].guarded, val_examples=VAL_EXAMPLES,
            show_validation=np.array([method.validation for method in methods]),
            show_epochs=np.array([method.epochs for method in methods]),
            guess=np.array([np.nan if method.guess is None else method.guess for method in methods]),
            milestones=milestones(workload.n_steps), test=True, device=device,
        )  # fmt: skip


def _without(ablation: str | None, policy: Policy) -> Policy:
    return policy if ablation is None else ABLATIONS[ablation](policy)
