"""The probe: a scripted range test on the training's own batches, rolled back afterwards.

The learning rate climbs geometrically from far too low, one step per rate, until the smoothed loss has risen over its
best, or all rates were tried (after Smith 2017, arXiv:1506.01186, section 3.3). The caller then puts the weights and
the optimizer back where they were; what stays is a curve of loss and gradient norm against learning rate, and its
landmarks. All arrays lead with the axis of runs: one training has one run.

A rise is a suspicion, for one odd batch looks the same. The climb halts at the lowest rate while the losses of other
batches decide: the edge is where the loss rose, or the odd losses are left out and the climb goes on. A loss that
breaks without any announcement is left out, and the weights are put back at once (`broken_losses` says why, and how
often). `lrpilot.probing.probe_curve` reads the curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.probing import evidence
from lrpilot.probing.broken_losses import FIRST, SKIPS, BrokenLosses
from lrpilot.probing.probe_curve import (
    FLAT,
    LOW,
    SETTLE,
    Landmarks,
    is_broken,
    landmarks,
    levels,
    smooth_curve,
    smoothing,
    suspicious_from,
    widths_of,
)

VOTES = 8  # losses above a line, less those below, for an edge
ENOUGH = 3  # the same where no more batches come, but a single one among the
SEVERAL = 3  # losses above a line that are no edge, and yet a warning
TOP = 4  # last levels, where a false edge costs little
ACQUITTING = 2  # losses below a line that leave the odd ones out


class Probes:
    """The probes of `runs` trainings of `probe_steps` steps at most: their curves, and which of them still run.

    `loss` and `grad_norm` (runs, probe_steps) have a column for each level of the climb. They are nan past the end of a
    run and at steps that were left out. A loss that ended a probe stands there as it was, were it not finite. `steps`
    (runs,) counts the columns that a curve covers: 0 where a probe has ended without any evidence. `back` (runs,) bool
    says whose weights the latest step sends back to where the probe began, in the middle of it. `suspect` (runs,) is
    the column whose loss is being checked, or -1. While there is one, the run trains at the lowest rate, its losses
    are on no curve, and the climb stays where it is.
    """

    def __init__(self, runs: int, probe_steps: int, highest: float = np.inf) -> None:
        """The climb ends with the first level that is not below `highest`."""
        self.last = min(int(np.sum(levels(probe_steps) < highest)) + 1, probe_steps) if probe_steps else 0
        self.running = np.full(runs, probe_steps > 0)
        self.steps = np.zeros(runs, np.int64)
        self.loss = np.full((runs, probe_steps), np.nan)
        self.grad_norm = np.full((runs, probe_steps), np.nan)
        self.back = np.zeros(runs, bool)
        self.broken_losses = BrokenLosses(runs)
        self.suspect = np.full(runs, -1)
        self.line = np.full(runs, np.nan)  # that the losses of other batches are compared with
        self.above, self.below = np.zeros((2, runs), np.int64)  # how many of them lie there
        self.halted: np.ndarray = np.zeros(runs, np.int64)  # steps that checks have taken
        self.warning_level = np.full(runs, np.inf)  # lowest level after which several losses, if too few, lay above
        # What the curves so far come to, so that a step costs little; gaps are left out.
        self.count = np.zeros(runs, np.int64)  # losses on the curve
        self.total = np.zeros(runs)  # their exponential average, before the correction of its bias
        self.curve = np.full((runs, probe_steps), np.nan)  # smoothed
        self.moves = np.full((runs, probe_steps), np.nan)  # sizes of successive differences
        self.climbed = np.full((runs, probe_steps), np.nan)  # losses of the climb, odd ones among them
        self.latest = np.full(runs, np.nan)
        self.least, self.largest = np.full((2, runs), np.nan)  # size of a loss, of all but the latest, and of all
        self.catch_up = np.full((3, runs), np.nan)  # of who was put back, see `_caught_up`
        self.broken = np.full((2, runs), np.nan)  # loss and gradient norm of the step whose loss broke first

    def levels(self, step: int) -> np.ndarray:
        """Return the level (runs,) of 0-based `step`: that of the climb, or the lowest while the climb halts."""
        return np.where(self.suspect < 0, levels(self.loss.shape[1])[step - self.halted], LOW)

    def record(self, step: int, loss: Any, grad_norm: Any) -> np.ndarray:
        """Note loss and gradient norm of 0-based `step`, each (runs,) or scalar. Returns who (runs,) bool has ended.

        A loss of None, after the first step, repeats that of the step before.
        """
        running = self.running
        losses = np.empty(len(running))
        losses[:] = self.latest if loss is None else loss
        checked = running & (self.suspect >= 0)
        climbing, ended = running & ~checked, np.zeros(len(running), bool)
        if checked.any():
            self.halted = self.halted + checked
            if loss is not None:  # one that is repeated is no other batch's
                ended = self._vote(checked, losses)
        at = step - self.halted
        self.steps = np.where(climbing, at + 1, self.steps)
        with np.errstate(all="ignore"):
            size = np.abs(losses)
            broken = climbing & is_broken(losses, self.largest)
            good, announced, anew = climbing & ~broken, np.zeros(len(running), bool), np.zeros(len(running), bool)
            if broken.any():
                announced = self._risen(self._groups(broken), 0.5)
                good |= announced & np.isfinite(losses)
            if step <= SETTLE + SKIPS:
                anew = good & (self.count <= SETTLE) & (np.maximum(size, np.abs(self.latest)) * FIRST < self.least)
                self._start_anew(anew)  # it was the losses before these two that were wild
                good &= ~anew
            self.grad_norm[good, at[good]] = np.broadcast_to(grad_norm, good.shape)[good]
            risen = self._risen(self._extend(good, at, losses)) & ~announced
            ended |= announced
            if risen.any():
                self._suspect(risen, at)
        self.broken_losses.add_good(good)
        if (announced | risen).any():
            self.broken_losses.blame_data((announced | risen) & good)  # the curve says where it has blown up
        self.back = anew
        if (unannounced := broken & ~announced).any():
            ended |= self._leave_out(unannounced, at, losses, grad_norm)
        over = running & ~ended & ((step + 1 >= self.loss.shape[1]) | ((at + 1 >= self.last) & (self.suspect < 0)))
        if over.any():  # what is undecided by then broke, or rose, at the highest levels
            self._cut(over & self.broken_losses.undecided)
            late = over & (self.suspect >= 0)
            top = self.suspect >= self.loss.shape[1] - TOP
            believed = self.above - self.below >= np.where(top, 1, ENOUGH)
            self._convict(late & believed)
            self._acquit(late & ~believed)
            ended |= over
        self.running = running & ~ended
        self.back = self.back & self.running
        return running & ended

    def miss(self, step: int) -> np.ndarray:
        """Note that the loss was not finite and the loop made no step of it. Returns who (runs,) bool has ended."""
        with np.errstate(all="ignore"):
            ended = self.running & self._risen(self._groups(self.running), 0.5)
        at = step - self.halted
        self.steps = np.where(ended, at + 1, self.steps)
        checked = self.running & (self.suspect >= 0)
        self._convict(checked)
        ended |= checked
        ended |= self._leave_out(self.running & ~ended, at, np.nan, np.nan)
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
        """Say which runs (runs,) bool of the groups have a curve above its line; set the lines of the runs."""
        out, widths = np.zeros(len(self.running), bool), widths_of(self.loss.shape[1])
        for n, rows in groups:
            if n > SETTLE:
                self.line[rows] = suspicious_from(
                    self.curve[rows, :n], evidence.scatter(self.moves[rows, : n - 2]), widths, share
                )
                out[rows] = self.curve[rows, n - 1] > self.line[rows]
        return out

    def _suspect(self, which: np.ndarray, at: np.ndarray) -> None:
        """Halt the climb of the runs `which`, whose curves have risen at columns `at`, for other batches to decide."""
        self.suspect[which], self.above[which], self.below[which] = at[which], 1, 0
        for i in np.flatnonzero(which).tolist():
            on = np.flatnonzero(np.isfinite(self.climbed[i, : at[i]]))
            self.line[i] = evidence.line(
                self.climbed[i, on[: max(int(np.sum(on <= self._lowest(i))), evidence.RECENT)]]
            )

    def _lowest(self, run: int) -> int:
        """The column at which the curve of one run was at its best."""
        return int(np.flatnonzero(np.isfinite(self.loss[run]))[np.argmin(self.curve[run, : self.count[run]])])

    def _vote(self, checked: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Compare losses (runs,) of the runs `checked` with their lines; (runs,) bool: whose probe has ended."""
        with np.errstate(invalid="ignore"):
            if self.broken_losses.any_left_out:
                losses = self._caught_up(checked, losses)
            above = ~(losses <= self.line)  # nan is
        self.above += checked & above
        self.below += checked & ~above
        votes = self.above - self.below
        convicted = checked & (~np.isfinite(losses) | (votes >= VOTES))
        self._acquit(checked & ~convicted & (self.below >= ACQUITTING))
        self._convict(convicted)
        return convicted

    def _convict(self, which: np.ndarray) -> None:
        """Let the curves of the runs `which` end with the loss that is their edge."""
        self.steps[which] = self.suspect[which] + 1

    def _acquit(self, which: np.ndarray) -> None:
        """Leave the odd losses of the runs `which` out: the suspect, and what is above the line since the best."""
        for i in np.flatnonzero(which).tolist():
            late = np.arange(self._lowest(i) + 1, int(self.suspect[i]) + 1)
            odd = late[(self.loss[i, late] > self.line[i]) | (late == self.suspect[i])]
            self.loss[i, odd] = self.grad_norm[i, odd] = np.nan
            self._smooth_anew(i)
            if self.above[i] >= SEVERAL:
                level = levels(self.loss.shape[1])[max(self.suspect[i] - 1, 0)]
                self.warning_level[i] = min(self.warning_level[i], level)
            self.steps[i] = int(np.flatnonzero(np.isfinite(self.loss[i]))[-1]) + 1
        self.suspect[which] = -1

    def _smooth_anew(self, run: int) -> None:
        """Work out again what the curve of one run comes to, after losses were left out."""
        losses = self.loss[run][np.isfinite(self.loss[run])]
        n, keep = len(losses), smoothing(self.loss.shape[1])
        self.curve[run], self.moves[run] = np.nan, np.nan
        self.curve[run, :n] = smooth_curve(losses[None], keep)[0]
        self.moves[run, : n - 1] = np.abs(np.diff(losses))
        self.count[run], self.latest[run], self.total[run] = n, losses[-1], 0.0
        for loss in losses:
            self.total[run] = keep * self.total[run] + (1 - keep) * loss

    def _extend(self, which: np.ndarray, at: np.ndarray, losses: np.ndarray) -> list[tuple[int, Any]]:
        """Put losses (runs,) of the runs `which` on their curves, at columns `at`; returns the runs by their count."""
        if self.broken_losses.any_left_out:
            losses = self._caught_up(which, losses)
        np.fmin(self.least, np.abs(self.latest), out=self.least, where=which)
        keep = smoothing(self.loss.shape[1])
        groups = self._groups(which)
        for n, rows in groups:
            new = losses[rows]
            if n:
                self.moves[rows, n - 1] = np.abs(new - self.latest[rows])
            every = np.arange(len(which))[rows]
            self.loss[every, at[rows]] = self.climbed[every, at[rows]] = self.latest[rows] = new
            self.total[rows] = keep * self.total[rows] + (1 - keep) * new
            self.curve[rows, n] = self.total[rows] / (1 - keep ** (n + 1))
            self.count[rows] = n + 1
        np.fmax(self.largest, np.abs(losses), out=self.largest, where=which)
        return [(n + 1, rows) for n, rows in groups]

    def _caught_up(self, which: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Return losses (runs,) less what a training that was put back lags behind.

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

    def _leave_out(self, which: np.ndarray, at: np.ndarray, loss: Any, grad_norm: Any) -> np.ndarray:
        """Leave columns `at` of the runs `which` out and send their weights back; (runs,) bool: who has ended by it."""
        z = levels(self.loss.shape[1])
        first = which & ~self.broken_losses.undecided
        for array, values in zip(self.broken, (loss, grad_norm), strict=True):
            array[first] = np.broadcast_to(values, first.shape)[first]
        blown, spent = self.broken_losses.add_broken(which, at, z[at])
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
        """End the probes of the runs `which` where their loss broke first."""
        for i in np.flatnonzero(which).tolist():
            at = self.broken_losses.column(i)
            self.loss[i, at:] = self.grad_norm[i, at:] = np.nan
            self.loss[i, at], self.grad_norm[i, at] = self.broken[:, i]
            self.steps[i] = at + 1

    def _start_anew(self, which: np.ndarray) -> None:
        """Leave out what the runs `which` have on their curves, and the present step."""
        self.broken_losses.leave_out(which, self.count + 1)
        for curve in (self.loss, self.grad_norm, self.curve, self.moves, self.climbed):
            curve[which] = np.nan
        self.count[which], self.total[which] = 0, 0.0
        self.latest[which] = self.least[which] = self.largest[which] = self.catch_up[:, which] = np.nan

    def state_dict(self) -> dict[str, Any]:
        """The arrays as nested lists of numbers."""
        arrays = {name: array.tolist() for name, array in vars(self).items() if name not in ("broken_losses", "last")}
        return arrays | {"broken_losses": self.broken_losses.state_dict(), "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        self.broken_losses.load_state_dict(state["broken_losses"])
        self.last = state["last"]  # of a training that was made shorter meanwhile it is that of the longer one
        for name, array in vars(self).items():
            if name not in ("broken_losses", "last"):
                setattr(self, name, np.array(state[name], array.dtype))
