"""Families of small networks that train for thousands of steps: rare among the recorded trainings, common elsewhere."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.architectures import draw_perceptron, draw_tabular
from pipeline.workloads.building.recipes import Sizes, assemble, draw_sizes
from pipeline.workloads.building.sampling import corrupt, pick, split
from pipeline.workloads.datasets.mixed_tables import draw_table
from pipeline.workloads.datasets.simulations import noisy

STEPS, EXAMPLES = (3000, 20_000), (3000, 60_000)
WIDEST = 2000  # most values of a categorical column
HELD_BACK = 1024  # validation and test examples together


def _sizes(rng: np.random.Generator) -> Sizes:
    return draw_sizes(rng, "ordinary", EXAMPLES, STEPS)


def long_waves(rng: np.random.Generator) -> Workload:
    """A sum of waves in a few columns, which takes long to learn; with noise."""
    sizes, n_in = _sizes(rng), int(rng.integers(2, 9))
    x = rng.uniform(-1, 1, (sizes.n_train + HELD_BACK, n_in)).astype(np.float32)
    waves = np.sin(x @ rng.normal(0, rng.uniform(1, 4), (n_in, 16)) + rng.uniform(0, 6, 16))
    y = waves @ rng.standard_normal((16, 1))
    splits = split(rng, x, noisy(rng, (y - y.mean()) / y.std()).astype(np.float32), sizes.n_train)
    label, build = draw_perceptron(rng, n_in, 1, sizes.batch_size, (2, 4), (24, 96), dropped=0.1)
    return assemble(rng, "long_waves", "ordinary", "mlp", label.of(f"waves{n_in}"), splits, build, sizes)


def long_table(rng: np.random.Generator) -> Workload:
    """Two to five classes of the rows of a large table, some of them wrong."""
    sizes, classes = _sizes(rng), int(rng.integers(2, 6))
    table = draw_table(rng, sizes.n_train + HELD_BACK, classes, WIDEST)
    splits = corrupt(rng, split(rng, table.x, table.y, sizes.n_train), pick(rng, (0.0, 0.1, 0.3)), classes)
    label, build = draw_tabular(rng, table.sizes, table.n_numeric, classes)
    return assemble(rng, "long_table", "ordinary", "mlp", label.of(f"table{classes}"), splits, build, sizes)


FAMILIES = (
    Family("long_waves", "train", long_waves, "ordinary", "long"),
    Family("long_table", "train", long_table, "ordinary", "long"),
)
