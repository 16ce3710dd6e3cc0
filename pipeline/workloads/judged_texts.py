"""Families of the benchmark on texts, by small networks: the next character, and which text words come from."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads import text
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.networks import CELLS, Bag, Recurrent, Transformer
from pipeline.workloads.sampling import (
    Build,
    Label,
    assemble,
    draw_budget,
    log_integer,
    log_uniform,
    pick,
    split,
)
from pipeline.workloads.text_data import characters, snippets

SEQUENCES, SNIPPETS = (4, 8), (8, 32)  # batches


def _random_recurrent(rng: np.random.Generator, vocabulary: int) -> tuple[Label, Build]:
    cell, width = pick(rng, tuple(CELLS)), log_integer(rng, 12, 32)
    build = partial(Recurrent, cell, vocabulary, width, log_uniform(rng, 0.6, 1.5))
    return Label(f"{cell}{width}", f"{cell.upper()} {width}"), build


def _random_transformer(rng: np.random.Generator, vocabulary: int, length: int) -> tuple[Label, Build]:
    d, blocks = pick(rng, ((16, 1), (16, 2), (24, 1), (24, 2), (32, 1)))
    post = bool(rng.random() < 0.5)
    build = partial(Transformer, vocabulary, length, d, blocks, pick(rng, (2, 4)), post)
    return Label(f"{'post' if post else 'pre'}-norm-{blocks}x{d}", f"transformer {blocks}×{d}"), build


def _random_bag(rng: np.random.Generator, vocabulary: int, n_out: int) -> tuple[Label, Build]:
    d, scale = pick(rng, (8, 16, 24)), log_uniform(rng, 0.05, 1)
    return Label(f"bag{vocabulary}x{d}", f"bag {vocabulary}×{d}"), partial(Bag, vocabulary, d, n_out, scale)


def prose_lm(rng: np.random.Generator) -> Workload:
    """Characters of English prose about Python, by a recurrent cell or a transformer."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.TOPICS, length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    recurrent = rng.random() < 0.5
    label, build = (
        _random_recurrent(rng, text.N_CHARACTERS) if recurrent else _random_transformer(rng, text.N_CHARACTERS, length)
    )
    return assemble(rng, "prose_lm", label.of("prose"), splits, build, budget)


def stdlib_lm_rnn(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a tanh RNN, GRU or LSTM."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    label, build = _random_recurrent(rng, text.N_CHARACTERS)
    return assemble(rng, "stdlib_lm_rnn", label.of("stdlib"), splits, build, budget)


def stdlib_lm_transformer(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a transformer of one or two blocks."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    label, build = _random_transformer(rng, text.N_CHARACTERS, length)
    return assemble(rng, "stdlib_lm_transformer", label.of("stdlib"), splits, build, budget)


def _which_text(rng: np.random.Generator, family: str, source: str, texts: tuple[str, ...], count: int) -> Workload:
    """Which of `count` texts a run of consecutive words comes from."""
    vocabulary, length = pick(rng, (512, 1024)), int(rng.integers(16, 33))
    splits = split(rng, *snippets(rng, texts, count, vocabulary, length), 3000)
    budget = draw_budget(rng, len(splits.train), SNIPPETS)
    label, build = _random_bag(rng, vocabulary, count)
    return assemble(rng, family, label.of(f"{source}{count}"), splits, build, budget)


def prose_bag(rng: np.random.Generator) -> Workload:
    """Topics of Python's built-in help."""
    return _which_text(rng, "prose_bag", "prose", text.TOPICS, int(rng.integers(6, 13)))


def stdlib_bag(rng: np.random.Generator) -> Workload:
    """Modules of the standard library."""
    return _which_text(rng, "stdlib_bag", "stdlib", text.available(), int(rng.integers(8, 17)))


FAMILIES = (
    Family("prose_lm", "selection", prose_lm, "ordinary", "language model"),
    Family("stdlib_lm_rnn", "heldout", stdlib_lm_rnn, "ordinary", "language model"),
    Family("stdlib_lm_transformer", "heldout", stdlib_lm_transformer, "ordinary", "language model"),
    Family("prose_bag", "selection", prose_bag, "small_noisy"),
    Family("stdlib_bag", "heldout", stdlib_bag, "small_noisy"),
)
