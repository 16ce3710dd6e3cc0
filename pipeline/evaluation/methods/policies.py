"""Policies and fixed rules inside the decision process, with guards as in a user's training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrpilot import load_policy
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import GROUPS, NAMES, PROBE_NAMES
from lrpilot.decisions.protocol import Policy, Protocol
from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.result_cache import policy_key
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import Act, follow_policy, hold_level, simulate
from pipeline.workloads.base import Workload
from policy.observations import mask

FIRST = NAMES.index("first")


def hold(policy: Policy) -> Policy:
    """The policy's first action, and no move at any later decision."""
    return lambda observations: np.where(observations[:, FIRST] > 0, np.ravel(policy(observations)), 0.0)


def no_loss(policy: Policy) -> Policy:
    """The policy without the training loss after the probe: the loss features are 0. Guards see the loss."""
    shown = mask(group for group in GROUPS if group != "loss")
    return lambda observations: policy(observations * shown)


ABLATIONS: dict[str, Callable[[Policy], Policy]] = {"hold": hold, "no_loss": no_loss}


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
        return super().content() | {"policy": policy_key(self.policy)}

    def together(self) -> tuple[Hashable, ...]:
        return ("policies", policy_key(self.policy)[1], self.unprobed, self.guarded)

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


Finder = Callable[[np.ndarray], np.ndarray]  # (n, len(PROBE_NAMES)) -> (n,) decades over the anchor


@dataclass(frozen=True)
class Ruled(Method):
    """One of `RULES`. It knows neither the validation loss nor the size of the data."""

    rule: str

    def together(self) -> tuple[Hashable, ...]:
        return ("finders",) if self.rule in FINDERS else super().together()

    @classmethod
    def train(cls, methods: Sequence[Self], seeds: Sequence[int], workload: Workload, device: str) -> Recording:
        return simulate(
            workload, seeds, Protocol(), _act([method.rule for method in methods]), val_examples=VAL_EXAMPLES,
            show_validation=False, show_epochs=False, milestones=milestones(workload.n_steps), test=True, device=device,
        )  # fmt: skip


# Rules of the LR finder, which name a level from a range test.
FINDERS: dict[str, Finder] = {
    "finder_steepest": lambda probe: ActionEquation().below_blowup + probe[:, PROBE_NAMES.index("probe_steepest")],
    "finder_tenth": lambda probe: np.full(len(probe), ActionEquation().below_blowup - 1.0),  # a tenth of the blow-up
}


def _act(rules: Sequence[str]) -> Act:
    """What drives a run under each of these rules. A finder's level is held, under the envelope that policies have."""
    if rules[0] == "random_init":
        return follow_policy(random_network(0))
    named = side_by_side([FINDERS[rule] for rule in rules])
    return hold_level(lambda pilot: pilot.anchor + named(pilot.observer.probe))


def random_network(seed: int, hidden: Sequence[int] = (128, 128)) -> Policy:
    """A policy network that was never trained (He-normal weights, tanh output)."""
    rng = np.random.default_rng(seed)
    sizes = (len(NAMES), *hidden, 1)
    weights = [rng.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in itertools.pairwise(sizes)]

    def policy(x: np.ndarray) -> np.ndarray:
        for w in weights[:-1]:
            x = np.maximum(x @ w, 0)
        return np.tanh(x @ weights[-1])[:, 0]

    return policy


RULES = (*FINDERS, "random_init")


def side_by_side(policies: Sequence[Policy]) -> Policy:
    """One policy for a population in which each of `policies` drives one run."""
    members: dict[int, list[int]] = {}
    for i, policy in enumerate(policies):
        members.setdefault(id(policy), []).append(i)

    def ask_each(observations: np.ndarray) -> np.ndarray:
        actions = np.empty(len(observations))
        for rows in members.values():
            actions[rows] = np.ravel(policies[rows[0]](observations[rows]))
        return actions

    return ask_each
