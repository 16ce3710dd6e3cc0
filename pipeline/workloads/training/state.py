"""The state that a training step changes, for K runs: flat tensors with a row for each."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NOTHING = 1e-30  # where squared gradients start: the root of an exact zero takes ten times as long as any other


@dataclass
class State:
    """Tensors (K, P) and (K, Q), and a count (K,)."""

    weights: Tensor  # of the parameters that train
    first: Tensor  # mean of gradients, or SGD's momentum buffer
    second: Tensor  # mean, or for Adagrad sum, of squared gradients
    buffers: Tensor  # (K, Q): running statistics of batch norm, other buffers, parameters that do not train
    steps: np.ndarray  # optimizer steps taken, float64

    @classmethod
    def begin(cls, weights: Tensor, buffers: Tensor) -> State:
        """Before the first step."""
        zeros = torch.zeros_like(weights)
        return cls(weights, zeros, torch.full_like(weights, NOTHING), buffers, np.zeros(len(weights)))

    def clone(self) -> State:
        return copy.deepcopy(self)

    def restore(self, saved: State, which: np.ndarray) -> None:
        """Put the members `which` (K,) bool back to `saved`."""
        for mine, theirs in zip(vars(self).values(), vars(saved).values(), strict=True):
            mine[which] = theirs[which]

    def select(self, rows: np.ndarray) -> State:
        """The state of the members `rows` (k,) alone."""
        return State(*(x[rows] for x in vars(self).values()))
