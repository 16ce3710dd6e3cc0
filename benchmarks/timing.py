"""Timing of loops, and intervals of ratios of times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np
import scipy.stats


def clock(loop: Callable[[], object], timer: Callable[[], float] = time.process_time) -> float:
    """Seconds that a loop takes without garbage collection. It is processor time, so other load on the machine counts
    less.

    Another `timer` measures another time: `time.perf_counter` measures wall time.
    """
    gc.disable()
    begin = timer()
    loop()
    taken = timer() - begin
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
