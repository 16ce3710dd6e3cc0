"""Families whose inputs nobody standardised: every column in a unit of its own, often far from zero."""

from __future__ import annotations

import math

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.architectures import draw_perceptron
from pipeline.workloads.building.recipes import assemble, draw_sizes
from pipeline.workloads.building.sampling import corrupt, pick, split
from pipeline.workloads.datasets.simulations import noisy, springs

EXAMPLES = (1000, 12_000)
HELD_BACK = 512  # validation and test examples together
DECADES = (1.0, 4.0)  # between the smallest unit of a table and its largest
LARGEST = (0.0, 3.0)  # decades: its largest unit
SHIFTED, AWAY = 0.3, 5.0  # share of the tables whose columns are not centred, and by how many deviations at most


def raw_springs(rng: np.random.Generator) -> Workload:
    """Where and how fast a damped spring is after a time, from quantities in their units."""
    sizes = draw_sizes(rng, "odd", EXAMPLES)
    x, y = springs(rng, sizes.n_train + HELD_BACK)
    label, build = draw_perceptron(rng, x.shape[1], y.shape[1], sizes.batch_size, (1, 4), (24, 160), dropped=0.1)
    splits = split(rng, in_units(rng, x), y, sizes.n_train)
    return assemble(rng, "raw_springs", "odd", "mlp", label.of("rawsprings"), splits, build, sizes)


def raw_columns(rng: np.random.Generator) -> Workload:
    """A number, or two to six classes, that depend on columns in their units by a quadratic rule."""
    sizes, n_in, classes = draw_sizes(rng, "odd", EXAMPLES), int(rng.integers(5, 41)), pick(rng, (None, 2, 3, 6))
    x = rng.standard_normal((sizes.n_train + HELD_BACK, n_in), dtype=np.float32)
    mixed = x @ rng.normal(0, 1 / math.sqrt(n_in), (n_in, 8)).astype(np.float32)
    scores = (mixed + rng.uniform(0.2, 1) * mixed**2) @ rng.standard_normal((8, classes or 1))
    splits = split(rng, in_units(rng, x), _targets(rng, scores, classes), sizes.n_train)
    if classes is not None:
        splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.3)), classes)
    label, build = draw_perceptron(rng, n_in, classes or 1, sizes.batch_size, (1, 4), (24, 160), dropped=0.2)
    return assemble(rng, "raw_columns", "odd", "mlp", label.of(f"rawcolumns{n_in}"), splits, build, sizes)


def in_units(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Standardised columns (n, d) in units that lie some decades apart, uniformly in their logarithm."""
    largest = rng.uniform(*LARGEST)
    units = 10 ** rng.uniform(largest - rng.uniform(*DECADES), largest, x.shape[1])
    away = rng.uniform(-AWAY, AWAY, x.shape[1]) if rng.random() < SHIFTED else 0.0
    return ((x + away) * units).astype(np.float32)


def _targets(rng: np.random.Generator, scores: np.ndarray, classes: int | None) -> np.ndarray:
    if classes is None:
        return noisy(rng, (scores - scores.mean()) / scores.std())
    return (scores + rng.uniform(0, 1.5) * rng.standard_normal(scores.shape)).argmax(1)


FAMILIES = (
    Family("raw_springs", "train", raw_springs, "odd", "springs"),
    Family("raw_columns", "train", raw_columns, "odd", "columns"),
)
