"""The probe: a scripted range test on the training's own batches, rolled back afterwards.

The learning rate climbs geometrically from far too low, one step per rate, until the smoothed loss has risen by half
over its best or is not finite (after Smith 2017, arXiv:1506.01186, section 3.3). The caller then puts the weights and
the optimizer back where they were; what stays is a curve of loss and gradient norm against learning rate, and its
landmarks. All arrays lead with the axis of runs: one training has one run.

A loss that breaks without any announcement is left out, and the weights are put back at once (`broken_losses` says why,
and how often). Before its last step a curve is nan there: a gap, over which smoothing and noise go on as if those steps
had not been made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lrpilot.broken_losses import FIRST, SKIPS, WILD, BrokenLosses

LOW, HIGH = -2.5, 3.5  # level z of the first and of the last probed rate, decades
SMOOTHING = 0.3  # decades over which the loss is averaged
RISE = 0.5  # relative rise over the best smoothed loss that ends the probe
NOISE = 4.0  # a rise below this many standard deviations of the smoothed batch noise is none
LUCK = 2.0  # standard deviations by which the best smoothed loss counts as worse, lest a lucky draw be the best
SETTLE = 4  # steps before a rise can end the probe
FLAT = 1.0  # decades at the start whose mean loss is "the loss before training"


@cache
def levels(probe_steps: int) -> np.ndarray:
    """(probe_steps,) level z of each probing step; not to be written to."""
    z = np.linspace(LOW, HIGH, probe_steps)
    z.setflags(write=False)
    return z


@dataclass(frozen=True)
class Landmarks:
    """What a probe's curve says, per run; levels in decades, all (runs,) or (runs, probe_steps)."""

    loss0: np.ndarray  # mean loss at the lowest rates
    blowup: np.ndarray  # level after which the loss had blown up, or HIGH
    blown: np.ndarray  # bool: the loss did blow up
    lowest: np.ndarray  # level after which the smoothed loss was lowest
    steepest: np.ndarray  # level of the steepest smoothed descent
    noise: np.ndarray  # standard deviation of the batch loss at the lowest rates, relative to loss0
    smooth: np.ndarray  # (runs, probe_steps) smoothed loss after training with each level, nan past the end


def smoothing(probe_steps: int) -> float:
    """Factor of the exponential average whose memory is SMOOTHING decades."""
    return float(np.exp(-(HIGH - LOW) / max(probe_steps - 1, 1) / SMOOTHING))


def smooth_curve(loss: np.ndarray, keep: float) -> np.ndarray:
    """Bias-corrected exponential average of loss (runs, steps) along the steps; nan stays nan from there on."""
    total, out = np.zeros(len(loss)), np.empty_like(loss)
    for j in range(loss.shape[1]):
        total = keep * total + (1 - keep) * loss[:, j]
        out[:, j] = total / (1 - keep ** (j + 1))
    return out


def _noise(loss: np.ndarray) -> np.ndarray:
    """Standard deviation (runs,) of the batch loss from successive differences, blind to a trend."""
    return _deviation(np.diff(loss, axis=1) ** 2)


def _deviation(squares: np.ndarray) -> np.ndarray:
    """The same from the squares of the differences (runs, n); np.mean would take longer than all the rest."""
    return np.sqrt(np.add.reduce(squares, axis=1) / squares.shape[1] / 2)


@cache
def _widths(probe_steps: int) -> np.ndarray:
    """(probe_steps,) deviation of the smoothed loss over that of a batch, after so many losses."""
    keep = smoothing(probe_steps)
    # The first values average few losses: a bias-corrected average of j losses has this deviation.
    left = keep ** np.arange(1, probe_steps + 1)
    return np.sqrt((1 - keep) / (1 + keep) * (1 + left) / (1 - left))


def _has_risen(curve: np.ndarray, noise: np.ndarray, widths: np.ndarray, share: float = 1.0) -> np.ndarray:
    """(runs,) bool: whether the end of a curve (runs, n) lies above its best by what ends a probe, or a share of it."""
    n = curve.shape[1]
    if n <= SETTLE:
        return np.zeros(len(curve), bool)
    spread = noise[:, None] * widths[:n]
    best = np.minimum.reduce(curve + LUCK * spread, axis=1)
    return curve[:, -1] > best + share * np.maximum(RISE * np.abs(best), NOISE * spread[:, -1])


