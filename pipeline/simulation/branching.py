"""Groups of twins: what one departure from a base is worth at the end of a training, with everything else equal.

All twins of a group have the same initialisation, data order and random draws. Twin 0 is the base and follows a base
policy: it holds its first level, or it acts as an earlier policy would. Every other twin departs from the base once:

- in a group of levels at the first decision, to a level of its own, which it then holds or continues from;
- in a group of moves at a later decision, by a move up or down. Of two twins one moves up and one down, by the same
  share of the largest move. Then both follow the base policy again.

The base of a group of levels starts at the level that the earlier policy names. The base of a group of moves starts
near it or, in turns, farther away. In some tasks the bases of moves are rolled in: they follow the earlier policy up to
a random decision and hold from there. So a policy also learns what to do at the states that its own moves lead to (on
learning at the states that a policy visits: Ross and Bagnell 2014, arXiv:1406.5979).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrpilot.decisions.cadence import Cadence
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle
from pipeline.behaviours import POLICY
from pipeline.config import BranchesConfig
from pipeline.simulation.behaviour_policy import BehaviourPolicy

NOISE = (0.3, 1.0)  # decades: sd of first levels around the one that the earlier policy names, near it and far off
SMALLEST = 0.1  # share of the most that a decision may move a level by; sizes are uniform in its logarithm
TELL, SHOW = 0.7, 0.5  # shares of groups that tell the size of the data, and that show the validation loss
NEVER = -1  # a decision at which nobody departs


class Branches(BehaviourPolicy):
    """The runs of groups of twins, one group after another. All randomness comes from `rng`."""

    def __init__(
        self, groups: BranchesConfig, cadence: Cadence, rng: np.random.Generator, policies: Sequence[Bundle]
    ) -> None:
        super().__init__(groups.runs)
        count = groups.levels + groups.moves
        self.group, self.twin = np.divmod(np.arange(groups.runs), groups.twins)  # (K,)
        self.base = self.group * groups.twins  # (K,) run that is a run's base
        self.names = [f"{groups.base}_{'levels' if g < groups.levels else 'moves'}" for g in self.group]
        self._levels, self._is_base = self.group < groups.levels, self.twin == 0
        self._policies, self._chosen = policies, rng.integers(len(policies), size=count)[self.group]
        noise = np.append(np.zeros(groups.levels), np.resize(NOISE, groups.moves)) * rng.standard_normal(count)
        self._noise = noise[self.group]
        # Levels of a group are stratified over the whole range, as those of schedules are.
        strata = np.stack([rng.permutation(groups.twins) for _ in range(count)])
        self._place = ((strata + rng.random(strata.shape)) / groups.twins * 2 - 1).ravel()
        pairs = -(-(groups.twins - 1) // 2)
        rolled = groups.moves and rng.random() < groups.rolled_in
        holds_from = int(rng.integers(1, cadence.decisions)) if rolled else 0
        self._holds_from = np.where(self._levels, 0, holds_from)  # (K,) decisions; until then a run follows a policy
        if groups.base == POLICY:
            self._holds_from = np.full(groups.runs, cadence.decisions)
        # The same in all groups: each one costs a new recording of the step.
        points = departures(cadence, holds_from, pairs, rng)
        share = SMALLEST ** rng.random((count, pairs))
        pair = (self.twin - 1).clip(0) // 2
        self.push = np.where(self.twin % 2 == 1, 1, -1) * share[self.group, pair]  # (K,) action of a departure
        self.departs_at = np.where(self._is_base, NEVER, np.where(self._levels, 0, points[pair]))  # (K,) decisions
        self.shows_epochs, self.shows_validation = ((rng.random(count) < share)[self.group] for share in (TELL, SHOW))

    def wanted(self, pilot: Pilot, first: bool) -> np.ndarray:
        equation = pilot.protocol.action
        if first:
            named = self._answers(pilot, first) + self._noise
            free = self._levels & ~self._is_base
            return np.where(free, pilot.anchor + equation.span * self._place, named)
        follows = pilot.decision < self._holds_from
        wanted = np.where(follows, self._answers(pilot, first), pilot.level) if follows.any() else pilot.level
        wanted = np.where(pilot.decision <= self.departs_at, wanted[self.base], wanted)
        moved = wanted + np.where(self.push > 0, equation.rise, equation.fall) * self.push
        return np.where(self.departs_at == pilot.decision, moved, wanted)

    def _answers(self, pilot: Pilot, first: bool) -> np.ndarray:
        """Levels (K,) that the earlier policies ask for."""
        observations, wanted = pilot.observation(), pilot.level.copy()
        for i, policy in enumerate(self._policies):
            mine = np.flatnonzero(self._chosen == i)
            answer = np.nan_to_num(policy(observations[mine]))
            wanted[mine] = policy.protocol.action.apply(pilot.level[mine], pilot.anchor[mine], answer, first)
        return wanted


def departures(cadence: Cadence, earliest: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw later decisions (count,), none before `earliest`, at which twins depart. In turns they are uniform over
    decisions, which are close together at first, and uniform over steps, where a departure costs less.
    """
    decisions, steps, earliest = cadence.decisions, cadence.bounds, max(earliest, 1)
    by_decision = rng.integers(earliest, decisions, size=count)
    begin = steps[earliest - 1]
    at = begin + rng.random(count) * (cadence.total_steps - begin)
    by_step = np.searchsorted(steps[1:-1], at).clip(earliest - 1, decisions - 2) + 1
    return np.where(np.arange(count) % 2, by_step, by_decision)
