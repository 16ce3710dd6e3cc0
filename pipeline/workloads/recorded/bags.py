"""Bag-of-words families. A step touches few embeddings, so the best rates are high, above all under SGD."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.architectures import draw_bag
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import corrupt, pick, split
from pipeline.workloads.datasets import text
from pipeline.workloads.datasets.windows import snippets


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
    return recipes.assemble(rng, "topics_bag", "ordinary", "bag", label.of(f"topics{topics}"), splits, build, sizes)


def package_bag(rng: np.random.Generator) -> Workload:
    """Files of Python packages, from few or many snippets."""
    count, vocabulary, length = int(rng.integers(4, 17)), pick(rng, (2048, 3072, 4096)), int(rng.integers(16, 33))
    sizes = draw_sizes(rng, "small_noisy", (200, 2000))
    splits = split(rng, *snippets(rng, text.PACKAGES, count, vocabulary, length), sizes.n_train)
    label, build = draw_bag(rng, vocabulary, count)
    return recipes.assemble(rng, "package_bag", "small_noisy", "bag", label.of(f"package{count}"), splits, build, sizes)


FAMILIES = (
    Family("topics_bag", "train", topics_bag, "ordinary"),
    Family("package_bag", "train", package_bag, "small_noisy"),
)
