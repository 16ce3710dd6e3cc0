"""Behaviour policies of the collection: schedules, and earlier policies with noise.

The level that a schedule asks for is that of its learning rate in the middle of the coming interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle
from pipeline.behaviours import HOLD, POLICY
from pipeline.simulation.behaviour_policy import BehaviourPolicy
from pipeline.simulation.schedules import epsilon, explore, multipliers

SHIFT = 0.5  # decades: sd of the level shift of a run that follows a policy
JITTER = 0.08  # decades: sd of its noise per decision


class Behaviour(BehaviourPolicy):
    """K runs, each with its own behaviour, drawn by weights. All randomness comes from `rng`."""

    def __init__(
        self,
        weights: Mapping[str, float],
        runs: int,
        n_steps: int,
        rng: np.random.Generator,
        policies: Sequence[Bundle] = (),
        exploration: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """`exploration` = (epsilon at the first decision, its factor per decision). Raises ValueError for the behaviour
        "policy" if there are no policies.
        """
        if POLICY in weights and not policies:
            raise ValueError(
                "collect.schedules: 'policy' needs collect.behaviour_policies, a list of bundles; it is empty"
            )
        super().__init__(runs)
        names = list(weights)
        share = np.array([weights[n] for n in names])
        self.names = [names[i] for i in rng.choice(len(names), runs, p=share / share.sum())]
        # Stratified over the whole range, so that every task sees rates far too low and far too high.
        self.first = rng.permutation((np.arange(runs) + rng.random(runs)) / runs) * 2 - 1
        ones = np.ones(n_steps)
        curves = [ones if n in (POLICY, HOLD) else multipliers(n, n_steps, rng) for n in self.names]
        self._log_curve = np.log10(np.maximum(np.stack(curves), 1e-12))  # (K, N)
        chosen = rng.integers(len(policies), size=runs) if policies else np.zeros(runs, np.int64)
        self._policies = [(policy, np.flatnonzero(chosen == i)) for i, policy in enumerate(policies)]  # and their runs
        self._follows = np.array([n == POLICY for n in self.names])
        self._holds = np.array([n == HOLD for n in self.names])
        # A run that follows a policy is shifted from some decision on, and jitters: contrasts for the critic.
        self._shift = SHIFT * rng.standard_normal(runs) * (rng.random(runs) < 0.8)
        self._shift_from = np.where(rng.random(runs) < 0.5, 0, rng.integers(0, 40, runs))
        self._jitter = JITTER * rng.choice([0.0, 1.0, 2.0], runs)
        self.shows_validation = rng.random(runs) < 0.5
        self.shows_epochs = np.ones(runs, bool)
        self._exploration, self._rng = exploration, rng

    def wanted(self, pilot: Pilot, first: bool) -> np.ndarray:
        wanted = np.where(self._follows, self._ask(pilot, first), self._track(pilot))
        if first:
            return wanted
        equation, chance = pilot.protocol.action, epsilon(*self._exploration, len(self.actions))
        place = np.clip((wanted - pilot.anchor) / equation.span, -1, 1)  # at random any that a first action can name
        return pilot.anchor + equation.span * explore(place, np.full(pilot.runs, chance), self._rng)

    def _track(self, pilot: Pilot) -> np.ndarray:
        """Levels (K,) of each run's schedule. The peak of the schedule is the level that `first` asks for."""
        bounds, n = pilot.cadence.bounds, pilot.total_steps
        start = pilot.anchor + pilot.protocol.action.span * self.first
        middle = int(min((pilot.step + bounds[min(pilot.decision + 1, len(bounds) - 1)]) / 2, n - 1))
        asked = self._log_curve[:, middle] - np.log10(pilot.protocol.action.envelope(middle, n))
        return start + np.where(self._holds, 0.0, asked)

    def _ask(self, pilot: Pilot, first: bool) -> np.ndarray:
        """Levels (K,) that the earlier policies ask for, shifted and with noise; never nan."""
        noise = self._rng.standard_normal(pilot.runs)
        if not self._policies:
            return pilot.level
        observations, wanted = pilot.observation(), pilot.level.copy()
        for policy, mine in self._policies:
            answer = np.nan_to_num(policy(observations[mine]))
            wanted[mine] = policy.protocol.action.apply(pilot.level[mine], pilot.anchor[mine], answer, first)
        return wanted + np.where(len(self.actions) >= self._shift_from, self._shift, 0.0) + self._jitter * noise
