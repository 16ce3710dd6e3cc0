"""The Q function of critics of departures: the advantage of every move over following the base, which has advantage 0.

It is a d3rlpy Q function for discrete actions: an encoder, one linear layer of coefficients, and fixed curves over GRID
that the coefficients weight. At later decisions the curves are the size of a move and its square, separately for rises
and falls. So a move of 0 has advantage 0 whatever the coefficients are, and what is learned about one move carries over
to its neighbours. At the first decision there is no base level, and the curves are bumps along the levels that an
action can name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from lrpilot.decisions.features import NAMES
from policy.buffer import GRID

from d3rlpy.models.q_functions import QFunctionFactory, register_q_func_factory  # isort: skip  (as in policy.agents)
from d3rlpy.models.torch import DiscreteMeanQFunctionForwarder, DiscreteQFunction, QFunctionOutput  # isort: skip

BUMPS = 7  # of the curve over first levels, evenly spaced
FIRST = NAMES.index("first")  # the feature that is 1 at the first decision, else 0


def curves() -> tuple[np.ndarray, np.ndarray]:
    """The fixed curves (curves, len(GRID)): those of first decisions, and those of later decisions."""
    centres = np.linspace(-1, 1, BUMPS)
    bumps = np.exp(-0.5 * ((GRID - centres[:, None]) / (centres[1] - centres[0])) ** 2)
    rise, fall = np.maximum(GRID, 0), np.maximum(-GRID, 0)
    return bumps, np.stack([rise, rise**2, fall, fall**2])


class Advantage(DiscreteQFunction):
    """Maps scaled observations (n, F) to advantages (n, len(GRID))."""

    _first: torch.Tensor
    _later: torch.Tensor

    def __init__(self, encoder: torch.nn.Module, hidden_size: int) -> None:
        super().__init__()
        self._encoder = encoder
        first, later = curves()
        self._coefficients = torch.nn.Linear(hidden_size, len(first) + len(later))
        self.register_buffer("_first", torch.from_numpy(first).float())
        self.register_buffer("_later", torch.from_numpy(later).float())

    def forward(self, x: torch.Tensor) -> QFunctionOutput:
        of_first, of_later = self._coefficients(self._encoder(x)).split([len(self._first), len(self._later)], dim=1)
        # Scaled to mean 0, the flag is above 0 where it is set.
        value = torch.where(x[:, FIRST, None] > 0, of_first @ self._first, of_later @ self._later)
        return QFunctionOutput(q_value=value, quantiles=None, taus=None)

    @property
    def encoder(self) -> torch.nn.Module:
        return self._encoder


@dataclasses.dataclass()
class AdvantageFactory(QFunctionFactory):
    """Makes `Advantage` functions for d3rlpy's discrete algorithms."""

    def create_discrete(
        self, encoder: torch.nn.Module, hidden_size: int, action_size: int
    ) -> tuple[Advantage, DiscreteMeanQFunctionForwarder]:
        function = Advantage(encoder, hidden_size)
        forwarder: Any = DiscreteMeanQFunctionForwarder  # what it wants of a function is what `Advantage` has
        return function, forwarder(function, action_size)

    @staticmethod
    def get_type() -> str:
        return "advantage"


register_q_func_factory(AdvantageFactory)
