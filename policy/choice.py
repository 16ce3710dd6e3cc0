"""From critics to an action: a move has to earn its place, else the level is held.

Several critics, each of tasks drawn anew, say what every move of GRID is worth. Its worth is their mean less `caution`
of their standard deviations. At a later decision the best move is made if it is worth more than `margin`; holding is
worth 0. At the first decision the best level is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from policy.advantage import FIRST
from policy.buffer import GRID


@dataclass(frozen=True)
class Caution:
    """How sure a move has to be."""

    first: float  # deviations that count against a first level
    later: float  # and against a later move
    margin: float  # worth, in units of return, that a later move must exceed

    def of(self, observations: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Actions (n,) to observations (n, F), of the critics' values (critics, n, len(GRID))."""
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        first = observations[:, FIRST] > 0
        worth = mean - np.where(first, self.first, self.later)[:, None] * deviation
        best = worth.argmax(axis=1)
        moves = first | (worth[np.arange(len(best)), best] > self.margin)
        return np.where(moves, GRID[best], 0.0)


class Chooser(torch.nn.Module):
    """Several agents' critics as one module: raw observations (n, F) -> actions (n, 1), normalisation inside."""

    _grid: torch.Tensor

    def __init__(self, agents: Sequence[Any], caution: Caution) -> None:
        super().__init__()
        self._critics = torch.nn.ModuleList(agent.impl.modules.q_funcs[0] for agent in agents)
        self._scalers, self._caution = [agent.config.observation_scaler for agent in agents], caution
        self.register_buffer("_grid", torch.tensor(GRID, dtype=torch.float32))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        parts = zip(self._critics, self._scalers, strict=True)
        values = torch.stack([critic(scaler.transform(observation)).q_value for critic, scaler in parts])
        first = observation[:, FIRST, None] > 0
        deviation = values.std(dim=0, correction=0)
        worth = values.mean(dim=0) - torch.where(first, self._caution.first, self._caution.later) * deviation
        highest, best = worth.max(dim=1, keepdim=True)
        return torch.where(first | (highest > self._caution.margin), self._grid[best], 0.0)
