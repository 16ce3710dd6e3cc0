"""Bag-of-words families: a step touches few embeddings, so the best rates are high, SGD's above all."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads import recipes, text
from pipeline.workloads.architectures import draw_bag
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.networks import Bag
from pipeline.workloads.recipes import draw_sizes
from pipeline.workloads.sampling import (
    Build,
    assemble,
    corrupt,
    draw_budget,
    log_uniform,
    pick,
    split,
)

BATCH = (8, 32)


def _random_bag(rng: np.random.Generator, vocabulary: int, n_out: int) -> tuple[str, Build]:
    d, scale = pick(rng, (8, 16, 24)), log_uniform(rng, 0.05, 1)
    return f"bag{vocabulary}x{d}", partial(Bag, vocabulary, d, n_out, scale)


def topics_bag(rng: np.random.Generator) -> Workload:
    """Synthetic documents: each class prefers few words, on top of a common background (Zipf's law)."""
    vocabulary, topics, length = (
        pick(rng, (1024, 2048, 3072, 4096)),
        int(rng.integers(3, 13)),
        int(rng.integers(12, 33)),
    )
    sizes = draw_sizes(rng, "ordinary", (1500, 12_000))
    background = 1 / np.arange(1, vocabulary + 1)
    preferred = rng.dirichlet(np.full(vocabulary, rng.uniform(0.01, 0.05)), topics)
    share = rng.uniform(0.15, 0.5)
    mixed = (1 - share) * background / background.sum() + share * preferred
    y = rng.integers(0, topics, sizes.n_train + 512)
    cumulative = mixed.cumsum(1)
    x = np.empty((len(y), length), dtype=np.int64)
    for topic in range(topics):
        rows = y == topic
        x[rows] = np.searchsorted(cumulative[topic] / cumulative[topic, -1], rng.random((rows.sum(), length)))
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, (0.0, 0.0, 0.1, 0.3)), topics)
    label, build = draw_bag(rng, vocabulary, topics)
    return recipes.assemble(rng, "topics_bag", "ordinary", "bag", f"topics{topics}-{label}", splits, build, sizes)


def _snippets(
    rng: np.random.Generator, texts: tuple[str, ...], count: int, vocabulary: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs of `length` consecutive words (n, length) of `count` texts, and which text each is of."""
    drawn = rng.choice(texts, count, replace=False)
    snippets = [text.windows(text.words(str(name), vocabulary), length) for name in drawn]
    return np.concatenate(snippets), np.repeat(np.arange(count), [len(s) for s in snippets])


def _which_text(rng: np.random.Generator, family: str, label: str, texts: tuple[str, ...], count: int) -> Workload:
    """Which of `count` texts a run of consecutive words comes from."""
    vocabulary, length = pick(rng, (512, 1024)), int(rng.integers(16, 33))
    splits = split(rng, *_snippets(rng, texts, count, vocabulary, length), 3000)
    budget = draw_budget(rng, len(splits.train), BATCH)
    bag, build = _random_bag(rng, vocabulary, count)
    return assemble(rng, family, f"{label}{count}-{bag}", splits, build, budget)


def package_bag(rng: np.random.Generator) -> Workload:
    """Files of Python packages, from few or many snippets."""
    count, vocabulary, length = int(rng.integers(4, 17)), pick(rng, (2048, 3072, 4096)), int(rng.integers(16, 33))
    sizes = draw_sizes(rng, "small_noisy", (200, 2000))
    splits = split(rng, *_snippets(rng, text.PACKAGES, count, vocabulary, length), sizes.n_train)
    label, build = draw_bag(rng, vocabulary, count)
    return recipes.assemble(rng, "package_bag", "small_noisy", "bag", f"package{count}-{label}", splits, build, sizes)


def prose_bag(rng: np.random.Generator) -> Workload:
    """Topics of Python's built-in help."""
    return _which_text(rng, "prose_bag", "prose", text.TOPICS, int(rng.integers(6, 13)))


def stdlib_bag(rng: np.random.Generator) -> Workload:
    """Modules of the standard library."""
    return _which_text(rng, "stdlib_bag", "stdlib", text.available(), int(rng.integers(8, 17)))


FAMILIES = (
    Family("topics_bag", "train", topics_bag, "ordinary"),
    Family("package_bag", "train", package_bag, "small_noisy"),
    Family("prose_bag", "selection", prose_bag, "small_noisy"),
    Family("stdlib_bag", "heldout", stdlib_bag, "small_noisy"),
)
