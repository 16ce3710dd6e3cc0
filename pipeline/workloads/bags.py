"""Bag-of-words families: a step touches few embeddings, so the best rates are high, SGD's above all."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads import text
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.models import Bag
from pipeline.workloads.sampling import (
    Build,
    assemble,
    corrupt,
    draw_budget,
    log_integer,
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
        pick(rng, (256, 512, 1024)),
        int(rng.integers(3, 13)),
        int(rng.integers(12, 33)),
    )
    n_train = log_integer(rng, 400, 3000)
    background = 1 / np.arange(1, vocabulary + 1)
    preferred = rng.dirichlet(np.full(vocabulary, rng.uniform(0.01, 0.05)), topics)
    share = rng.uniform(0.15, 0.5)
    mixed = (1 - share) * background / background.sum() + share * preferred
    y = rng.integers(0, topics, n_train + 512)
    cumulative = mixed.cumsum(1)
    x = np.empty((len(y), length), dtype=np.int64)
    for topic in range(topics):
        rows = y == topic
        x[rows] = np.searchsorted(cumulative[topic] / cumulative[topic, -1], rng.random((rows.sum(), length)))
    splits = corrupt(rng, split(rng, x, y, n_train), pick(rng, (0.0, 0.0, 0.1)), topics)
    budget = draw_budget(rng, n_train, BATCH)
    label, build = _random_bag(rng, vocabulary, topics)
    return assemble(rng, "topics_bag", f"topics{topics}-{label}", splits, build, budget)


def stdlib_bag(rng: np.random.Generator) -> Workload:
    """Which module of the standard library a run of consecutive words comes from."""
    vocabulary, length = pick(rng, (512, 1024)), int(rng.integers(16, 33))
    modules = rng.choice(text.available(), int(rng.integers(8, 17)), replace=False)
    snippets = [text.windows(text.words(str(module), vocabulary), length) for module in modules]
    x, y = np.concatenate(snippets), np.repeat(np.arange(len(snippets)), [len(s) for s in snippets])
    splits = split(rng, x, y, n_train=3000)
    budget = draw_budget(rng, len(splits.train), BATCH)
    label, build = _random_bag(rng, vocabulary, len(modules))
    return assemble(rng, "stdlib_bag", f"stdlib{len(modules)}-{label}", splits, build, budget)


FAMILIES = (Family("topics_bag", "train", topics_bag), Family("stdlib_bag", "heldout", stdlib_bag))
