"""Losses that trainings minimise, other than the plain mean that they are evaluated on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Smoothed:
    """Cross entropy with label smoothing: outputs (..., classes), targets (...)."""

    share: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        flat = outputs.flatten(0, -2), targets.flatten()
        return nn.functional.cross_entropy(*flat, label_smoothing=self.share)


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Quadratic up to a difference of 1, linear beyond; twice torch's, so that small ones count as squared."""
    return 2 * nn.functional.huber_loss(outputs, targets)


@dataclass(frozen=True)
class Summed:
    """A mean loss over a batch (B, ...) taken as the sum over its examples, or over all its predictions."""

    loss: Loss
    over_predictions: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        count = targets.numel() if self.over_predictions else len(targets)
        return count * self.loss(outputs, targets)


@dataclass(frozen=True)
class Scaled:
    """A loss times a constant, as losses in other units and weighted terms have it."""

    loss: Loss
    factor: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * self.loss(outputs, targets)
