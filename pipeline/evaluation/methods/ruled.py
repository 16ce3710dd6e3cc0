"""Rules inside the decision process that were not learned: LR finders, and a network that was never trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES, PROBE_NAMES
from lrpilot.decisions.protocol import Policy, Protocol
from pipeline.evaluation.methods.method import VAL_EXAMPLES, Method, milestones
from pipeline.evaluation.methods.policies import side_by_side
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import Act, follow_policy, hold_level, simulate
from pipeline.workloads.base import Workload

Finder = Callable[[np.ndarray], np.ndarray]  # (n, len(PROBE_NAMES)) -> (n,) decades over the anchor


@dataclass(frozen=True)
class Ruled(Method):
    """One of `RULES`. It knows neither the validation loss nor the size of the data."""

    rule: str

    def together(self) -> tuple[Hashable, ...]:
        return ("finders",) if self.rule in FINDERS else (self,)

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
