"""The random draws of a training, dropout and augmentation. They depend only on the run's seed and the step.

So a run repeats bit for bit whatever trains with it, and runs with one seed share their draws whatever their learning
rates are. Dropout masks are bytes, one for each element; the probability is rounded to 256ths.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LEVELS = 256
TAG = 0xD70
DROPOUTS = {  # function -> axes of its input that a mask has, from the front; the whole element drops over the others
    functional.dropout: None, functional.dropout1d: 2, functional.dropout2d: 2, functional.dropout3d: 2,
}  # fmt: skip


def mask_bytes(seed: int, step: int, count: int) -> np.ndarray:
    """(count,) uint8 for run `seed` at `step`. The generator is counter-based, so any step can be drawn directly."""
    if not count:
        return np.empty(0, np.uint8)
    raw = np.random.Philox(key=[seed, TAG], counter=[0, 0, 0, step]).random_raw(-(-count // 8))
    return raw.view(np.uint8)[:count]


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators seeded for run `seed` at `step`, and put back afterwards."""
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0x94D049BB133111EB % 2**64 >> 32  # splitmix64's finish (Steele et al. 2014)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.default_generator.manual_seed(mixed)
        if device.type == "cuda":
            torch.cuda.manual_seed(mixed)
        yield


class Dropout(TorchFunctionMode):
    """Inside this context, every dropout takes its mask from the given bytes (n,), in the order of the calls."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self._given, self.count = given, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DROPOUTS:
            return self._drop(func, bound(func, args, kwargs))
        return func(*args, **(kwargs or {}))

    def _drop(self, func: Any, call: Mapping[str, Any]) -> Tensor:
        x, axes = call["input"], DROPOUTS[func]
        lost = round(call["p"] * LEVELS)
        if not call["training"] or lost == 0:
            return x
        masked = x.shape[:axes]
        mine = slice(self.count, self.count + masked.numel())
        self.count = mine.stop
        if lost == LEVELS:
            return x * 0.0
        stays = (self._given[mine] >= lost).to(x.dtype).view(*masked, *[1] * (x.ndim - len(masked)))
        return x * (stays * (LEVELS / (LEVELS - lost)))


class Counted(Dropout):
    """Counts the bytes that a forward pass needs, with masks that drop nothing."""

    def __init__(self) -> None:
        super().__init__(torch.empty(0, dtype=torch.uint8))

    def _drop(self, func: Any, call: Mapping[str, Any]) -> Tensor:
        x, axes = call["input"], DROPOUTS[func]
        if call["training"] and round(call["p"] * LEVELS):
            self.count += x.shape[:axes].numel()
        return x


def bound(func: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    """The arguments of a call by name, defaults included."""
    call = inspect.signature(func).bind(*args, **(kwargs or {}))
    call.apply_defaults()
    return call.arguments
