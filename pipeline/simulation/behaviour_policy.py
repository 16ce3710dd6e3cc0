"""The base of behaviour policies: they choose the levels of recorded trainings, and note the actions taken."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from lrpilot.pilot import Pilot


class BehaviourPolicy(ABC):
    """What chooses the levels of K runs. It asks for a level, and takes the possible action that comes closest to it.

    So every recorded action is one that was applied.
    """

    names: list[str]  # (K,) of the behaviour of each
    shows_epochs: np.ndarray  # (K,) bool: whether the pilot is told the length of an epoch, and how many examples
    shows_validation: np.ndarray  # (K,) bool: whether it is shown the validation loss

    def __init__(self, runs: int) -> None:
        self.actions: list[np.ndarray] = []  # (K,) as applied, by decision
        self.lr0 = np.full(runs, np.nan)  # the first learning rate that was asked for

    @abstractmethod
    def wanted(self, pilot: Pilot, first: bool) -> np.ndarray:
        """Levels (K,) that the coming decision, the first or a later one, should lead to."""

    def act(self, pilot: Pilot, which: np.ndarray) -> None:
        """Choose, apply and note the actions of one decision."""
        first, equation, before = pilot.interval is None, pilot.protocol.action, pilot.level
        wanted = self.wanted(pilot, first)
        pilot.act(equation.invert(before, pilot.anchor, wanted, first), which)
        action = equation.invert(before, pilot.anchor, pilot.level, first)  # as applied: limits of change included
        if first:
            if not self.actions:
                self.actions.append(np.full(pilot.runs, np.nan))
            self.actions[0] = np.where(which, action, self.actions[0])
            self.lr0 = np.where(which, 10.0 ** (pilot.reference + pilot.level), self.lr0)
        else:
            self.actions.append(action)
