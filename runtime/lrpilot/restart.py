"""A second chance: a training that is ruined goes back to a copy of its weights, and goes on at a lower rate.

There is one copy at a time, of one of two states:

- *The start*, from before the probe. Some models collapse at rates that do not blow their loss up: classifiers whose
  loss then stays at chance, transformers that are fine-tuned among them. There a probe sees no edge, and no lower rate
  brings back what is lost. So the start is kept until the training has learned something, mostly for a few decisions.
- *The state before a rise*, from the decision that raised the level of a training that has learned. It is kept for
  `WATCHED` decisions.

A training has learned once its loss, the mean over the intervals that the observer remembers, lies a share `LEARNED`
of the loss before training below that. One that has not when `DUE` of its steps are made is sent back to its start, if
its level is near the highest so far and not below the anchor: a policy that has lowered the level has seen something,
and where the level is low to begin with, going lower is no remedy. One whose weights are lost before it has learned,
for they are not finite or far out, is sent back at once. It begins again at a tenth of its highest rate, but no lower
than a probe would: below that no training learns anything. This happens once.

After a rise, a training whose weights are lost is sent back to the level before the rise. Should it lose them again,
it goes `FURTHER` below that. A loss that is merely high is the guards' business: its cause may not be the rate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lrpilot.broken_losses import WILD
from lrpilot.probe import LOW

DUE = 0.25  # share of the steps
LEARNED = 0.03  # of the loss before training
NEAR = 0.5  # decades below the highest level, and below the anchor
LOWER = 1.0  # decades below the highest level
WATCHED = 4  # decisions for which a rise can be undone
RAISED = 1e-9  # decades; a smaller rise is rounding
FURTHER = 0.5  # decades

SENT_BACK = ("collapsed", "no_progress", "rise_undone")  # events of a training that goes back to a copy

STATE = ("waiting", "watch", "way_back")


class SentBack(NamedTuple):
    """Trainings that go back to their copies; all (runs,)."""

    which: np.ndarray  # bool
    level: np.ndarray  # decades at which they go on, and which they may not exceed
    event: np.ndarray  # its name


def weights_lost(interval: dict[str, np.ndarray] | None, loss0: np.ndarray) -> np.ndarray:
    """(runs,) bool: whose weights are not finite, or whose loss is out of all bounds; `loss0` (runs,) was the first.

    interval: the fields of `telemetry.INTERVAL`, each (runs,); None, before there is one: nobody's.
    """
    if interval is None:
        return np.zeros(len(loss0), bool)
    mean, last, weights = (interval[name] for name in ("loss_mean", "loss_last", "weight_norm"))
    return ~(np.isfinite(last) | np.isfinite(weights)) | (mean > WILD * np.abs(loss0))


class Restart:
    """Which of `runs` trainings may be sent back, and where to. `possible`: whether any copies are made."""

    def __init__(self, runs: int, possible: bool) -> None:
        self._possible = possible
        self.waiting = np.full(runs, possible)  # (runs,) those that have not learned yet: their start is to be kept
        self.watch = np.zeros(runs)  # (runs,) decisions for which the copy from before a rise is to be kept
        self.way_back = np.full(runs, np.nan)  # (runs,) level to go back to from there

    @property
    def keeps_copy(self) -> np.ndarray:
        """(runs,) bool: whose copy may still be needed."""
        return self.waiting | (self.watch > 0)

    def judge(
        self,
        progress: float,
        losses: np.ndarray,
        loss0: np.ndarray,
        level: np.ndarray,
        highest: np.ndarray,
        anchor: np.ndarray,
        lost: np.ndarray,
    ) -> SentBack | None:
        """Which trainings are to go back to their copies now; None where there is no copy to go back to.

        progress: share of the steps made; losses (n, runs): mean losses of the last intervals, latest first, nan for
        those before the training; loss0 (runs,): loss before training; level, highest, anchor (runs,): in decades;
        lost (runs,) bool: whose weights are lost.
        """
        if not np.count_nonzero(self.keeps_copy):
            return None
        begin = self._nothing_learned(progress, losses, loss0, level, np.maximum(highest, anchor), lost)
        ruined = (self.watch > 0) & lost
        lower = np.where(begin, np.maximum(highest - LOWER, LOW), self.way_back)
        event = np.where(ruined, "rise_undone", np.where(lost, "collapsed", "no_progress"))
        self.watch = np.where(ruined, WATCHED, np.maximum(self.watch - 1, 0))
        self.way_back = self.way_back - np.where(ruined, FURTHER, 0.0)
        return SentBack(begin | ruined, lower, event)

    def _nothing_learned(
        self,
        progress: float,
        losses: np.ndarray,
        loss0: np.ndarray,
        level: np.ndarray,
        high: np.ndarray,
        lost: np.ndarray,
    ) -> np.ndarray:
        """(runs,) bool: which trainings are to begin again; none does so twice."""
        gained = loss0 - losses.mean(axis=0)  # nan until there are as many intervals
        self.waiting = self.waiting & ~(gained >= LEARNED * np.abs(loss0))
        back = self.waiting & lost
        if progress >= DUE:
            back |= self.waiting & np.isfinite(gained) & (level > high - NEAR)
            self.waiting = np.zeros_like(back)
        self.waiting = self.waiting & ~back
        return back

    def note(self, before: np.ndarray, after: np.ndarray, back: np.ndarray) -> np.ndarray:
        """(runs,) bool: whose state is to be copied now, for a decision has raised their level.

        before, after (runs,): levels; back (runs,) bool: who was sent back by that decision, and has a copy.
        """
        raised = (after > before + RAISED) & ~(self.waiting | back) & self._possible
        self.watch = np.where(raised, WATCHED, self.watch)
        self.way_back = np.where(raised, before, self.way_back)
        return raised

    def state_dict(self) -> dict[str, Any]:
        """The state's arrays as lists."""
        return {name: getattr(self, name).tolist() for name in STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of as many runs."""
        for name in STATE:
            mine = getattr(self, name)
            setattr(self, name, np.array(state[name], mine.dtype).reshape(mine.shape))
