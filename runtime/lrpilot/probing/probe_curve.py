"""What the curve of a probe says: its landmarks, and when its loss has risen over its best.

A curve is the loss (runs, probe_steps) of each level of the climb, see `probe.py`. Before its last step it is nan
where a loss was left out: a gap, over which smoothing and scatter go on as if those steps had not been made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from lrpilot.probing import evidence
from lrpilot.probing.broken_losses import WILD

LOW, HIGH = -2.5, 3.5  # level z of the first and of the last probed rate, decades
SMOOTHING = 0.3  # decades over which the loss is averaged
RISE = 0.5  # relative rise over the best smoothed loss from which it is suspicious, but
GIVEN_BACK = 0.25  # no less than this share of what the loss has fallen, and
FAR = 20.0  # no more than so many times what it has fallen and scatters: the loss may have any origin
LUCK = 2.0  # standard deviations by which the best smoothed loss counts as worse, lest a lucky draw be the best
SETTLE = 4  # losses before one can be suspicious
FLAT = 1.0  # decades at the start whose mean loss is "the loss before training"
ROUNDING = 1e-6  # of the loss: a smaller rise is none


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
    squares = np.diff(loss, axis=1) ** 2
    return np.sqrt(np.add.reduce(squares, axis=1) / squares.shape[1] / 2)


@cache
def widths_of(probe_steps: int) -> np.ndarray:
    """(probe_steps,) deviation of the smoothed loss over that of a batch, after so many losses."""
    keep = smoothing(probe_steps)
    # The first values average few losses: a bias-corrected average of j losses has this deviation.
    left = keep ** np.arange(1, probe_steps + 1)
    return np.sqrt((1 - keep) / (1 + keep) * (1 + left) / (1 - left))


def suspicious_from(curve: np.ndarray, scatter: np.ndarray, widths: np.ndarray, share: float = 1.0) -> np.ndarray:
    """(runs,) what the end of a curve (runs, n) has to exceed to be suspicious, or a share of the rise to there.

    scatter (runs,): of a batch's loss, without the latest.
    """
    n = curve.shape[1]
    spread = scatter[:, None] * widths[:n]
    best = np.minimum.reduce(curve + LUCK * spread, axis=1)
    fallen = np.maximum((curve[:, 0] + curve[:, 1]) / 2 - np.minimum.reduce(curve, axis=1), 0.0)
    rise = np.minimum(RISE * np.abs(best), FAR * (fallen + scatter))
    rise = np.maximum.reduce([rise, GIVEN_BACK * fallen, evidence.WIDTH * spread[:, -1], ROUNDING * np.abs(best)])
    return best + share * rise


def _alike(loss: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of loss (runs, n) that are finite in the same columns, these columns, and what stands there."""
    masks, group = np.unique(np.isfinite(loss), axis=0, return_inverse=True)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(group.ravel() == i), np.flatnonzero(mask)
        yield rows, columns, np.ascontiguousarray(loss[np.ix_(rows, columns)])  # the order decides how sums round


def is_broken(losses: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """(runs,) bool: which of losses (runs,) are not finite, or wild beside the largest (runs,) on their curve."""
    return ~(np.isfinite(losses) & ~((np.abs(losses) > WILD * largest) & (largest > 0)))


def blew_up(loss: np.ndarray, done: int) -> np.ndarray:
    """(runs,) bool: whether a curve that ends with step `done` ends with a blow-up; loss (runs, probe_steps)."""
    past, keep, widths = loss[:, :done], smoothing(loss.shape[1]), widths_of(loss.shape[1])
    with np.errstate(all="ignore"):
        largest = np.fmax.reduce(np.abs(np.where(np.isfinite(past), past, np.nan))[:, :-1], axis=1, initial=0.0)
        blown = is_broken(past[:, -1], largest)
        for rows, columns, losses in _alike(past):
            if len(columns) > SETTLE and columns[-1] == done - 1:
                curve = smooth_curve(losses, keep)
                scatter = evidence.scatter(np.abs(np.diff(losses[:, :-1], axis=1)))
                blown[rows] |= curve[:, -1] > suspicious_from(curve, scatter, widths)
    return blown


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
