"""From critics to an action: a move is made only if its worth exceeds a margin, otherwise the level is held.

Each of several critics learned from its own bootstrap sample of the tasks and values every move of GRID. The worth of a
move is the mean of the critics minus `caution` times their standard deviation. The action is the mean of GRID, weighted
by softmax(worth / SHARP), so small rounding errors change it only a little. A later action is 0, which holds the level,
if its worth is less than `margin`. Between `margin` and twice `margin` it is scaled down. Holding has worth 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from policy.advantage import FIRST, AdvantageFactory
from policy.agents import Network
from policy.buffer import GRID
from policy.graph import Mean
from policy.settings import Caution

SHARP = 0.02  # in units of return: how much worse a move may be and still count


def chosen(caution: Caution, observations: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Actions (n,) for observations (n, F), from the critics' values (critics, n, len(GRID))."""
    first = observations[:, FIRST] > 0
    worth = values.mean(axis=0) - np.where(first, caution.first, caution.later)[:, None] * values.std(axis=0)
    weight = np.exp((worth - worth.max(axis=1, keepdims=True)) / SHARP)
    weight /= weight.sum(axis=1, keepdims=True)
    gate = np.clip((weight * worth).sum(axis=1) / caution.margin - 1, 0, 1)
    return weight @ GRID * np.where(first, 1.0, gate)


class Chooser(torch.nn.Module):
    """The critics of several agents as one module with the normalisation inside: raw observations (n, F) -> actions (n,
    1).
    """

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
        worth = values.mean(dim=0) - self._cautious(first) * values.std(dim=0, correction=0)
        weight = torch.softmax(worth / SHARP, dim=1)
        gate = ((weight * worth).sum(dim=1, keepdim=True) / self._caution.margin - 1).clip(0, 1)
        return (weight @ self._grid)[:, None] * torch.where(first, torch.ones_like(gate), gate)

    def _cautious(self, first: torch.Tensor) -> torch.Tensor:
        flag = first.to(self._grid.dtype)
        return self._caution.first * flag + self._caution.later * (1 - flag)


def policy_of(agents: Sequence[Any], caution: Caution) -> torch.nn.Module:
    """Several agents as one policy: a `Chooser` if they are critics of departures, else the mean of their answers."""
    return Chooser(agents, caution) if chooses(agents) else Mean([Network(agent) for agent in agents])


def chooses(agents: Sequence[Any]) -> bool:
    """Whether all agents are critics of departures, which can choose together."""
    return all(isinstance(getattr(agent.config, "q_func_factory", None), AdvantageFactory) for agent in agents)
