"""A family of schedules with five parameters, wide enough to hold near-optimal ones, and draws from it.

Searched for every task by itself, its best member is a floor that no schedule of a family gets far below: common
schedule families leave room under their tuned best ("Searching for optimal schedules", arXiv:2603.10301).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 0.75  # decades around the tuned grid's best rate in which highest rates are drawn


@dataclass(frozen=True)
class Shape:
    """Linear warm-up to the highest rate, a plateau, and a fall as a power of what is left."""

    peak: float  # log10 of the highest rate
    warm: float  # share of the steps
    hold: float  # share of the steps, after the warm-up
    power: float  # of the fall: 1 is a line, below 1 late, above 1 early
    end: float  # log10 of the last rate over the highest


def rates(shape: Shape, n: int) -> np.ndarray:
    """(n,) learning rates."""
    progress = (np.arange(n) + 0.5) / n
    fall = np.clip((progress - shape.warm - shape.hold) / (1 - shape.warm - shape.hold), 0, 1)
    last = 10.0**shape.end
    rate = last + (1 - last) * (1 - fall) ** shape.power
    if shape.warm > 0:
        rate = np.minimum(rate, progress / shape.warm)
    return 10.0**shape.peak * rate


def draw(rng: np.random.Generator, peak: float, count: int) -> list[Shape]:
    """Shapes whose highest rate lies around 10 ** peak, half of them without a plateau, half without a warm-up."""
    return [
        Shape(
            peak + rng.uniform(-REACH, REACH), rng.choice([0, 1]) * rng.uniform(0.02, 0.3),
            rng.choice([0, 1]) * rng.uniform(0, 0.6), 2.0 ** rng.uniform(-1, 2), rng.uniform(-4, -0.5),
        )
        for _ in range(count)
    ]  # fmt: skip
