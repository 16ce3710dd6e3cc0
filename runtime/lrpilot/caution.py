"""The first level where the probe has seen little: no higher than what people would have typed.

A probe of few steps may see mostly noise. Its confidence is how clearly the loss fell: 0 where the fall is no larger
than a lucky draw, 1 where it is `CLEAR` deviations, and `EDGELESS` of that where no edge was found. Where confidence
lacks, a level above the prior of the optimizer kind moves towards that prior:

    level <- prior + confidence (level - prior)        where level > prior
    prior  = PRIOR - NOISY * (noise - USUAL, from 0 to 1)

`noise` is the scatter of a batch's loss over its size. Whatever the confidence, the level stays `BELOW_EDGE` decades
below the probe's edge: a step that blows the loss up at once is no longer needed where thousands follow.
"""

from __future__ import annotations

import numpy as np

from lrpilot import evidence

LUCKY, CLEAR = 0.5, 2.0  # deviations of a median by which the loss fell
EDGELESS = 0.5
WINDOW = 3  # losses of a median, and one in
SHARE = 12  # of longer probes
PRIOR = 0.25  # decades over the reference rate: between the rates that people type, 1e-3 and 3e-3 under Adam
NOISY, USUAL = 0.5, 0.4  # decades, and the noise above which the prior is lower
BELOW_EDGE = 1.5  # decades
STRIDE = 0.006  # of the norm of the weights: to steps longer than that no rise leads
LOWEST = 1.0  # decades below the prior, where neither edge nor fall says why to go lower


def confidence(losses: np.ndarray, edge: bool) -> tuple[float, float]:
    """Confidence, 0 to 1, and noise of a probe with these losses (n,), oldest first; 0 and nan of too few.

    edge: whether the probe has found one.
    """
    if len(losses) < 2 * WINDOW:
        return 0.0, float("nan")
    width = max(WINDOW, len(losses) // SHARE)
    start = float(np.median(losses[: max(len(losses) // 3, WINDOW)]))
    scatter = float(evidence.scatter(np.abs(np.diff(losses[:-1]))[None])[0])
    windows = np.lib.stride_tricks.sliding_window_view(losses[:-1], width)
    fallen = start - float(np.median(windows, axis=1).min())
    deviations = fallen / max(scatter / width**0.5, 1e-12 * abs(start), 1e-300)
    sure = float(np.clip((deviations - LUCKY) / (CLEAR - LUCKY), 0.0, 1.0))
    return sure if edge else EDGELESS * sure, scatter / max(abs(start), 1e-300)


def near_edge(edge: np.ndarray, shaken: np.ndarray) -> np.ndarray:
    """Levels (runs,) that are as near the probe's edge as they may be.

    edge (runs,): inf where none was found; shaken (runs,): level of a rise that was no edge and yet a warning, or inf.
    It counts above the prior alone.
    """
    return np.minimum(edge - BELOW_EDGE, np.maximum(shaken - BELOW_EDGE, PRIOR))


def _prior(noise: np.ndarray) -> np.ndarray:
    return PRIOR - NOISY * np.clip(np.nan_to_num(noise) - USUAL, 0.0, 1.0)


def cautious(
    level: np.ndarray, confidence: np.ndarray, noise: np.ndarray, near_edge: np.ndarray, blown: np.ndarray
) -> np.ndarray:
    """First levels (runs,) that take into account what a probe has seen.

    confidence, noise (runs,): nan where there was no probe; near_edge (runs,): highest level, or inf; blown
    (runs,) bool: whether an edge was found.
    """
    prior = _prior(noise)
    towards = np.where((level > prior) & (confidence < 1), prior + confidence * (level - prior), level)
    groundless = (confidence < 1) & ~blown
    return np.minimum(np.where(groundless, np.maximum(towards, prior - LOWEST), towards), near_edge)
