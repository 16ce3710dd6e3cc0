"""What people pass in the place of a loss: the number of an epoch, or an accuracy. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor

LARGEST = 512  # examples of a batch: an accuracy is a fraction of them
EXACT = 1e-7  # by which a number in float32 misses the fraction it stands for
DISTINCT = 3  # values of an interval, at least: 0 and 1 alone may be anything


def is_epoch(loss: Any) -> bool:
    """Whether it is an int, as in `scheduler.step(epoch)`, which torch deprecates; a loss is a float."""
    return isinstance(loss, int) and not isinstance(loss, bool)


class AccuracyWatch:
    """Notices that the losses of a training are accuracies: fractions of a batch, from 0 to 1, that rise.

    A loss that has a gradient is none. A percentage counts as well.
    """

    def __init__(self) -> None:
        self.differentiable = False  # whether a loss had a gradient: there is nothing left to notice
        self._first: float | None = None  # mean of the first interval

    def note(self, loss: Any) -> None:
        """Look at a loss as the loop reports it."""
        self.differentiable = isinstance(loss, Tensor) and loss.requires_grad

    def judge(self, losses: Sequence[float]) -> bool:
        """Whether the losses of an interval, and those before, are accuracies."""
        if self.differentiable or len(set(losses)) < DISTINCT or not _are_shares(losses):
            return False
        mean = sum(losses) / len(losses)
        if self._first is None:
            self._first = mean
        return mean > 1.1 * self._first


def _are_shares(losses: Sequence[float]) -> bool:
    return any(all(map(_is_share, values)) for values in (losses, [loss / 100 for loss in losses]))


def _is_share(value: float) -> bool:
    """Whether a number is a fraction of at most LARGEST; nearly no number of float32 is by chance."""
    return 0 <= value <= 1 and abs(float(Fraction(value).limit_denominator(LARGEST)) - value) <= EXACT
