"""What a critic of departures answers with: the advantage of every move over the base, 0 for the base itself.

A d3rlpy Q function for discrete actions: an encoder, one linear layer of coefficients, and fixed curves over GRID that
they weigh. At later decisions a curve is the size of a move or its square, for rises and for falls by themselves: a
move of 0 is worth 0 whatever the coefficients, and what is learned of one move tells of its neighbours. At the first
decision, where no level is the base, curves are bumps along the levels that it can name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from lrpilot.features import NAMES
from policy.buffer import GRID

from d3rlpy.models.q_functions import QFunctionFactory, register_q_func_factory  # isort: skip  (as in policy.agents)
from d3rlpy.models.torch import DiscreteMeanQFunctionForwarder, DiscreteQFunction, QFunctionOutput  # isort: skip

BUMPS = 7  # of the curve over first levels, evenly spaced
FIRST = NAMES.index("first")  # the feature that is 1 at the first decision, else 0


def curves() -> tuple[np.ndarray, np.ndarray]:
    """(curves, len(GRID)) of first decisions, and of later ones."""
    centres = np.linspace(-1, 1, BUMPS)
    bumps = np.exp(-0.5 * ((GRID - centres[:, None]) / (centres[1] - centres[0])) ** 2)
    rise, fall = np.maximum(GRID, 0), np.maximum(-GRID, 0)
    return bumps, np.stack([rise, rise**2, fall, fall**2])


class Advantage(DiscreteQFunction):
    """Observations (n, F), scaled -> advantages (n, len(GRID))."""

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
