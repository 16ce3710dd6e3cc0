"""A second chance: a training that has learned nothing goes back to its start, at a lower rate.

Some models collapse at rates that do not blow their loss up: classifiers whose loss then stays at chance, transformers
that are fine-tuned among them. There a probe sees no edge, and no lower rate brings back what is lost; the weights from
before the probe do. They are kept until the training has learned something, mostly for a few decisions.

A training has learned once its loss, the mean over the intervals that the observer remembers, lies a share `LEARNED`
of the loss before training below that. One that has not when `DUE` of its steps are made is sent back, if its level is
near the highest so far and not below the anchor: a policy that has lowered the level has seen something, and where the
level is low to begin with, going lower is no remedy. One whose weights are lost before it has learned, for they are
not finite or far out, is sent back at once. A training begins again at a tenth of its highest rate, but no lower than a
probe would: below that no training learns anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.broken_losses import WILD
from lrpilot.probe import LOW

DUE = 0.25  # share of the steps
LEARNED = 0.03  # of the loss before training
NEAR = 0.5  # decades below the highest level, and below the anchor
LOWER = 1.0  # decades below the highest level


def begin_again(highest: np.ndarray) -> np.ndarray:
    """Levels (runs,) at which trainings of the highest levels `highest` begin again, and which they may not exceed."""
    return np.maximum(highest - LOWER, LOW)


def weights_lost(interval: dict[str, np.ndarray] | None, loss0: np.ndarray) -> np.ndarray:
    """(runs,) bool: whose weights are not finite, or whose loss is out of all bounds; `loss0` (runs,) was the first.

    interval: the fields of `telemetry.INTERVAL`, each (runs,); None, before there is one: nobody's.
    """
    if interval is None:
        return np.zeros(len(loss0), bool)
    mean, last, weights = (interval[name] for name in ("loss_mean", "loss_last", "weight_norm"))
    return ~(np.isfinite(last) | np.isfinite(weights)) | (mean > WILD * np.abs(loss0))


class Restart:
    """Which of `runs` trainings may still be sent back."""

    def __init__(self, runs: int, possible: bool) -> None:
        self.waiting = np.full(runs, possible)  # (runs,) those that have not learned yet: their start is to be kept

    def judge(
        self,
        progress: float,
        losses: np.ndarray,
        loss0: np.ndarray,
        level: np.ndarray,
        highest: np.ndarray,
        anchor: np.ndarray,
        collapsed: np.ndarray,
    ) -> np.ndarray:
        """(runs,) bool: which trainings are to go back to their start now; none does so twice.

        progress: share of the steps made; losses (n, runs): mean losses of the last intervals, latest first, nan for
        those before the training; loss0 (runs,): loss before training; level, highest, anchor (runs,): in decades;
        collapsed (runs,) bool: whose weights are lost.
        """
        if not np.count_nonzero(self.waiting):
            return self.waiting
        gained = loss0 - losses.mean(axis=0)  # nan until there are as many intervals
        self.waiting &= ~(gained >= LEARNED * np.abs(loss0))
        back = self.waiting & collapsed
        if progress < DUE:
            self.waiting &= ~back
            return back
        back |= self.waiting & np.isfinite(gained) & (level > np.maximum(highest, anchor) - NEAR)
        self.waiting = np.zeros_like(back)
        return back

    def state_dict(self) -> dict[str, Any]:
        """Which trainings may still be sent back, as a list of bools."""
        return {"waiting": self.waiting.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of as many runs."""
        self.waiting = np.array(state["waiting"], bool).reshape(self.waiting.shape)
