"""Families on generated language: next symbols in one pass over the text, texts of several authors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.workloads.base import Family, Regime, Workload
from pipeline.workloads.building.architectures import draw_attention, draw_bag, draw_recurrent
from pipeline.workloads.building.recipes import Sizes, assemble, draw_sizes, draw_stream
from pipeline.workloads.building.sampling import Splits, corrupt, log_integer, pick, split
from pipeline.workloads.datasets import grammars
from pipeline.workloads.datasets.windows import next_symbol

HELD_BACK = 512  # texts for validation and test together
SEQUENCES = 40_000  # at most
SMALLEST = 8  # texts of a batch


def grammar_lm(rng: np.random.Generator) -> Workload:
    """Next symbols of a chain of order one or two or of sentences of templates; no text is read twice."""
    vocabulary, length = log_integer(rng, 12, 64), int(rng.integers(8, 13))
    sizes = draw_stream(rng, deep=True, most=SEQUENCES)
    kind, splits = _written(rng, sizes, vocabulary, length)
    sizes = replace(sizes, batch_size=min(sizes.batch_size, len(splits.train) // sizes.n_steps))
    network = pick(rng, ("transformer", "transformer", "recurrent"))
    label, build = (
        draw_recurrent(rng, vocabulary, vocabulary)
        if network == "recurrent"
        else draw_attention(rng, vocabulary, length)
    )
    return assemble(rng, "grammar_lm", "ordinary", network, label.of(f"{kind}{vocabulary}"), splits, build, sizes)


def _written(rng: np.random.Generator, sizes: Sizes, vocabulary: int, length: int) -> tuple[str, Splits]:
    """A kind of language and texts of it; another is drawn where too few of its texts differ for these sizes."""
    while True:
        kind, write = pick(rng, tuple(grammars.WRITERS.items()))
        sequences = write(rng, sizes.n_train * 5 // 4 + 600, length + 1, vocabulary)  # some occur twice
        splits = next_symbol(rng, sequences, sizes.n_train)
        if len(splits.train) >= SMALLEST * sizes.n_steps:
            return kind, splits


def _authors(rng: np.random.Generator, family: str, regime: Regime, recurrent: bool) -> Workload:
    sizes = draw_sizes(rng, regime, (1500, 12_000), deep=recurrent)
    vocabulary, classes = log_integer(rng, 1000, 5000), int(rng.integers(2, 9))
    length = int(rng.integers(8, 13) if recurrent else rng.integers(12, 33))
    x, y = grammars.authors(rng, sizes.n_train + HELD_BACK, length, vocabulary, classes)
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, (0.0, 0.0, 0.0, 0.1, 0.25)), classes)
    if recurrent:
        label, build = draw_recurrent(rng, classes, vocabulary, last=True, widths=(16, 32))
    else:
        label, build = draw_bag(rng, vocabulary, classes)
    network = "recurrent" if recurrent else "bag"
    return assemble(rng, family, regime, network, label.of(f"authors{classes}"), splits, build, sizes)


def authors_recurrent(rng: np.random.Generator) -> Workload:
    """Who wrote a text, by a recurrent net with dropout; sometimes with wrong labels."""
    return _authors(rng, "authors_recurrent", "ordinary", recurrent=True)


def authors_bag(rng: np.random.Generator) -> Workload:
    """Who wrote a text, by averaged word vectors; sometimes with wrong labels."""
    return _authors(rng, "authors_bag", "ordinary", recurrent=False)


FAMILIES = (
    Family("grammar_lm", "train", grammar_lm, "ordinary", "grammar language model"),
    Family("authors_recurrent", "train", authors_recurrent, "ordinary", "recurrent"),
    Family("authors_bag", "train", authors_bag, "ordinary"),
)
