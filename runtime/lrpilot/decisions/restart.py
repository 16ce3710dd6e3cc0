"""A second chance: a training that is ruined goes back to a copy of its weights, and goes on at a lower rate.

There is one copy at a time, of one of two states:

- *The start*, from before the probe. Some models collapse at rates that do not blow their loss up: classifiers whose
  loss then stays at chance, transformers that are fine-tuned among them. There a probe sees no edge, and no lower rate
  brings back what is lost. So the start is kept until the training has learned something, mostly for a few decisions.
- *The state before a rise*, from the decision that raised the level of a training that has learned. It is kept for
  `WATCHED` decisions.

A training has learned once nearly all of its latest losses lie below the median of those before training. Many healthy
trainings learn nothing for long: a plateau is no reason to begin again. One that has not learned when `DUE` of the
steps after its warm-up are made is sent back to its start only if its weights are damaged as well. They are where the
loss is above that before training, or has been since it began, or where the gradient has nearly vanished. One whose
weights are lost before it has learned, for they are not finite or its loss is out of all bounds, is sent back at once.
It begins again at a tenth of its highest rate, but no lower than a probe would: below that no training learns anything.
This happens once. If it has learned nothing in as many steps as it had for that, the rate was not the cause, and it
gets its level back.

After a rise, a training whose weights are lost is sent back to the level before the rise. Should it lose them again,
it goes `FURTHER` below that. A loss that is merely high is the guards' business: its cause may not be the rate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lrpilot.probing.probe_curve import LOW

DUE = 0.25  # share of the steps after the warm-up
VANISHED = 0.01  # of the gradient norm before training
NEAR = 0.5  # decades below the highest level, and below the anchor
LOWER = 1.0  # decades below the highest level
WATCHED = 4  # decisions for which a rise can be undone
RAISED = 1e-9  # decades; a smaller rise is rounding
FURTHER = 0.5  # decades
WILD = 1e4  # times what the loss scatters or has gained, by which a loss above its start is out of all bounds

SENT_BACK = ("collapsed", "no_progress", "rise_undone")  # events of a training that goes back to a copy

STATE = ("unlearned", "damaged", "watch", "return_level", "due_again", "level_before_restart", "grad0")


class SentBack(NamedTuple):
    """Trainings that go back to their copies; all (runs,)."""

    which: np.ndarray  # bool
    level: np.ndarray  # decades at which they go on, and which they may not exceed
    event: np.ndarray  # its name


class Restart:
    """Which of `runs` trainings may be sent back, and where to. `possible`: whether any copies are made."""

    def __init__(self, runs: int, possible: bool) -> None:
        self._possible = possible
        self.unlearned = np.full(runs, possible)  # (runs,) those that have not learned yet: their start is to be kept
        self.damaged = np.zeros(runs, bool)  # (runs,) those of them whose weights are damaged
        self.watch = np.zeros(runs)  # (runs,) decisions for which the copy from before a rise is to be kept
        self.return_level = np.full(runs, np.nan)  # (runs,) level at which it goes on from there
        self.due_again = np.full(runs, np.inf)  # (runs,) step at which a second beginning has to have helped
        self.level_before_restart = np.full(runs, np.nan)  # (runs,) level before that beginning
        self.grad0 = np.full(runs, np.nan)  # (runs,) gradient norm before training

    def begin(self, which: np.ndarray, norms: np.ndarray) -> None:
        """Remember gradient norms (runs, n) of the runs `which` before training; nan stands for none."""
        for i in np.flatnonzero(which).tolist():
            known = norms[i, np.isfinite(norms[i])]
            self.grad0[i] = np.median(known) if len(known) else np.nan

    @property
    def keeps_copy(self) -> np.ndarray:
        """(runs,) bool: whether the copy of a run may still be needed."""
        return self.unlearned | (self.watch > 0)

    def judge(
        self,
        step: int,
        due: np.ndarray,
        learned: np.ndarray,
        damaged: np.ndarray,
        level: np.ndarray,
        high: np.ndarray,
        lost: np.ndarray,
    ) -> SentBack | None:
        """Decide which trainings go back to their copies now; None where there is no copy to go back to.

        step: completed ones; due (runs,): the steps by which a training has to have learned; learned, damaged, lost
        (runs,) bool: whether it has, and what is known of its weights; level, high (runs,): the present level, and the
        highest so far or the anchor, if that is higher.
        """
        if not self.keeps_copy.any():
            return None
        self.unlearned = self.unlearned & ~learned
        self.damaged = self.unlearned & (self.damaged | damaged)
        late = self.unlearned & (step >= due)
        begin = self.unlearned & (lost | (late & self.damaged & (level > high - NEAR)))
        self.unlearned = self.unlearned & ~(late | begin)
        self.due_again = np.where(begin, step + due, self.due_again)
        self.level_before_restart = np.where(begin, level, self.level_before_restart)
        ruined = (self.watch > 0) & lost
        lower = np.where(begin, np.maximum(high - LOWER, LOW), self.return_level)
        event = np.where(ruined, "rise_undone", np.where(lost, "collapsed", "no_progress"))
        self.watch = np.where(ruined, WATCHED, np.maximum(self.watch - 1, 0))
        self.return_level = self.return_level - np.where(ruined, FURTHER, 0.0)
        return SentBack(begin | ruined, lower, event)

    def in_vain(self, step: int, learned: np.ndarray) -> np.ndarray:
        """Say for which trainings (runs,) bool a restart was in vain; `learned` (runs,) bool says who has learned."""
        over = step >= self.due_again
        self.due_again = np.where(over | learned, np.inf, self.due_again)
        return over & ~learned

    def note(self, before: np.ndarray, after: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Say of which runs (runs,) bool the state is to be copied now, because a decision has raised their level.

        before, after (runs,): levels; back (runs,) bool: who was sent back by that decision, and has a copy.
        """
        raised = (after > before + RAISED) & ~(self.unlearned | back) & self._possible
        self.watch = np.where(raised, WATCHED, self.watch)
        self.return_level = np.where(raised, before, self.return_level)
        return raised

    def state_dict(self) -> dict[str, Any]:
        """The state's arrays as lists."""
        return {name: getattr(self, name).tolist() for name in STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of as many runs."""
        for name in STATE:
            mine = getattr(self, name)
            setattr(self, name, np.array(state[name], mine.dtype).reshape(mine.shape))
