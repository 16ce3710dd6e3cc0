"""One training of the battery: what it trains, and which arguments PilotLR gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

from torch import Generator, nn

from benchmarks.harmless.data import Sample
from benchmarks.harmless.losses import Loss


@dataclass(frozen=True)
class Case:
    """One training. `data`, `network` and `loss` are functions of this package's modules, or partials of them."""

    name: str
    kind: str  # of difficulty
    data: Callable[[Generator], Sample]
    network: Callable[[], nn.Module]
    loss: Loss
    length: int  # epochs, or with fresh batches optimizer steps
    examples: int | None = 1024  # None: every batch is fresh
    batch: int = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    clip: float | None = None
    arguments: Literal["data", "steps"] = "data"  # PilotLR gets epochs and the loader, or total_steps alone
    loop: Literal["plain", "transformers", "lightning"] = "plain"
    scale: float = 1.0  # training minimises `scale` times the loss plus `offset`
    offset: float = 0.0
    floor: float = 0.0  # no network has a lower validation loss

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.length if self.examples is None else self.length * -(-self.examples // self.batch)

    def key(self) -> tuple[str, ...]:
        """All that the case says, as text that is the same in every process."""
        return tuple(
            f"{f.name}={_text(getattr(self, f.name))}" for f in fields(self) if f.name not in ("kind", "floor")
        )


def _text(value: Any) -> str:
    if isinstance(value, partial):
        words = {name: _text(word) for name, word in sorted(value.keywords.items())}
        return f"{_text(value.func)}({[_text(word) for word in value.args]}, {words})"
    return value.__qualname__ if callable(value) else repr(value)
