"""The sketch of a torch model: a fixed set of coordinates, gathered from many parameters. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrpilot.decisions import telemetry
from lrpilot.loop import distributed


class Sampler:
    """The sketch's coordinates of a list of parameters, gathered on their device.

    Of sharded parameters each rank gathers its own, and all get the whole: what is gathered, and making a sampler, are
    collective calls then. The order is by parameter, within it by rank, so that rows that are dealt out among the ranks
    lie as in the unsharded parameter. What lies on several ranks is taken from the first of them.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        if not any(p.numel() for p in params):
            raise ValueError("optimizer: no parameter requires a gradient; unfreeze some, then build PilotLR")
        self.device = distributed.local(params[0].detach()).device
        self._dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
        self.sharded = any(map(distributed.is_sharded, params)) and not distributed.alone()
        self.shard = distributed.place() if self.sharded else [0, 1]  # rank, of how many
        with torch.no_grad():
            sizes = [distributed.local(p).numel() for p in params]
        rank, counts = 0, [sizes]
        if self.sharded:
            sizes = [size if distributed.is_first_copy(p) else 0 for p, size in zip(params, sizes, strict=True)]
            rank, counts = self.shard[0], distributed.sizes(sizes, self.device)
        ends = np.cumsum(np.transpose(counts)).reshape(len(params), len(counts))  # by parameter and rank
        everything = int(ends[-1, -1])
        chosen = telemetry.sketch_coordinates(everything)
        self.scale = (everything / len(chosen)) ** 0.5
        whole = len(chosen) == everything
        self._pieces: list[tuple[Tensor, Tensor | None]] = []  # parameter, its coordinates here (None: all)
        places: list[np.ndarray] = []  # of the pieces in the whole
        for p, end, size in zip(params, ends[:, rank], sizes, strict=True):
            begin, last = (int(i) for i in np.searchsorted(chosen, (end - size, end)))
            if begin < last:
                place = np.arange(begin, last)
                index = None if whole else torch.tensor(chosen[place] - (end - size), device=self.device)
                self._pieces.append((p, index))
                places.append(place)
        here = np.concatenate(places) if places else np.empty(0, np.int64)
        self._count, self._here = len(chosen), torch.tensor(here, device=self.device)

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Sampled weights (coordinates,); a copy."""
        return self._gather([self._part(p, index) for p, index in self._pieces])

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Sampled gradients (coordinates,), zero where there is none; a copy."""
        return self._gather([self._gradient(p, index) for p, index in self._pieces])

    def _gradient(self, p: Tensor, index: Tensor | None) -> Tensor:
        if p.grad is None:
            count = distributed.local(p).numel() if index is None else len(index)
            return torch.zeros(count, dtype=self._dtype, device=self.device)
        return self._part(p.grad, index)

    def _part(self, value: Tensor, index: Tensor | None) -> Tensor:
        flat = distributed.local(value.to_dense() if value.is_sparse else value).reshape(-1)
        if index is not None:
            flat = flat.index_select(0, index if index.device == flat.device else index.to(flat.device))
        return flat if flat.dtype == self._dtype and flat.device == self.device else flat.to(self.device, self._dtype)

    def _gather(self, parts: list[Tensor]) -> Tensor:
        if not self.sharded:
            return torch.cat(parts) if len(parts) > 1 else parts[0].clone()
        whole = torch.zeros(self._count, dtype=self._dtype, device=self.device)
        if parts:
            whole[self._here] = torch.cat(parts)
        return distributed.total(whole)

    def tensor(self, value: Any) -> Any:
        """A number or a list of numbers as the samples' kind of tensor; None stays None."""
        return None if value is None else torch.as_tensor(value, dtype=self._dtype, device=self.device)
