"""The probe: a scripted range test on the training's own batches, rolled back afterwards.

The learning rate climbs geometrically from far too low, one step per rate, until the smoothed loss has risen by half
over its best or is not finite (after Smith 2017, arXiv:1506.01186, section 3.3). The caller then puts the weights and
the optimizer back where they were; what stays is a curve of loss and gradient norm against learning rate, and its
landmarks. All arrays lead with the axis of runs: one training has one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LOW, HIGH = -2.5, 3.5  # level z of the first and of the last probed rate, decades
SMOOTHING = 0.3  # decades over which the loss is averaged
RISE = 0.5  # relative rise over the best smoothed loss that ends the probe
NOISE = 4.0  # a rise below this many standard deviations of the smoothed batch noise is none
LUCK = 2.0  # standard deviations by which the best smoothed loss counts as worse, lest a lucky draw be the best
SETTLE = 4  # steps before a rise can end the probe
FLAT = 1.0  # decades at the start whose mean loss is "the loss before training"


def levels(probe_steps: int) -> np.ndarray:
    """(probe_steps,) level z of each probing step."""
    return np.linspace(LOW, HIGH, probe_steps)


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
    return np.sqrt(np.mean(np.diff(loss, axis=1) ** 2, axis=1) / 2)


def blew_up(loss: np.ndarray, done: int) -> np.ndarray:
    """(runs,) bool: whether the loss has blown up by step `done`; loss (runs, probe_steps), nan past `done`."""
    past = loss[:, :done]
    broken = np.any(~np.isfinite(past), axis=1)
    if done <= SETTLE:
        return broken
    keep = smoothing(loss.shape[1])
    with np.errstate(all="ignore"):
        curve = smooth_curve(past, keep)
        # The first values average few losses: a bias-corrected average of j losses has this deviation.
        left = keep ** np.arange(1, done + 1)
        spread = _noise(past[:, :-1])[:, None] * np.sqrt((1 - keep) / (1 + keep) * (1 + left) / (1 - left))
        best = (curve + LUCK * spread).min(axis=1)
        risen: np.ndarray = curve[:, -1] > best + np.maximum(RISE * np.abs(best), NOISE * spread[:, -1])
        return broken | risen


def has_ended(loss: np.ndarray, done: int) -> np.ndarray:
    """(runs,) bool: whether the probe is over after `done` steps: blown up, or all its levels seen."""
    return blew_up(loss, done) | (done >= loss.shape[1])


def landmarks(loss: np.ndarray, steps: np.ndarray) -> Landmarks:
    """Landmarks of finished probes: loss (runs, probe_steps), of which run i used the first steps[i]."""
    probe_steps = int(loss.shape[1])
    z = levels(probe_steps)
    flat = max(2, int(np.sum(z <= LOW + FLAT)))
    order = np.arange(probe_steps)
    used = np.where(order < steps[:, None], loss, np.nan)
    with np.errstate(all="ignore"):
        curve = smooth_curve(used, smoothing(probe_steps))
        # The loss of step j was computed before its update: it judges the rate of step j - 1.
        after = np.full_like(curve, np.nan)
        after[:, :-1] = curve[:, 1:]
        known = np.where(np.isfinite(after), after, np.inf)
        lowest: np.ndarray = np.argmin(known, axis=1)
        slope = np.diff(curve, axis=1)
        slope = np.where(np.isfinite(slope) & (order[:-1] <= lowest[:, None]), slope, np.inf)
        steepest: np.ndarray = np.argmin(slope, axis=1)
        loss0 = np.mean(used[:, :flat], axis=1)
        noise = _noise(used[:, :flat]) / np.abs(loss0)
    blown = np.zeros(len(loss), bool)
    for done in np.unique(steps):
        blown[steps == done] = blew_up(loss[steps == done], int(done))
    blowup = np.where(blown, z[np.maximum(steps - 2, 0)], HIGH)
    return Landmarks(loss0, blowup, blown, z[lowest], z[steepest], noise, after)


class Probes:
    """The probes of `runs` trainings of `probe_steps` steps at most: their curves, and which of them still run."""

    def __init__(self, runs: int, probe_steps: int) -> None:
        self.running = np.full(runs, probe_steps > 0)
        self.steps = np.zeros(runs, np.int64)  # made so far
        self.loss = np.full((runs, probe_steps), np.nan)
        self.grad_norm = np.full((runs, probe_steps), np.nan)

    def record(self, step: int, loss: Any, grad_norm: Any) -> np.ndarray:
        """Note the loss and the gradient norm of 0-based `step`, each (runs,) or scalar; (runs,) bool: who has ended.

        A loss of None, after the first step, repeats that of the step before.
        """
        running = self.running
        losses = self.loss[:, step - 1] if loss is None else np.broadcast_to(loss, running.shape)
        self.loss[running, step] = losses[running]
        self.grad_norm[running, step] = np.broadcast_to(grad_norm, running.shape)[running]
        self.steps[running] = step + 1
        ended = running & has_ended(self.loss, step + 1)
        self.running = running & ~ended
        return ended

    def landmarks(self) -> Landmarks:
        """Landmarks of the curves so far."""
        return landmarks(self.loss, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """The arrays as nested lists of numbers."""
        return {name: array.tolist() for name, array in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name, array in vars(self).items():
            setattr(self, name, np.array(state[name], array.dtype))
