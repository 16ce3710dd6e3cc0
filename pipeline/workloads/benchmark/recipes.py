"""Shared parts of the families of frozen tasks. Each is a whole recipe, written by hand instead of drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.workloads.base import Workload
from pipeline.workloads.building.pretraining import batches, masked_batches, pretrained
from pipeline.workloads.building.sampling import Build, Label, Splits, split, workload

N_VAL, N_TEST = 768, 1536
SPARE = N_VAL + N_TEST  # examples that a recipe makes beyond those to train on
SGD, ADAM, WARM = ("cosine", 0.1), ("cosine", 1e-3), ("warmup_cosine", 1e-3)  # defaults that most recipes have


def recipe(
    family: str, label: str, splits: Splits, build: Build, optimizer: str, batch_size: int, epochs: int, **settings: Any
) -> Workload:
    """The workload of a recipe; `settings` are those of `Workload`. The loss follows from the type of the targets."""
    n_steps = epochs * (len(splits.train) // batch_size)
    return workload(family, Label(label), splits, build, optimizer, batch_size=batch_size, n_steps=n_steps, **settings)


def examples(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, n_train: int) -> Splits:
    """Disjoint splits with N_VAL and N_TEST examples, or as many as there are. Repeated inputs count once."""
    _, first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    first.sort()
    return split(rng, x[first], y[first], n_train, N_VAL, N_TEST)


def next_tokens(rng: np.random.Generator, sequences: np.ndarray, n_train: int) -> Splits:
    """Inputs and targets are the sequences without their last and without their first token."""
    return examples(rng, sequences[:, :-1].copy(), sequences[:, 1:].copy(), n_train)


def shifted(x: Tensor, y: Tensor, reach: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (B, c, *size), each moved by up to `reach` places along every side, with wrap-around."""
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        index = (
            torch.arange(side, device=x.device) - torch.randint(-reach, reach + 1, (len(x), 1))
        ) % side  # (B, side)
        shape = [len(x), *(side if i == axis else 1 for i in range(1, x.ndim))]
        x = x.gather(axis, index.view(shape).expand_as(x))
    return x, y


def noised(x: Tensor, y: Tensor, deviation: float) -> tuple[Tensor, Tensor]:
    """Inputs with fresh noise."""
    return x + deviation * torch.randn(x.shape, device=x.device), y


def masked_start(
    rng: np.random.Generator, build: Build, texts: np.ndarray, n_tokens: int, steps: int
) -> dict[str, Tensor]:
    """All but the head of an encoder that has learned to name masked tokens; the mask is token `n_tokens`."""
    return pretrained(rng, build, masked_batches(rng, texts, n_tokens, steps), ("masked.",))


def classes_start(
    rng: np.random.Generator, build: Build, x: np.ndarray, y: np.ndarray, steps: int
) -> dict[str, Tensor]:
    """All but the head of a classifier after so many steps on other data."""
    return pretrained(rng, build, batches(rng, x, y, steps), ("head.",))


def scale(rng: np.random.Generator, columns: int, decades: float) -> np.ndarray:
    """Units (columns,) float32, log-uniform over so many decades around 1."""
    return (10 ** rng.uniform(-decades / 2, decades / 2, columns)).astype(np.float32)
