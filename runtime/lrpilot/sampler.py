"""The sketch of a torch model: a fixed set of coordinates, gathered from many parameters. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrpilot import telemetry


class Sampler:
    """The sketch's coordinates of a list of parameters, gathered on their device."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        sizes = [p.numel() for p in params]
        if not sum(sizes):
            raise ValueError("optimizer: no parameter requires a gradient; unfreeze some, then build PilotLR")
        chosen = telemetry.sketch_coordinates(sum(sizes))
        self.scale = (sum(sizes) / len(chosen)) ** 0.5
        edges = np.cumsum([0, *sizes])
        whole = len(chosen) == edges[-1]
        self._pieces: list[tuple[Tensor, Tensor | None]] = []  # parameter, its coordinates (None: all)
        for p, begin, end in zip(params, edges[:-1], edges[1:], strict=True):
            mine = chosen[np.searchsorted(chosen, begin) : np.searchsorted(chosen, end)] - begin
            if len(mine):
                self._pieces.append((p, None if whole else torch.from_numpy(mine).to(p.device)))
        self._device = params[0].device
        self._dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Sampled weights (coordinates,); a copy."""
        return self._gather([p.detach() for p, _ in self._pieces])

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Sampled gradients (coordinates,), zero where there is none; a copy."""
        grads = ((p, p.grad) for p, _ in self._pieces)
        return self._gather([torch.zeros_like(p) if g is None else g.detach() for p, g in grads])

    def _gather(self, values: list[Tensor]) -> Tensor:
        parts = []
        for value, (_, index) in zip(values, self._pieces, strict=True):
            flat = (value.to_dense() if value.is_sparse else value).reshape(-1)
            parts.append((flat if index is None else flat[index]).to(self._device, self._dtype))
        return torch.cat(parts) if len(parts) > 1 else parts[0].clone()

    def tensor(self, value: Any) -> Any:
        """A number or a list of numbers as the samples' kind of tensor; None stays None."""
        return None if value is None else torch.tensor(value, dtype=self._dtype, device=self._device)
