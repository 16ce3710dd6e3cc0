"""The statistics of an evaluation: normalised regret, aggregates and bootstrap intervals.

Regrets are arrays (tasks, seeds), and lower is better: 0 is the tuned oracle, 1 a training that gained nothing.
Aggregates follow Agarwal et al. 2021, arXiv:2108.13264 ("statistical precipice"): strata are tasks, and seeds are
resampled. A mean over tasks takes `weights` (tasks,); without them all tasks count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, trim_mean

Floats = NDArray[np.float64]

DIVERGED = 1.0  # regret of a training whose final loss is not finite
REGRET_RANGE = (-1.0, DIVERGED)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % bootstrap interval [low, high]."""

    value: float
    low: float
    high: float


def normalised_regret(loss: ArrayLike, oracle: ArrayLike, initial: ArrayLike) -> Floats:
    """(L - L*) / (L0 - L*), broadcast: 0 equals the oracle, 1 the loss at initialisation.

    A loss that is not finite (a diverged training) counts as 1. Finite regrets are clipped to [-1, 1], so one task or
    seed cannot decide a mean, and a finite blow-up counts like an overflow. Raises ValueError unless L* < L0, both
    finite: without room between them there is no regret.
    """
    loss, oracle, initial = np.broadcast_arrays(*(np.asarray(x, float) for x in (loss, oracle, initial)))
    room = initial - oracle
    if not np.all(np.isfinite(room) & (room > 0)):
        bad = np.flatnonzero(~(np.isfinite(room) & (room > 0)))[0]
        raise ValueError(
            f"normalised_regret: oracle {oracle.flat[bad]} and initial {initial.flat[bad]} (entry {bad}), "
            "want both finite and oracle < initial; leave out a task on which no tuned training improves"
        )
    finite = np.isfinite(loss)
    return np.where(finite, np.clip((np.where(finite, loss, initial) - oracle) / room, *REGRET_RANGE), DIVERGED)


def regime_weights(regimes: Sequence[str], shares: Mapping[str, float]) -> Floats:
    """Weights (tasks,) that add up to 1: each regime has its share, split evenly among its tasks.

    `regimes` are those of the tasks, `shares` those of all regimes. If a regime has no task, the other shares are
    scaled to add up to 1. Raises ValueError if none of the tasks' regimes has a share.
    """
    each = np.array([shares[regime] / list(regimes).count(regime) for regime in regimes], float)
    if not each.sum() > 0:
        raise ValueError(f"regime_weights: the regimes {sorted(set(regimes))} have no share in {dict(shares)}")
    return each / each.sum()


def iqm(values: ArrayLike) -> float:
    """Interquartile mean of pooled tasks and seeds: a quarter is cut off at each end (arXiv:2108.13264, section 4.3).

    This is rliable's definition, `trim_mean(values, 0.25, axis=None)`: floor(n/4) whole values are cut at each end.
    """
    return float(trim_mean(np.ravel(np.asarray(values, float)), 0.25))


def mean_estimate(
    values: ArrayLike, *, weights: ArrayLike | None = None, n_resamples: int, rng: np.random.Generator
) -> Estimate:
    """Mean of values (tasks, seeds) with its stratified bootstrap interval."""

    def statistic(*tasks: Floats, axis: int) -> Floats:
        return mean_over_tasks(np.stack([task.mean(axis=axis) for task in tasks]), weights)

    return _estimate(values, statistic, n_resamples, rng)


