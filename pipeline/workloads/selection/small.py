"""Selection tasks on a table and on signals, with small networks.

They share no drawing code with training families, so a change of the recorded trainings does not change the benchmark.
"""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.small import overfit
from pipeline.workloads.building.sampling import (
    assemble,
    draw_budget,
    log_integer,
    log_uniform,
    random_convnet,
    random_mlp,
    split,
)
from pipeline.workloads.datasets import packaged


def diabetes(rng: np.random.Generator) -> Workload:
    """Disease progression of 442 patients: noisy, so networks overfit after some epochs."""
    x, y = packaged.diabetes()
    splits = split(rng, x, y, n_train=180, n_val=128, n_test=128)
    budget = draw_budget(rng, len(splits.train))
    label, build = random_mlp(rng, x.shape[1], 1, budget.batch_size, depths=(0, 3), widths=(8, 128))
    return assemble(rng, "diabetes", label.of("diabetes-mlp", ""), splits, build, budget)


def mnist1d(rng: np.random.Generator) -> Workload:
    """MNIST-1D by an MLP or a one-dimensional convolution."""
    x, y = packaged.mnist1d()
    x = x * np.float32(log_uniform(rng, 0.5, 4))
    convolve = rng.random() < 0.4
    splits = split(rng, x[:, None] if convolve else x, y, n_train=3000)
    budget = draw_budget(rng, len(splits.train), batch=(8, 32))
    label, build = (
        random_convnet(rng, (1, 40), 10) if convolve else random_mlp(rng, 40, 10, budget.batch_size, (2, 3), (32, 128))
    )
    return assemble(rng, "mnist1d", label.of("mnist1d", ""), splits, build, budget)


def mnist1d_overfit(rng: np.random.Generator) -> Workload:
    """100-300 signals of MNIST-1D, 25 % of them with a wrong label."""
    return overfit(rng, "mnist1d_overfit", "mnist1d", *packaged.mnist1d(), log_integer(rng, 100, 300), 0.25)


FAMILIES = (
    Family("diabetes", "selection", diabetes, "small_noisy", "diabetes"),
    Family("mnist1d", "selection", mnist1d, "ordinary", "MNIST-1D"),
    Family("mnist1d_overfit", "selection", mnist1d_overfit, "small_noisy", "overfit MNIST-1D"),
)
