"""The first level where the probe has seen little: no higher than what people would have typed.

A probe of few steps may see mostly noise. Its confidence is how clearly the loss fell: 0 where the fall is no larger
than a lucky draw, 1 where it is `CLEAR` deviations. Where confidence lacks, a level above the prior of the optimizer
kind moves towards that prior:

    level <- prior + confidence (level - prior)        where level > prior
    prior  = PRIOR - NOISY * (noise - USUAL, from 0 to 1)

`noise` is the scatter of a batch's loss over its size. A loss that falls by more than its size has no natural zero, as
that of a likelihood: it is `unscaled`. The policy's features are ratios to that size, so there the level is the prior.
Whatever the confidence, the level stays `BELOW_EDGE` decades below the probe's edge: a step that blows the loss up at
once is no longer needed where thousands follow.

A training that has not learned after `PATIENCE` of its steps goes back to the prior, if its loss is steady. Small
transformers at high levels never leave their plateau. Under noise the loss may have fallen, unnoticed as yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.probing import evidence

LUCKY, CLEAR = 0.5, 2.0  # deviations of a median by which the loss fell
WINDOW = 3  # losses of a median, and one in
SHARE = 12  # of longer probes
PRIOR = 0.25  # decades over the reference rate: between the rates that people type, 1e-3 and 3e-3 under Adam
NOISY, USUAL = 0.5, 0.4  # decades, and the noise above which the prior is lower
BELOW_EDGE = 1.2  # decades
STRIDE = 0.012  # of the norm of the weights: to steps longer than that no rise leads
PATIENCE, STEADY = 0.15, 0.2  # share of the steps after the warm-up, and the noise below which a loss is steady
LOWEST = 1.0  # decades below the prior, where neither edge nor fall says why to go lower


def confidence(losses: np.ndarray) -> tuple[float, float, bool]:
    """Return confidence (0 to 1), noise, and whether the loss is unscaled, of a probe's losses (n,), oldest first.

    Of too few losses they are 0, nan and False.
    """
    if len(losses) < 2 * WINDOW:
        return 0.0, float("nan"), False
    width = max(WINDOW, len(losses) // SHARE)
    start = float(np.median(losses[: max(len(losses) // 3, WINDOW)]))
    scatter = float(evidence.scatter(np.abs(np.diff(losses[:-1]))[None])[0])
    windows = np.lib.stride_tricks.sliding_window_view(losses[:-1], width)
    fallen = start - float(np.median(windows, axis=1).min())
    deviations = fallen / max(scatter / width**0.5, 1e-12 * abs(start), 1e-300)
    sure = float(np.clip((deviations - LUCKY) / (CLEAR - LUCKY), 0.0, 1.0))
    return sure, scatter / max(abs(start), 1e-300), fallen > abs(start)


class Caution:
    """What the probes of `runs` trainings allow their levels to be; the arrays are (runs,).

    `confidence` and `noise` of the probe's curve, nan without one, and whether the loss is `unscaled`; `near_edge`, the
    level that is as near the probe's edge as it may be, or inf; `first`, the level that the first decision chose.
    """

    def __init__(self, runs: int) -> None:
        self.confidence, self.noise, self.first = np.full((3, runs), np.nan)
        self.near_edge, self.unscaled = np.full(runs, np.inf), np.zeros(runs, bool)

    def take(self, run: int, curve: np.ndarray) -> None:
        """Take in the losses (n,) of one run's probe, nan where one is left out."""
        self.confidence[run], self.noise[run], self.unscaled[run] = confidence(curve[np.isfinite(curve)])

    def first_levels(self, level: np.ndarray, edge: np.ndarray, warning: np.ndarray) -> np.ndarray:
        """Return the first levels (runs,) that replace `level` (runs,).

        edge (runs,): inf where none was found; warning (runs,): level of a rise that was no edge and yet a warning, or
        inf. It counts above the prior alone.
        """
        self.near_edge = np.minimum(edge - BELOW_EDGE, np.maximum(warning - BELOW_EDGE, PRIOR))
        prior = PRIOR - NOISY * np.clip(np.nan_to_num(self.noise) - USUAL, 0.0, 1.0)
        unsure = self.confidence < 1  # nan is not
        towards = np.where(unsure & (level > prior), prior + self.confidence * (level - prior), level)
        towards = np.where(unsure & np.isinf(edge), np.maximum(towards, prior - LOWEST), towards)
        towards = np.where(self.unscaled, PRIOR, towards)
        return np.minimum(towards, self.near_edge)

    def earned(self, level: np.ndarray, stride: np.ndarray, fallen: np.ndarray) -> np.ndarray:
        """Return the highest levels (runs,) that a rise may reach.

        level (runs,): the present ones; stride (runs,): length of a step there, over the norm of the weights; fallen
        (runs,) bool: whose loss has clearly fallen.
        """
        with np.errstate(all="ignore"):
            long = level + np.log10(STRIDE / stride)
        limit = np.minimum(np.where(np.isnan(long), np.inf, long), self.near_edge)
        return np.maximum(np.where(fallen, limit, np.minimum(limit, PRIOR)), self.first)

    def highest_unlearned(self, step: int, due: np.ndarray, learned: np.ndarray) -> np.ndarray:
        """Return the highest levels (runs,) of trainings that should have learned by now, inf for any.

        step: completed ones; due (runs,): the steps by which a training has to have learned; learned (runs,) bool:
        whether it has.
        """
        return np.where(~learned & (step >= due) & (self.noise < STEADY), PRIOR, np.inf)  # nan is not below

    def state_dict(self) -> dict[str, Any]:
        """The arrays as lists of floats, nan and inf among them."""
        return {name: array.tolist() for name, array in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name in vars(self):
            setattr(self, name, np.array(state[name], getattr(self, name).dtype))
