"""Families on small real tables."""

from __future__ import annotations

import numpy as np

from pipeline.workloads import data, recipes
from pipeline.workloads.architectures import draw_perceptron
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.recipes import draw_sizes
from pipeline.workloads.sampling import assemble, corrupt, draw_budget, log_uniform, pick, random_mlp, split


def tabular(rng: np.random.Generator) -> Workload:
    """Breast cancer or wine, sometimes with wrong training labels."""
    name = pick(rng, ("breast_cancer", "wine"))
    x, y = getattr(data, name)()
    n_classes = int(y.max()) + 1
    sizes = draw_sizes(rng, "small_noisy", (60, len(x) // 2))
    splits = split(rng, x * np.float32(log_uniform(rng, 0.3, 3)), y, sizes.n_train, n_val=128, n_test=128)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.2)), n_classes)
    label, build = draw_perceptron(rng, x.shape[1], n_classes, sizes.batch_size, (0, 3))
    return recipes.assemble(rng, "tabular", "small_noisy", "mlp", f"{name}-{label}", splits, build, sizes)


def diabetes(rng: np.random.Generator) -> Workload:
    """Disease progression of 442 patients: noisy, so networks overfit after some epochs."""
    x, y = data.diabetes()
    splits = split(rng, x, y, n_train=180, n_val=128, n_test=128)
    budget = draw_budget(rng, len(splits.train))
    label, build = random_mlp(rng, x.shape[1], 1, budget.batch_size, depths=(0, 3), widths=(8, 128))
    return assemble(rng, "diabetes", f"diabetes-mlp-{label}", splits, build, budget)


def autompg(rng: np.random.Generator) -> Workload:
    """Fuel consumption of 392 cars, columns standardised or merely divided by their largest value."""
    kind = pick(rng, ("standardised", "scaled"))
    x, y = data.autompg()
    x = (x - x.mean(0)) / x.std(0) if kind == "standardised" else x / x.max(0)
    splits = split(rng, x, y, n_train=200, n_val=96, n_test=96)
    budget = draw_budget(rng, len(splits.train))
    label, build = random_mlp(rng, x.shape[1], 1, budget.batch_size, depths=(0, 3), widths=(8, 128))
    return assemble(rng, "autompg", f"{kind}-mlp-{label}", splits, build, budget)


FAMILIES = (
    Family("tabular", "train", tabular, "small_noisy"),
    Family("diabetes", "selection", diabetes, "small_noisy"),
    Family("autompg", "heldout", autompg, "small_noisy"),
)