def _alike(loss: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of loss (runs, n) that are finite in the same columns, these columns, and what stands there."""
    masks, group = np.unique(np.isfinite(loss), axis=0, return_inverse=True)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(group.ravel() == i), np.flatnonzero(mask)
        yield rows, columns, np.ascontiguousarray(loss[np.ix_(rows, columns)])  # the order decides how sums round


def blew_up(loss: np.ndarray, done: int) -> np.ndarray:
    """(runs,) bool: whether the loss has blown up by step `done`; loss (runs, probe_steps), nan past `done`."""
    past, keep, widths = loss[:, :done], smoothing(loss.shape[1]), _widths(loss.shape[1])
    blown = ~np.isfinite(past[:, -1])
    with np.errstate(all="ignore"):
        for rows, columns, losses in _alike(past):
            if len(columns) > SETTLE:
                blown[rows] |= _has_risen(smooth_curve(losses, keep), _noise(losses[:, :-1]), widths)
    return blown


def has_ended(loss: np.ndarray, done: int) -> np.ndarray:
    """(runs,) bool: whether the probe is over after `done` steps: blown up, or all its levels seen."""
    return blew_up(loss, done) | (done >= loss.shape[1])


def landmarks(loss: np.ndarray, steps: np.ndarray) -> Landmarks:
    """Landmarks of finished probes: loss (runs, probe_steps), of which run i used the first steps[i].

    What the first losses say is nan where there are too few, and all is that of a calm probe where there are none.
    """
    runs, probe_steps = len(loss), int(loss.shape[1])
    z = levels(probe_steps)
    flat = max(2, int(np.sum(z <= LOW + FLAT)))
    used = np.where(np.arange(probe_steps) < steps[:, None], loss, np.nan)
    loss0, noise = np.full((2, runs), np.nan)
    blowup, lowest, steepest = (np.full(runs, level) for level in (HIGH, LOW, LOW))
    blown, after = np.zeros(runs, bool), np.full_like(used, np.nan)
    for rows, columns, losses in _alike(used):
        with np.errstate(all="ignore"):
            curve = smooth_curve(losses, smoothing(probe_steps))
            if len(columns) >= flat:
                loss0[rows] = np.mean(losses[:, :flat], axis=1)
                noise[rows] = _noise(losses[:, :flat]) / np.abs(loss0[rows])
        if len(columns) > 1:
            # The loss of step j was computed before its update: it judges the rate of step j - 1.
            after[rows[:, None], columns[:-1]] = curve[:, 1:]
            best = np.argmin(curve[:, 1:], axis=1)
            with np.errstate(all="ignore"):
                slope = np.diff(curve, axis=1)
            slope[~np.isfinite(slope) | (np.arange(len(columns) - 1) > best[:, None])] = np.inf
            lowest[rows], steepest[rows] = z[columns[best]], z[columns[np.argmin(slope, axis=1)]]
        for done in np.unique(steps[rows][steps[rows] > 0]):
            mine = rows[steps[rows] == done]
            blown[mine] = blew_up(loss[mine], int(done))
            past = np.append(columns[columns < done - 1], done - 1)  # the last loss may be broken
            blowup[mine] = np.where(blown[mine], z[past[max(len(past) - 2, 0)]], HIGH)
    return Landmarks(loss0, blowup, blown, lowest, steepest, noise, after)


class Probes:
    """The probes of `runs` trainings of `probe_steps` steps at most: their curves, and which of them still run.

    `loss` and `grad_norm` (runs, probe_steps) are nan past the end of a run and at steps that were left out. A loss
    that ended a probe stands there as it was, were it not finite. `steps` (runs,) counts the steps that a curve covers:
    0 where a probe has ended without any evidence. `back` (runs,) bool says whose weights the latest step sends back to
    where the probe began, in the middle of it.
    """

    def __init__(self, runs: int, probe_steps: int) -> None:
        self.running = np.full(runs, probe_steps > 0)
        self.steps = np.zeros(runs, np.int64)
        self.loss = np.full((runs, probe_steps), np.nan)
        self.grad_norm = np.full((runs, probe_steps), np.nan)
        self.back = np.zeros(runs, bool)
        self.broken_losses = BrokenLosses(runs)
        # What the curves so far come to, so that a step costs little; gaps are left out.
        self.count = np.zeros(runs, np.int64)  # losses on the curve
        self.total = np.zeros(runs)  # their exponential average, before the correction of its bias
        self.curve = np.full((runs, probe_steps), np.nan)  # smoothed
        self.squares = np.full((runs, probe_steps), np.nan)  # of successive differences
        self.latest = np.full(runs, np.nan)
        self.least, self.largest = np.full((2, runs), np.nan)  # size of a loss, of all but the latest, and of all
        self.catch_up = np.full((3, runs), np.nan)  # of who was put back, see `_caught_up`
        self.broken = np.full((2, runs), np.nan)  # loss and gradient norm of the step whose loss broke first

    def record(self, step: int, loss: Any, grad_norm: Any) -> np.ndarray:
        """Note the loss and the gradient norm of 0-based `step`, each (runs,) or scalar; (runs,) bool: who has ended.

        A loss of None, after the first step, repeats that of the step before.
        """
        running = self.running
        losses = np.empty(len(running))
        losses[:] = self.latest if loss is None else loss
        self.steps[running] = step + 1
        with np.errstate(all="ignore"):
            size = np.abs(losses)
            broken = running & ~(np.isfinite(losses) & ~((size > WILD * self.largest) & (self.largest > 0)))
            good, announced, anew = running & ~broken, np.zeros(len(running), bool), np.zeros(len(running), bool)
            if np.count_nonzero(broken):  # of few runs a fraction of the time of any()
                announced = self._risen(self._groups(broken), 0.5)
                good |= announced & np.isfinite(losses)
            if step <= SETTLE + SKIPS:
                anew = good & (self.count <= SETTLE) & (np.maximum(size, np.abs(self.latest)) * FIRST < self.least)
                self._start_anew(anew)  # it was the losses before these two that were wild
                good &= ~anew
            np.copyto(self.grad_norm[:, step], grad_norm, where=good)
            ended = announced | self._risen(self._extend(good, step, losses))
        self.broken_losses.add_good(good)
        if np.count_nonzero(ended):
            self.broken_losses.blame_data(ended & good)  # the curve says where it has blown up
        self.back = anew
        if np.count_nonzero(unannounced := broken & ~announced):
            ended |= self._leave_out(unannounced, step, losses, grad_norm)
        if step + 1 >= self.loss.shape[1]:  # what is undecided by then broke at the highest levels
            self._cut(running & ~ended & (self.broken_losses.first_broken >= 0))
            ended = running
        self.running = running & ~ended
        self.back = self.back & self.running
        return running & ended

    def miss(self, step: int) -> np.ndarray:
        """Note that the loss was not finite and the loop made no step of it; (runs,) bool: who has ended."""
        with np.errstate(all="ignore"):
            ended = self.running & self._risen(self._groups(self.running), 0.5)
        self.steps[ended] = step + 1
        ended |= self._leave_out(self.running & ~ended, step, np.nan, np.nan)
        self.running = self.running & ~ended
        self.back &= self.running
        return ended

    def landmarks(self) -> Landmarks:
        """Landmarks of the curves so far."""
        return landmarks(self.loss, self.steps)

    def _groups(self, which: np.ndarray) -> list[tuple[int, Any]]:
        """The runs `which`, by the number of losses on their curve; all runs together, where they go alike, as slice.

        A slice makes views, not copies; that halves the time of one run's step.
        """
        counts = {*self.count[which].tolist()}
        if len(counts) == 1 and which.all():
            return [(counts.pop(), slice(None))]
        return [(n, (which & (self.count == n)).nonzero()[0]) for n in counts]

    def _risen(self, groups: list[tuple[int, Any]], share: float = 1.0) -> np.ndarray:
        """(runs,) bool: which runs of the groups have a curve that has risen by a share of what ends a probe."""
        out, widths = np.zeros(len(self.running), bool), _widths(self.loss.shape[1])
        for n, rows in groups:
            if n > SETTLE:
                noise = _deviation(self.squares[rows, : n - 2])
                out[rows] = _has_risen(self.curve[rows, :n], noise, widths, share)
        return out

    def _extend(self, which: np.ndarray, step: int, losses: np.ndarray) -> list[tuple[int, Any]]:
        """Put losses (runs,) of the runs `which` on their curves; returns them by the number of losses there now."""
        if np.count_nonzero(self.broken_losses.skips):
            losses = self._caught_up(which, losses)
        np.fmin(self.least, np.abs(self.latest), out=self.least, where=which)
        keep = smoothing(self.loss.shape[1])
        groups = self._groups(which)
        for n, rows in groups:
            new = losses[rows]
            if n:
                self.squares[rows, n - 1] = (new - self.latest[rows]) ** 2
            self.loss[rows, step] = self.latest[rows] = new
            self.total[rows] = keep * self.total[rows] + (1 - keep) * new
            self.curve[rows, n] = self.total[rows] / (1 - keep ** (n + 1))
            self.count[rows] = n + 1
        np.fmax(self.largest, np.abs(losses), out=self.largest, where=which)
        return [(n + 1, rows) for n, rows in groups]

    def _caught_up(self, which: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Losses (runs,) with what a training that was put back lags behind taken off.

        Until it has come back to the curve's end, `held`, the curve stays there, and what rises above the best that it
        has reached meanwhile, `best`, rises as much above `held`.
        """
        held, best, average = self.catch_up
        keep = smoothing(self.loss.shape[1])
        average = keep * average + (1 - keep) * losses
        lagging = which & (losses > held)
        out = np.where(lagging, held + np.maximum(losses - best, 0.0), losses)
        self.catch_up[1:, which] = np.stack([np.maximum(np.minimum(best, average), held), average])[:, which]
        return out

    def _leave_out(self, which: np.ndarray, step: int, loss: Any, grad_norm: Any) -> np.ndarray:
        """Leave `step` of the runs `which` out and send their weights back; (runs,) bool: who has ended by it."""
        z = levels(self.loss.shape[1])
        first = which & (self.broken_losses.first_broken < 0)
        for array, values in zip(self.broken, (loss, grad_norm), strict=True):
            array[first] = np.broadcast_to(values, first.shape)[first]
        blown, spent = self.broken_losses.add_broken(which, step, z[step])
        self._cut(blown)
        self.loss[spent] = self.grad_norm[spent] = np.nan
        self.steps[spent] = 0
        for i in np.flatnonzero(which & ~blown & ~spent & (self.count > 0)):
            flat = self.loss[i][np.isfinite(self.loss[i])][: int(np.sum(z <= LOW + FLAT))]
            held, begin = self.curve[i, self.count[i] - 1], flat.mean()
            self.catch_up[:, i] = held, max(begin, held), begin
        self.back = self.back | which
        return blown | spent

    def _cut(self, which: np.ndarray) -> None:
        """Let the probes of the runs `which` have ended where their loss broke first."""
        for i in np.flatnonzero(which):
            at = int(self.broken_losses.first_broken[i])
            self.loss[i, at:] = self.grad_norm[i, at:] = np.nan
            self.loss[i, at], self.grad_norm[i, at] = self.broken[:, i]
            self.steps[i] = at + 1

    def _start_anew(self, which: np.ndarray) -> None:
        """Leave out what the runs `which` have on their curves, and the present step."""
        self.broken_losses.skips[which] += self.count[which] + 1
        self.broken_losses.blame_data(which)
        for curve in (self.loss, self.grad_norm, self.curve, self.squares):
            curve[which] = np.nan
        self.count[which], self.total[which] = 0, 0.0
        self.latest[which] = self.least[which] = self.largest[which] = self.catch_up[:, which] = np.nan

    def state_dict(self) -> dict[str, Any]:
        """The arrays as nested lists of numbers."""
        arrays = {name: array.tolist() for name, array in vars(self).items() if name != "broken_losses"}
        return arrays | {"broken_losses": self.broken_losses.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        self.broken_losses.load_state_dict(state["broken_losses"])
        for name, array in vars(self).items():
            if name != "broken_losses":
                setattr(self, name, np.array(state[name], array.dtype))
