"""Examples from texts: windows of characters with the next symbol as target, runs of words with their text as class."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.building.sampling import Splits, split
from pipeline.workloads.datasets import text

N_VAL = 128  # sequences; every one of their symbols is a prediction


def next_symbol(rng: np.random.Generator, sequences: np.ndarray, n_train: int) -> Splits:
    """Inputs and targets are the sequences without their last and without their first symbol."""
    _, first = np.unique(sequences[:, :-1], axis=0, return_index=True)  # no input in two splits
    sequences = sequences[first]
    return split(rng, sequences[:, :-1].copy(), sequences[:, 1:].copy(), n_train, N_VAL)


def characters(rng: np.random.Generator, texts: tuple[str, ...], length: int, n_train: int = 4000) -> Splits:
    """Windows of `length` + 1 characters of eight of the texts."""
    drawn = rng.choice(texts, 8, replace=False)
    sequences = np.concatenate([text.windows(text.characters(str(name)), length + 1) for name in drawn])
    return next_symbol(rng, sequences, n_train)


def snippets(
    rng: np.random.Generator, texts: tuple[str, ...], count: int, vocabulary: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs of `length` consecutive words (n, length) of `count` texts, and which text each is of."""
    drawn = rng.choice(texts, count, replace=False)
    parts = [text.windows(text.words(str(name), vocabulary), length) for name in drawn]
    return np.concatenate(parts), np.repeat(np.arange(count), [len(part) for part in parts])