def mean_over_tasks(means: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """(tasks, ...) -> (...)."""
    of_tasks = np.asarray(means, float)
    each = np.full(len(of_tasks), 1 / len(of_tasks)) if weights is None else np.asarray(weights, float)
    return np.tensordot(each, of_tasks, axes=1)


def iqm_estimate(values: ArrayLike, *, n_resamples: int, rng: np.random.Generator) -> Estimate:
    """Interquartile mean of values (tasks, seeds) with its stratified bootstrap interval."""
    return _estimate(values, _pooled_iqm, n_resamples, rng)


def difference_estimate(
    a: ArrayLike, b: ArrayLike, *, weights: ArrayLike | None = None, n_resamples: int, rng: np.random.Generator
) -> Estimate:
    """Mean of a - b, both (tasks, seeds), with its interval. Below 0, `a` has the lower regret.

    It is paired: cell by cell both share initialisation and batches, so the differences are resampled.
    """
    a, b = _same_shape(a, b)
    return mean_estimate(a - b, weights=weights, n_resamples=n_resamples, rng=rng)


def share_won(a: ArrayLike, b: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Share of pairs (tasks, seeds) in which `a` is lower than `b`, both finite. A tie is half a win."""
    a, b = _same_shape(a, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("share_won: values that are not finite; compare regrets, where divergence counts as 1")
    return float(mean_over_tasks(((a < b) + 0.5 * (a == b)).mean(axis=-1), weights))


def steps_to_threshold(steps: ArrayLike, curves: ArrayLike, threshold: ArrayLike) -> Floats:
    """First of `steps` (T,) at which a validation curve (..., T) is <= threshold (...,); nan if it never is.

    Points of a curve that are nan (diverged, or not measured) do not count as reached.
    """
    steps, curves = np.asarray(steps, float), np.asarray(curves, float)
    if steps.ndim != 1 or curves.shape[-1:] != steps.shape or not np.all(np.diff(steps) > 0):
        raise ValueError(
            f"steps_to_threshold: steps {steps.shape}, curves {curves.shape}, "
            "want rising steps (T,) and curves (..., T)"
        )
    reached = curves <= np.asarray(threshold, float)[..., None]
    return np.where(reached.any(axis=-1), steps[reached.argmax(axis=-1)], np.nan)


def sensitivity(regret: ArrayLike) -> Floats:
    """Spread (max - min) of the final regret over initial learning rates: (..., initial LRs) -> (...)."""
    return np.ptp(np.asarray(regret, float), axis=-1)


def summary(
    regret: ArrayLike, *, weights: ArrayLike | None = None, n_resamples: int, rng: np.random.Generator
) -> dict[str, float]:
    """(tasks, seeds) -> mean, its 95 % interval low to high, iqm and its interval, worst (the worst task's mean).

    Weights apply to the mean. The interquartile mean counts all tasks alike.
    """
    mean = mean_estimate(regret, weights=weights, n_resamples=n_resamples, rng=rng)
    middle = iqm_estimate(regret, n_resamples=n_resamples, rng=rng)
    return {
        "mean": mean.value,
        "iqm": middle.value,
        "low": mean.low,
        "high": mean.high,
        "iqm_low": middle.low,
        "iqm_high": middle.high,
        "worst": float(np.asarray(regret, float).mean(axis=1).max()),
    }


def _pooled_iqm(*tasks: Floats, axis: int) -> Floats:
    return trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)


def _estimate(
    values: ArrayLike, statistic: Callable[..., Floats], n_resamples: int, rng: np.random.Generator
) -> Estimate:
    """Percentile interval of a statistic of pooled tasks, with seeds resampled within each task.

    scipy resamples each of several samples by itself, so one sample per task is the stratified bootstrap. Percentile
    intervals as in rliable. With few seeds they are too narrow (by a factor sqrt((S-1)/S) for S seeds), and they say
    nothing about other tasks.
    """
    table = np.asarray(values, float)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(f"bootstrap, values: shape {table.shape}, want (tasks >= 1, seeds >= 2)")
    if not np.isfinite(table).all():
        raise ValueError("bootstrap, values: some are not finite; use regrets, where divergence counts as 1")
    interval = bootstrap(
        tuple(table),
        statistic,
        n_resamples=n_resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=rng,
    ).confidence_interval
    return Estimate(float(statistic(*table, axis=-1)), float(interval.low), float(interval.high))


def _same_shape(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"pairs: shapes {a.shape} and {b.shape}, want the same (same tasks, seeds and order)")
    return a, b
