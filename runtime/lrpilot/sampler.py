"""The sketch of a torch model: a fixed set of coordinates, gathered from many parameters. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrpilot import distributed, telemetry


class Sampler:
    """The sketch's coordinates of a list of parameters, gathered on their device.

    Of sharded parameters each rank gathers its own; the whole's order is then that of the ranks' parts, one after the
    other. What lies on several ranks weighs less on each, so that sums of squares over all ranks count it once.
    Making one is then a collective call.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        if not any(p.numel() for p in params):
            raise ValueError("optimizer: no parameter requires a gradient; unfreeze some, then build PilotLR")
        self.device = distributed.local(params[0].detach()).device
        self._dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
        self.sharded = any(map(distributed.is_sharded, params)) and not distributed.alone()
        with torch.no_grad():
            edges = np.cumsum([0, *(distributed.local(p).numel() for p in params)])
        before, everything = 0, int(edges[-1])
        if self.sharded:
            counts = distributed.sizes(everything, self.device)
            before, everything = sum(counts[: torch.distributed.get_rank()]), sum(counts)
        chosen = telemetry.sketch_coordinates(everything)
        self.scale = (everything / len(chosen)) ** 0.5
        whole = len(chosen) == everything
        self._pieces: list[tuple[Tensor, Tensor | None, float]] = []  # parameter, its coordinates (None: all), weight
        for p, begin, end in zip(params, before + edges[:-1], before + edges[1:], strict=True):
            mine = chosen[np.searchsorted(chosen, begin) : np.searchsorted(chosen, end)] - begin
            if len(mine):
                weight = distributed.replicas(p) ** -0.5 if self.sharded else 1.0
                self._pieces.append((p, None if whole else torch.tensor(mine, device=self.device), weight))

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Sampled weights (coordinates,); a copy."""
        return self._gather([p.detach() for p, _, _ in self._pieces])

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Sampled gradients (coordinates,), zero where there is none; a copy."""
        grads = ((p, p.grad) for p, _, _ in self._pieces)
        return self._gather([torch.zeros_like(p) if g is None else g.detach() for p, g in grads])

    def _gather(self, values: list[Tensor]) -> Tensor:
        parts: list[Tensor] = []
        for value, (_, index, weight) in zip(values, self._pieces, strict=True):
            flat = distributed.local(value.to_dense() if value.is_sparse else value).reshape(-1)
            part = (flat if index is None else flat[index.to(flat.device)]).to(self.device, self._dtype)
            parts.append(part if weight == 1.0 else part * weight)
        if not parts:
            return torch.zeros(0, dtype=self._dtype, device=self.device)
        return torch.cat(parts) if len(parts) > 1 else parts[0].clone()

    def tensor(self, value: Any) -> Any:
        """A number or a list of numbers as the samples' kind of tensor; None stays None."""
        return None if value is None else torch.tensor(value, dtype=self._dtype, device=self.device)
