"""Losses of trainings that go nowhere: every one is drawn anew, from one distribution."""

from collections.abc import Callable

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def mistakes(share: float) -> Draw:
    """Losses that are 1 in a share of the batches, and else 0."""
    return lambda rng, shape: (rng.random(shape) < share).astype(float)


def mixed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One batch in ten has a hundredfold loss."""
    return rng.normal(1.0, 0.1, shape) * np.where(rng.random(shape) < 0.1, 100.0, 1.0)


DRAWS: dict[str, Draw] = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(0.0, 1.0, shape),
    "student": lambda rng, shape: rng.standard_t(2, shape),  # of infinite variance
    "mixture": mixed,
    **{f"wrong in {share:.0%}": mistakes(share) for share in (0.1, 0.3, 0.5, 0.9)},
}
