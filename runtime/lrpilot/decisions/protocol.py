"""The decision process: when decisions are made, what an action does, and what a first guess is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.cadence import CadenceSpec
from lrpilot.decisions.guess import GuessSpec

Policy = Callable[[np.ndarray], np.ndarray]  # observations (runs, F) float32 -> actions (runs,) in [-1, 1]


@dataclass(frozen=True)
class Protocol:
    """The decision process that a policy was trained in; part of the policy's manifest."""

    cadence: CadenceSpec = field(default_factory=CadenceSpec)
    action: ActionEquation = field(default_factory=ActionEquation)
    guess: GuessSpec = field(default_factory=GuessSpec)
