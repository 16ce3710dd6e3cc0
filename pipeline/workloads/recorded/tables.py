"""Families on generated tables and physics: mixed columns, springs, streams of examples that never repeat."""

from __future__ import annotations

import math

import numpy as np

from pipeline.workloads.base import Family, Regime, Workload
from pipeline.workloads.building.architectures import draw_perceptron, draw_recurrent, draw_tabular
from pipeline.workloads.building.recipes import Sizes, assemble, draw_sizes, draw_stream
from pipeline.workloads.building.sampling import corrupt, pick, split
from pipeline.workloads.datasets.mixed_tables import draw_table
from pipeline.workloads.datasets.simulations import spring_tracks, springs

EXAMPLES = (1500, 20_000)
WIDEST = 5000  # most values of a categorical column
HELD_BACK = 512  # validation and test examples together


def _table(rng: np.random.Generator, family: str, regime: Regime, sizes: Sizes, widest: int) -> Workload:
    classes = pick(rng, (None, None, 2, 2, 3, 5))
    table = draw_table(rng, sizes.n_train + HELD_BACK, classes, widest)
    splits = split(rng, table.x, table.y, sizes.n_train)
    if classes is not None:
        splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.3)), classes)
    label, build = draw_tabular(rng, table.sizes, table.n_numeric, classes or 1)
    label = label.of(f"table{'' if classes is None else classes}")
    return assemble(rng, family, regime, "mlp", label, splits, build, sizes)


def mixed_table(rng: np.random.Generator) -> Workload:
    """Categorical and numeric columns; classes, some labels of them wrong, or numbers with noise."""
    return _table(rng, "mixed_table", "ordinary", draw_sizes(rng, "ordinary", EXAMPLES), WIDEST)


def odd_table(rng: np.random.Generator) -> Workload:
    """The same, mostly with a loss of another scale or a bad initialisation."""
    return _table(rng, "odd_table", "odd", draw_sizes(rng, "odd", (1000, 12_000)), WIDEST)


def few_rows(rng: np.random.Generator) -> Workload:
    """The same in a few hundred rows, many times."""
    return _table(rng, "few_rows", "small_noisy", draw_sizes(rng, "small_noisy", (100, 1200)), 60)


def table_stream(rng: np.random.Generator) -> Workload:
    """Rows of a large table, each seen once: clicks."""
    return _table(rng, "table_stream", "ordinary", draw_stream(rng, most=60_000), WIDEST)


def springs_mlp(rng: np.random.Generator) -> Workload:
    """Where a damped spring is after a time, sometimes with much noise."""
    sizes = draw_sizes(rng, "ordinary", EXAMPLES)
    x, y = springs(rng, sizes.n_train + HELD_BACK)
    label, build = draw_perceptron(rng, x.shape[1], y.shape[1], sizes.batch_size, (2, 4), (24, 160), dropped=0.15)
    splits = split(rng, x, y, sizes.n_train)
    return assemble(rng, "springs_mlp", "ordinary", "mlp", label.of("springs"), splits, build, sizes)


def spring_recurrent(rng: np.random.Generator) -> Workload:
    """The next place of two coupled springs, by a recurrent net."""
    sizes = draw_sizes(rng, "ordinary", (1500, 8000), deep=True)
    x, y = spring_tracks(rng, sizes.n_train + HELD_BACK, int(rng.integers(8, 15)))
    label, build = draw_recurrent(rng, y.shape[-1], n_in=x.shape[-1])
    splits = split(rng, x, y, sizes.n_train)
    return assemble(rng, "spring_recurrent", "ordinary", "recurrent", label.of("springs"), splits, build, sizes)


def wide_mlp(rng: np.random.Generator) -> Workload:
    """Many columns that a quadratic rule turns into classes, by a wide MLP; sometimes with wrong labels."""
    sizes = draw_sizes(rng, "ordinary", EXAMPLES, (300, 1500))
    n_in, classes = int(rng.integers(40, 161)), int(rng.integers(2, 11))
    x = rng.standard_normal((sizes.n_train + HELD_BACK, n_in), dtype=np.float32)
    mixed = x @ rng.normal(0, 1 / math.sqrt(n_in), (n_in, 8)).astype(np.float32)
    scores = (mixed + rng.uniform(0.2, 1) * mixed**2) @ rng.standard_normal((8, classes))
    y = (scores + rng.uniform(0, 1.5) * rng.standard_normal(scores.shape)).argmax(1)
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, (0.0, 0.0, 0.1, 0.3)), classes)
    label, build = draw_perceptron(rng, n_in, classes, sizes.batch_size, (2, 3), (96, 256), dropped=0.6)
    return assemble(rng, "wide_mlp", "ordinary", "mlp", label.of(f"columns{n_in}"), splits, build, sizes)


FAMILIES = (
    Family("mixed_table", "train", mixed_table, "ordinary", "mixed"),
    Family("table_stream", "train", table_stream, "ordinary", "stream"),
    Family("springs_mlp", "train", springs_mlp, "ordinary"),
    Family("spring_recurrent", "train", spring_recurrent, "ordinary", "recurrent"),
    Family("wide_mlp", "train", wide_mlp, "ordinary", "wide MLP"),
    Family("few_rows", "train", few_rows, "small_noisy", "few rows"),
    Family("odd_table", "train", odd_table, "odd", "odd"),
)
