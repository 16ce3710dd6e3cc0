"""The statistic behind the probe's edge and the guard's alarms: how many losses lie above a line.

A line is the median of reference losses, plus `WIDTH` of their scatter, or plus what nine of ten successive differences
do not exceed, if that is more. So batches of which one in ten is an outlier, and losses that are 0 or 1, have a line
that few of their losses pass. Evidence is that nearly all of the latest losses, each of another batch, lie above it.
One loss never is.

Everything is a difference or a rank. So nothing changes if a constant is added to the loss, or the loss is scaled. The
scatter comes from successive differences, to which a trend adds little. Of these, the largest quarter is left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WIDTH = 4.0  # scatters,
DOUBT = 3.0  # and this much more, over the number of differences: few of them may be small by luck
USUAL = 0.9  # share of the differences that a line allows for, whatever their size
INNER = 0.75  # share of the differences that count as scatter; an outlier spoils two
NORMAL = 0.728  # mean size of the inner differences of Gaussian losses of deviation 1
RECENT = 8  # losses whose median is the centre

REFERENCE = 16  # losses that the latest are compared with, at most
FEWEST = 5  # at least
LATEST = 10  # latest losses
AGREE = 9  # of them have to lie on one side
MOST = 19  # of REFERENCE + LATEST: as unlikely by luck
STATE = ("start", "best", "past", "earlier", "fresh")


def scatter(moves: np.ndarray) -> np.ndarray:
    """Scale (runs,) of a loss whose successive differences have the sizes `moves` (runs, n), n at least 1.

    Of Gaussian losses it is the standard deviation.
    """
    inner = math.ceil(INNER * moves.shape[1])
    return np.add.reduce(np.partition(moves, inner - 1, axis=1)[:, :inner], axis=1) / (inner * NORMAL)


def rise(reference: np.ndarray) -> float:
    """Return how far the line lies above the median of `reference` (n,), n at least 2, oldest first.

    A loss that never moves says nothing of how it moves: inf.
    """
    moves = np.sort(np.abs(np.diff(reference)))
    if not moves[-1]:
        return math.inf
    usual = moves[math.ceil(USUAL * len(moves)) - 1]
    return float(max(WIDTH * (1 + DOUBT / len(moves)) * scatter(moves[None])[0], usual))


def line(reference: np.ndarray) -> float:
    """The line of losses that follow `reference` (n,), n at least 2, oldest first."""
    return float(np.median(reference[-RECENT:])) + rise(reference)


class Losses:
    """What `runs` trainings have reported: the latest losses against those at the start and at the best time.

    `start`, `best` (runs, REFERENCE) and `past` (runs, REFERENCE + LATEST) hold losses, latest last, nan where there
    are none yet. `earlier` (runs, REFERENCE) are those before the latest interval, and before the losses that are
    judged: whatever happens now does not widen the line that it is compared with. `fresh` (runs,) counts losses since
    the last alarm: none is judged twice.
    """

    def __init__(self, runs: int) -> None:
        self.start, self.best, self.earlier = np.full((3, runs, REFERENCE), np.nan)
        self.past = np.full((runs, REFERENCE + LATEST), np.nan)
        self.fresh = np.zeros(runs)

    def begin(self, which: np.ndarray, losses: np.ndarray) -> None:
        """Remember losses (runs, n) from before training, nan for none, of the runs `which` (runs,) bool.

        Of a run with too few the first losses of the training will stand for them.
        """
        for i in np.flatnonzero(which & (np.isfinite(losses).sum(axis=1) >= FEWEST)):
            self.start[i] = _latest(losses[i], REFERENCE)

    def begin_again(self, which: np.ndarray) -> None:
        """Forget what the runs `which` (runs,) bool have done since their start."""
        self.best[which] = self.past[which] = self.earlier[which] = np.nan
        self.fresh[which] = 0.0

    def add(self, losses: np.ndarray) -> None:
        """Take in the losses (n, runs) of an interval, oldest first; what is not finite is left out."""
        for i, new in enumerate(losses.T):
            new = new[np.isfinite(new)]
            every = np.concatenate([self.past[i], new])
            self.past[i] = _latest(every, self.past.shape[1])
            self.earlier[i] = _latest(every[: len(every) - max(len(new), LATEST)], REFERENCE)
            self.fresh[i] += len(new)
            earlier = _known(self.past[i, :REFERENCE])
            if len(earlier) < FEWEST:
                continue
            if np.isnan(self.start[i]).all():
                self.start[i] = self.past[i, :REFERENCE]  # without a probe, the first losses of the training
            if not np.median(earlier) >= np.median(_known(self.best[i]) if np.isfinite(self.best[i]).any() else np.inf):
                self.best[i] = self.past[i, :REFERENCE]

    @property
    def middle(self) -> np.ndarray:
        """(runs,) median of the latest losses; inf of too few."""
        latest = self.past[:, -LATEST:]
        return np.where(np.isnan(latest).any(axis=1), np.inf, np.median(latest, axis=1))

    def above_start(self) -> np.ndarray:
        """(runs,) bool: whether the latest losses lie above the line of those before training."""
        return self._above(self.start)

    def given_back(self, share: float) -> np.ndarray:
        """(runs,) bool: whether the latest losses lie above the line of the best time, by a share of the gain."""
        gained = _medians(self.start) - _medians(self.best)
        return self._above(self.best) & ~(self.middle - _medians(self.best) < share * gained)

    def below_start(self) -> np.ndarray:
        """(runs,) bool: whether the latest losses lie below the median of those before training, or most of many."""
        with np.errstate(invalid="ignore"):
            below = self.past < _medians(self.start)[:, None]
        return (below[:, -LATEST:].sum(axis=1) >= AGREE) | (below.sum(axis=1) >= MOST)

    def clearly_below_start(self) -> np.ndarray:
        """(runs,) bool: whether that holds and their median lies a scatter, of the losses before training, below."""
        below, middle = self.below_start(), self.middle
        for i in np.flatnonzero(below):
            start = _known(self.start[i])
            below[i] = np.median(start) - middle[i] >= scatter(np.abs(np.diff(start))[None])[0]
        return below

    def out_of_bounds(self, loss: np.ndarray, times: float) -> np.ndarray:
        """(runs,) bool: whether a loss (runs,) lies above the start by so many times its scatter, gain or size.

        Some losses hardly scatter at first. That they rise far for their scatter does not say that weights are lost.
        """
        out = np.zeros(len(loss), bool)
        for i in np.flatnonzero(np.isfinite(loss) & np.isfinite(self.start).any(axis=1)):
            start, best = _known(self.start[i]), _known(self.best[i])
            before = np.median(start)
            unit = max(rise(start) / WIDTH, before - np.median(best) if len(best) else 0.0, abs(before))
            out[i] = loss[i] - before > times * unit
        return out

    def refer(self, best: np.ndarray, start: np.ndarray) -> None:
        """Take the latest losses of the runs `best` and `start`, (runs,) bool, as what later ones are compared with."""
        latest = np.full(self.best.shape, np.nan)
        latest[:, -LATEST:] = self.past[:, -LATEST:]
        self.best[best], self.start[start] = latest[best], latest[start]
        self.past[best | start, :-LATEST] = np.nan  # lest what was better before be the best time again
        self.fresh[best | start] = 0.0

    def accept(self, which: np.ndarray) -> None:
        """Take the latest losses of the runs `which` (runs,) bool as their start, if they lie above the start."""
        self.refer(which, which & (self.middle > _medians(self.start)))

    def _above(self, references: np.ndarray) -> np.ndarray:
        out = np.zeros(len(references), bool)
        for i in np.flatnonzero(self.fresh >= LATEST):
            reference, earlier = _known(references[i]), _known(self.earlier[i])
            if len(reference) >= FEWEST:
                away = max(rise(reference), rise(earlier) if len(earlier) >= FEWEST else 0.0)
                out[i] = np.count_nonzero(self.past[i, -LATEST:] > np.median(reference) + away) >= AGREE
        return out

    def state_dict(self) -> dict[str, Any]:
        """The arrays as nested lists of floats, nan among them."""
        return {name: getattr(self, name).tolist() for name in STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name in STATE:
            setattr(self, name, np.array(state[name], np.float64).reshape(getattr(self, name).shape))


def _known(losses: np.ndarray) -> np.ndarray:
    return losses[np.isfinite(losses)]


def _latest(losses: np.ndarray, most: int) -> np.ndarray:
    """The last finite ones of `losses` (n,), with nan before them where they are fewer than `most`."""
    losses = _known(losses)[-most:]
    return np.concatenate([np.full(most - len(losses), np.nan), losses])


def _medians(losses: np.ndarray) -> np.ndarray:
    """Return the medians (runs,) of the finite losses among (runs, n), nan where there are none."""
    return np.array([np.median(_known(row)) if np.isfinite(row).any() else np.nan for row in losses])
