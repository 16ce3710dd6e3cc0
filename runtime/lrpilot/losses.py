"""Losses as loops report them: numbers, tensors on any device, outputs that hold one. Needs torch."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lrpilot import distributed

MICRO_BATCHES = 1024  # reported losses that wait for their optimizer step, at most


class Inbox:
    """Losses that were reported or observed and wait for the completion of their optimizer step."""

    def __init__(self) -> None:
        self._reported: deque[Any] = deque(maxlen=MICRO_BATCHES)
        self._observed: deque[Any] = deque(maxlen=MICRO_BATCHES)
        self._seen: Any = None  # reported last; of a tensor a weak reference
        self.heard = False  # whether there was a loss, kept or not

    @property
    def last(self) -> Any:
        """The kept loss that came last, a reported one before an observed one; None where there is none."""
        kept = self._reported or self._observed
        return kept[-1] if kept else None

    def report(self, loss: Any, wanted: bool, again: bool) -> None:
        """Take the loss that `step` was given, kept where `wanted`.

        `again`: no optimizer step was made since the last one; the very same object then counts once, because
        Accelerate steps a scheduler once per process.
        """
        if again and loss is _there(self._seen):
            return
        self._seen = weakref.ref(loss) if isinstance(loss, Tensor) else loss
        self.heard = True
        if wanted:
            self._reported.append(value(loss))

    def observe(self, loss: Any, wanted: bool) -> None:
        """Take a loss that counts where none is reported."""
        self.heard = True
        if wanted:
            self._observed.append(value(loss))

    def take(self) -> Any:
        """The loss of one optimizer step, or None; the inbox is then empty."""
        self.heard = False
        if len(self._reported) == 1 and not self._observed:
            return self._reported.pop()
        kept = self._reported or self._observed
        loss = mean(kept) if kept else None
        self._reported.clear()
        self._observed.clear()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values."""
        reported, observed = ([float(x) for x in kept] for kept in (self._reported, self._observed))
        return {"reported": reported, "observed": observed, "heard": self.heard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._reported = deque(state["reported"], MICRO_BATCHES)
        self._observed = deque(state["observed"], MICRO_BATCHES)
        self.heard = state["heard"]


def _there(seen: Any) -> Any:
    """What a weak reference refers to; anything else itself."""
    return seen() if isinstance(seen, weakref.ref) else seen  # pyright: ignore[reportUnknownVariableType]


def value(loss: Any) -> float | Tensor:
    """A loss to be kept: a number, or a copy of a tensor that lies on an accelerator, for which nobody waits."""
    if isinstance(loss, Tensor):
        return loss.item() if loss.is_cpu else loss.detach().reshape(()).clone()
    return float(loss)


def inside(output: Any) -> Any:
    """The loss in a module's output: itself, its field or its entry "loss"; None where there is none."""
    if isinstance(output, Tensor):
        return output if output.numel() == 1 else None
    fields: Mapping[str, Any] = cast(Any, output) if isinstance(output, Mapping) else {}
    found: Any = fields.get("loss", getattr(cast(Any, output), "loss", None))
    return found if isinstance(found, Tensor) and found.numel() == 1 else None


def mean(kept: Sequence[Any]) -> Any:
    """Mean of the finite losses of one optimizer step's micro-batches, nan of none, without waiting for a device."""
    if len(kept) == 1:
        return kept[0]
    held = [x for x in kept if isinstance(x, Tensor)]
    if not held:
        finite = [x for x in kept if math.isfinite(x)]
        return sum(finite) / len(finite) if finite else math.nan
    values = torch.stack([torch.as_tensor(x, dtype=torch.float32, device=held[0].device) for x in kept])
    return torch.nanmean(torch.where(values.isfinite(), values, math.nan))


def fetch(kept: Sequence[Any], also: Tensor | None = None) -> tuple[np.ndarray, list[float]]:
    """Losses as kept -> (kept, 1) float64, and the numbers of a vector, with one wait for the device."""
    held = [x for x in kept if isinstance(x, Tensor)]
    parts = [torch.stack(held)] if held else []
    if also is not None:
        parts.append(also)
    wide = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    joined = [part.to(parts[0].device, wide) for part in parts]
    numbers = distributed.numbers(torch.cat(joined)) if parts else []
    fetched = iter(numbers)
    losses = [next(fetched) if isinstance(x, Tensor) else float(x) for x in kept]
    return np.array(losses, np.float64)[:, None], numbers[len(held) :]
