"""Small networks for texts, and which text words come from: parts of the benchmark's tasks."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads.base import Workload
from pipeline.workloads.building.sampling import (
    Build,
    Label,
    assemble,
    draw_budget,
    log_integer,
    log_uniform,
    pick,
    split,
)
from pipeline.workloads.datasets.windows import snippets
from pipeline.workloads.networks.small import CELLS, Bag, Recurrent, Transformer

SEQUENCES, SNIPPETS = (4, 8), (8, 32)  # batches


def random_recurrent(rng: np.random.Generator, vocabulary: int) -> tuple[Label, Build]:
    """Label and builder of a recurrent network of a drawn cell and width."""
    cell, width = pick(rng, tuple(CELLS)), log_integer(rng, 12, 32)
    build = partial(Recurrent, cell, vocabulary, width, log_uniform(rng, 0.6, 1.5))
    return Label(f"{cell}{width}", f"{cell.upper()} {width}"), build


def random_transformer(rng: np.random.Generator, vocabulary: int, length: int) -> tuple[Label, Build]:
    """Label and builder of a transformer of one or two blocks, over sequences of `length` symbols."""
    d, blocks = pick(rng, ((16, 1), (16, 2), (24, 1), (24, 2), (32, 1)))
    post = bool(rng.random() < 0.5)
    build = partial(Transformer, vocabulary, length, d, blocks, pick(rng, (2, 4)), post)
    return Label(f"{'post' if post else 'pre'}-norm-{blocks}x{d}", f"transformer {blocks}×{d}"), build


def _random_bag(rng: np.random.Generator, vocabulary: int, n_out: int) -> tuple[Label, Build]:
    d, scale = pick(rng, (8, 16, 24)), log_uniform(rng, 0.05, 1)
    return Label(f"bag{vocabulary}x{d}", f"bag {vocabulary}×{d}"), partial(Bag, vocabulary, d, n_out, scale)


def which_text(rng: np.random.Generator, family: str, source: str, texts: tuple[str, ...], count: int) -> Workload:
    """Which of `count` texts a run of consecutive words comes from."""
    vocabulary, length = pick(rng, (512, 1024)), int(rng.integers(16, 33))
    splits = split(rng, *snippets(rng, texts, count, vocabulary, length), 3000)
    budget = draw_budget(rng, len(splits.train), SNIPPETS)
    label, build = _random_bag(rng, vocabulary, count)
    return assemble(rng, family, label.of(f"{source}{count}"), splits, build, budget)
