"""Timing of loops, and intervals of ratios of times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np
import scipy.stats


def clock(loop: Callable[[], object]) -> float:
    """Seconds of processor time that a loop takes without garbage collection. Other load on the machine counts less."""
    gc.disable()
    begin = time.process_time()
    loop()
    taken = time.process_time() - begin
    gc.enable()
    return taken


def wall(loop: Callable[[], object]) -> float:
    """Wall time of a loop in seconds, including garbage collection."""
    begin = time.perf_counter()
    loop()
    return time.perf_counter() - begin


def estimate(name: str, ratios: np.ndarray) -> dict[str, float]:
    """The median of `ratios` (rounds,) and its percentile-bootstrap 95 % interval: <name>, <name>_low, <name>_high."""
    interval = scipy.stats.bootstrap(
        (ratios,), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {name: float(np.median(ratios)), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
