"""Held-out tasks on a table, digits and photographs, with small networks.

They share no drawing code with training families, so a change of the recorded trainings does not change the benchmark.
"""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.small import overfit
from pipeline.workloads.building.sampling import (
    assemble,
    corrupt,
    draw_budget,
    log_uniform,
    pick,
    random_convnet,
    random_mlp,
    split,
)
from pipeline.workloads.datasets import packaged


def autompg(rng: np.random.Generator) -> Workload:
    """Fuel consumption of 392 cars, columns standardised or merely divided by their largest value."""
    kind = pick(rng, ("standardised", "scaled"))
    x, y = packaged.autompg()
    x = (x - x.mean(0)) / x.std(0) if kind == "standardised" else x / x.max(0)
    splits = split(rng, x, y, n_train=200, n_val=96, n_test=96)
    budget = draw_budget(rng, len(splits.train))
    label, build = random_mlp(rng, x.shape[1], 1, budget.batch_size, depths=(0, 3), widths=(8, 128))
    return assemble(rng, "autompg", label.of(f"{kind}-mlp", kind), splits, build, budget)


def mnist_mlp(rng: np.random.Generator) -> Workload:
    """MNIST at 14 x 14, MLP."""
    x, y = packaged.mnist()
    scale = np.float32(log_uniform(rng, 0.5, 4))
    splits = split(rng, x.reshape(-1, 196) * scale, y, n_train=3900, n_val=512, n_test=512)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.2)), 10)
    budget = draw_budget(rng, len(splits.train), batch=(8, 32))
    label, build = random_mlp(rng, 196, 10, budget.batch_size, depths=(0, 3), widths=(16, 128))
    return assemble(rng, "mnist_mlp", label.of("mnist-mlp", ""), splits, build, budget)


def mnist_cnn(rng: np.random.Generator) -> Workload:
    """MNIST at 14 x 14, two convolutions."""
    x, y = packaged.mnist()
    splits = split(rng, x[:, None], y, n_train=3900, n_val=512, n_test=512)
    budget = draw_budget(rng, len(splits.train), batch=(8, 20))
    label, build = random_convnet(rng, (1, 14, 14), 10)
    return assemble(rng, "mnist_cnn", label.of("mnist", ""), splits, build, budget)


def photo_pixels(rng: np.random.Generator) -> Workload:
    """The colour of a place in a photograph, a function that a network learns from coarse to fine."""
    photo = pick(rng, ("china", "flower"))
    x, y = packaged.pixels(photo)
    splits = split(rng, x * np.float32(log_uniform(rng, 1, 8)), y, n_train=6000, n_val=512, n_test=512)
    budget = draw_budget(rng, len(splits.train))
    label, build = random_mlp(rng, 2, 3, budget.batch_size, depths=(2, 4), widths=(32, 128))
    return assemble(rng, "photo_pixels", label.of(f"{photo}-mlp", photo), splits, build, budget)


def mnist_overfit(rng: np.random.Generator) -> Workload:
    """150 MNIST digits, 25 % of them with a wrong label."""
    x, y = packaged.mnist()
    return overfit(rng, "mnist_overfit", "mnist", x.reshape(-1, 196), y, 150, 0.25)


FAMILIES = (
    Family("autompg", "heldout", autompg, "small_noisy", "auto-mpg"),
    Family("mnist_mlp", "heldout", mnist_mlp, "ordinary", "MNIST"),
    Family("mnist_cnn", "heldout", mnist_cnn, "ordinary", "MNIST"),
    Family("photo_pixels", "heldout", photo_pixels, "ordinary", "photo pixels"),
    Family("mnist_overfit", "heldout", mnist_overfit, "small_noisy", "overfit MNIST"),
)
