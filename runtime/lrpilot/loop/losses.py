"""The losses of a training, from the loop's report to the end of an interval. Needs torch.

A loop reports numbers, tensors on any device, or outputs that hold one. The losses of an optimizer step's
micro-batches become the step's loss, those of steps the interval's. Nobody waits for a device before the interval ends.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lrpilot.loop import distributed
from lrpilot.loop.arguments import scalar
from lrpilot.loop.calls import uncompiled

T = TypeVar("T")
MICRO_BATCHES = 1024  # losses of one optimizer step, at most; the latest count


class LossBuffer:
    """The losses of the interval under way: those of its completed steps, and those of the step that is not complete.

    Only losses that the pilot wants are stored, so that the buffer stays small.
    """

    def __init__(self) -> None:
        self._steps: list[Any] = []  # of completed steps
        self._reported: deque[Any] = deque(maxlen=MICRO_BATCHES)  # of the step under way
        self._observed: deque[Any] = deque(maxlen=MICRO_BATCHES)
        self._latest: Any = None  # reported last; of a tensor a weak reference
        self.has_loss = False  # whether the step under way has a loss, stored or not

    @property
    def latest(self) -> Any:
        """The stored loss of the step under way that came last, a reported one before an observed one, or None."""
        losses = self._reported or self._observed
        return losses[-1] if losses else None

    def report(self, loss: Any, wanted: bool, again: bool) -> None:
        """Take the loss that `step` was given, and store it where `wanted`.

        `again`: no optimizer step was made since the last one; the very same object then counts once, because
        Accelerate steps a scheduler once per process.
        """
        if again and loss is _referent(self._latest):
            return
        self._latest = weakref.ref(loss) if isinstance(loss, Tensor) else loss
        self.has_loss = True
        if wanted:
            self._reported.append(value(loss))

    def observe(self, loss: Any, wanted: bool) -> None:
        """Take a loss that counts where none is reported."""
        self.has_loss = True
        if wanted:
            self._observed.append(value(loss))

    def take(self) -> Any:
        """The loss of the step under way, None if it has none; the next step begins."""
        self.has_loss = False
        if len(self._reported) == 1 and not self._observed:
            return self._reported.pop()
        losses = self._reported or self._observed
        loss = mean(losses) if losses else None
        self._reported.clear()
        self._observed.clear()
        return loss

    def end_step(self, wanted: bool) -> None:
        """Let the loss of the step under way count in the interval, where there is one and it is `wanted`."""
        if not (self._reported or self._observed):
            self.has_loss = False
            return
        loss = self.take()
        if wanted:
            self._steps.append(loss)

    def close(self, window: Tensor) -> tuple[list[float], list[float]]:
        """End the interval: its losses and the numbers of `window`, a vector, with one wait for the device."""
        losses, numbers = fetch(self._steps, window)
        self._steps = []
        return losses, numbers

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values."""
        reported, observed = ([float(x) for x in losses] for losses in (self._reported, self._observed))
        return {"steps": fetch(self._steps)[0], "reported": reported, "observed": observed, "has_loss": self.has_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._steps = list(state["steps"])
        self._reported = deque(state["reported"], MICRO_BATCHES)
        self._observed = deque(state["observed"], MICRO_BATCHES)
        self.has_loss = state["has_loss"]


def _referent(loss: Any) -> Any:
    """What a weak reference refers to; anything else itself."""
    return loss() if isinstance(loss, weakref.ref) else loss  # pyright: ignore[reportUnknownVariableType]


def value(loss: Any) -> float | Tensor:
    """A loss to be stored: a number, or a copy of a tensor that lies on an accelerator, for which nobody waits.

    Raises TypeError for what is no number, ValueError for a tensor with more than one.
    """
    scalar("loss", loss)
    if isinstance(loss, Tensor):
        return loss.item() if loss.is_cpu else loss.detach().reshape(()).clone()
    return float(loss)


def inside(output: Any) -> Any:
    """The loss in a module's output: itself, its field or its entry "loss"; None where there is none."""
    if isinstance(output, Tensor):
        return output if output.numel() == 1 else None
    fields: Mapping[str, Any] = cast(Any, output) if isinstance(output, Mapping) else {}
    loss: Any = fields.get("loss", getattr(cast(Any, output), "loss", None))
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None


def watch(module: nn.Module, listener: T, take: Callable[[T, nn.Module, Any], None]) -> RemovableHandle:
    """Call `take(listener, module, loss)` for each output of a module that trains, as long as there is the listener."""
    reference = weakref.ref(listener)

    def hook(module: nn.Module, _: Any, output: Any) -> None:
        alive = reference()
        if alive is not None and module.training and torch.is_grad_enabled():
            take(alive, module, inside(output))

    return module.register_forward_hook(uncompiled(hook))


def mean(losses: Sequence[Any]) -> Any:
    """Mean of the finite losses of one optimizer step's micro-batches, nan of none, without waiting for a device."""
    if len(losses) == 1:
        return losses[0]
    tensors = [x for x in losses if isinstance(x, Tensor)]
    if not tensors:
        finite = [x for x in losses if math.isfinite(x)]
        return sum(finite) / len(finite) if finite else math.nan
    values = torch.stack([torch.as_tensor(x, dtype=torch.float32, device=tensors[0].device) for x in losses])
    return torch.nanmean(torch.where(values.isfinite(), values, math.nan))


def fetch(losses: Sequence[Any], vector: Tensor | None = None) -> tuple[list[float], list[float]]:
    """Stored losses as numbers, and the numbers of a vector, with one wait for the device."""
    tensors = [x for x in losses if isinstance(x, Tensor)]
    if not tensors:
        return [*map(float, losses)], [] if vector is None else distributed.numbers(vector)
    parts = [torch.stack(tensors)]
    if vector is not None:
        parts.append(vector)
    wide = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    joined = [part.to(parts[0].device, wide) for part in parts]
    numbers = distributed.numbers(torch.cat(joined))
    fetched = iter(numbers)
    return [next(fetched) if isinstance(x, Tensor) else float(x) for x in losses], numbers[len(tensors) :]
