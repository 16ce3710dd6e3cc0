"""Families on small real tables."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.architectures import draw_perceptron
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import corrupt, log_uniform, pick, split
from pipeline.workloads.datasets import packaged


def tabular(rng: np.random.Generator) -> Workload:
    """Breast cancer or wine, sometimes with wrong training labels."""
    name = pick(rng, ("breast_cancer", "wine"))
    x, y = getattr(packaged, name)()
    n_classes = int(y.max()) + 1
    sizes = draw_sizes(rng, "small_noisy", (60, len(x) // 2))
    splits = split(rng, x * np.float32(log_uniform(rng, 0.3, 3)), y, sizes.n_train, n_val=128, n_test=128)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.2)), n_classes)
    label, build = draw_perceptron(rng, x.shape[1], n_classes, sizes.batch_size, (0, 3))
    return recipes.assemble(
        rng, "tabular", "small_noisy", "mlp", label.of(name, name.replace("_", " ")), splits, build, sizes
    )


FAMILIES = (Family("tabular", "train", tabular, "small_noisy", "tabular"),)
