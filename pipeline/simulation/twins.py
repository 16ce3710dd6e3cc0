"""Twins: runs with the same start that train as one until they depart.

A twin uses the row of its base until it departs, so what they share is trained once. When it departs, the base's state
is cloned: weights, optimizer, and batch norm's statistics. Batches, augmentation and dropout depend on the seed and the
step, which both share. So a twin that departs but acts as its base does equals its base: bit for bit in the plain loop,
and in the vectorised loop as long as its kernels do not round a number by its place in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import RETIRED, Population
from pipeline.workloads.training.update_rules import Stepper


class Twins(Population):
    """K members, some of which have no row of their own yet."""

    def __init__(
        self, workload: Workload, seeds: Sequence[int], base: np.ndarray, departs_after: np.ndarray, device: str = "cpu"
    ) -> None:
        """`seeds` (K,) are equal within a group. base (K,) int: the member whose row a member shares. departs_after
        (K,) int: steps after which it has its own row; 0 for a base. This is checked where `retire` is called.
        """
        super().__init__(workload, seeds, device)
        self._base, self._departs_after, self._step = base, departs_after, 0
        self._alone = departs_after == 0
        own = np.flatnonzero(self._alone)
        self._take(own, own)

    def train_step(self, step: int, lr: np.ndarray) -> Tensor:
        self._step = step + 1
        return super().train_step(step, lr)

    def retire(self, which: np.ndarray) -> np.ndarray | None:
        """Retire members as a population does. Members that depart after the latest step get rows of their own, unless
        `which` says that they, and so their bases, are not trained further.
        """
        departing = np.flatnonzero((self._departs_after <= self._step) & ~self._alone & ~which)
        rows = np.flatnonzero(~which[self.members])
        if not len(departing) and len(rows) > (1 - RETIRED) * len(self.members):
            return None
        rows = rows if len(rows) else np.array([0])
        self._alone[departing] = True
        members = np.concatenate([self.members[rows], departing])
        rows = np.concatenate([rows, self._row[self._base[departing]]])
        self._take(rows, members)
        return rows

    def _take(self, rows: np.ndarray, members: np.ndarray) -> None:
        """Continue with copies of these rows (k,) as the rows of `members` (k,)."""
        self.members, self.state, self.gradient = members, self.state.select(rows), self.gradient[rows]
        self._stepper = Stepper(self.workload, self.gradient)
        self._order, self._seeds = self._order[:, rows], [self._seeds[row] for row in rows]
        self._row = np.full(len(self), -1)
        self._row[members] = np.arange(len(members))
        self._row = np.where(self._alone, self._row, self._row[self._base])

    def spread(self, values: Tensor) -> Tensor:
        """(..., K) with nan for retired members, from values (..., k) by row. Twins get those of their base's row."""
        whole = values[..., torch.from_numpy(self._row.clip(0)).to(values.device)]
        gone = torch.from_numpy(self._row < 0).to(values.device)
        return whole.masked_fill(gone, torch.nan) if gone.any() else whole
