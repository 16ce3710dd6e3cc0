"""Generated tables of categorical and numeric columns in any number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.workloads.building.sampling import log_integer
from pipeline.workloads.datasets.simulations import noisy


@dataclass(frozen=True)
class Table:
    """x (n, columns) float32, the codes of the categorical columns first; y (n, 1) floats or (n,) classes."""

    x: np.ndarray
    y: np.ndarray
    sizes: tuple[int, ...]  # values of each categorical column
    n_numeric: int


def draw_table(rng: np.random.Generator, n: int, classes: int | None, widest: int) -> Table:
    """A table whose target depends on its categories, its numbers, and numbers within a category; with noise.

    Values of a column follow Zipf's law. Some numeric columns are heavy-tailed, and all are correlated. `classes`: None
    for a regression. `widest`: the largest number of values of a categorical column. In most tables the first column
    has nearly as many, like identifiers of customers or goods.
    """
    sizes = tuple(log_integer(rng, 3, widest) for _ in range(int(rng.integers(1, 6))))
    if rng.random() < 0.6:
        sizes = (log_integer(rng, -(-widest // 3), widest), *sizes[1:])
    n_numeric = int(rng.integers(3, 13))
    codes = np.stack([_zipf(rng, n, size) for size in sizes], 1)
    numbers = rng.standard_normal((n, n_numeric)) @ rng.normal(0, 1, (n_numeric, n_numeric)) / n_numeric**0.5
    heavy = rng.random(n_numeric) < 0.3
    hidden = np.tanh(numbers @ rng.standard_normal((n_numeric, 12)) + rng.standard_normal(12))
    score = hidden @ rng.standard_normal(12) / 3
    for column, size in zip(codes.T, sizes, strict=True):
        score = score + 0.7 * rng.standard_normal(size)[column]
    score = score + rng.standard_normal(sizes[0])[codes[:, 0]] * hidden[:, 0]
    numbers[:, heavy] = np.sign(numbers[:, heavy]) * np.expm1(np.abs(numbers[:, heavy]))
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    x = np.concatenate([codes, numbers], 1).astype(np.float32)
    y = noisy(rng, ((score - score.mean()) / score.std())[:, None])
    if classes is not None:
        y = np.searchsorted(np.quantile(y[:, 0], np.arange(1, classes) / classes), y[:, 0])
    return Table(x, y, sizes, n_numeric)


def _zipf(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    shares = (1 / np.arange(1, size + 1) ** rng.uniform(0.3, 1)).cumsum()
    return np.searchsorted(shares / shares[-1], rng.random(n))
