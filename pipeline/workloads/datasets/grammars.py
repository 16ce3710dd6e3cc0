"""Generated language in any amount: Markov chains of order one and two, sentences from templates, texts of several
authors.
"""

from __future__ import annotations

from functools import partial

import numpy as np


def drawn(rng: np.random.Generator, cumulative: np.ndarray) -> np.ndarray:
    """One class for each row of cumulative probabilities (n, classes)."""
    return (rng.random((len(cumulative), 1), dtype=np.float32) > cumulative[:, :-1]).sum(1)


def _cumulative(rng: np.random.Generator, rows: int, vocabulary: int, sharpness: tuple[float, float]) -> np.ndarray:
    """Rows of cumulative probabilities, each over few of the vocabulary's symbols."""
    moves = rng.dirichlet(np.full(vocabulary, rng.uniform(*sharpness)), rows)
    return moves.cumsum(1).astype(np.float32)


def chain(rng: np.random.Generator, n: int, length: int, vocabulary: int, order: int = 1) -> np.ndarray:
    """Sequences (n, length) of a Markov chain of order 1 or 2."""
    moves = _cumulative(rng, vocabulary**order, vocabulary, (0.02, 0.15))
    x = rng.integers(0, vocabulary, (n, length))
    for t in range(order, length):
        before = x[:, t - 1] if order == 1 else vocabulary * x[:, t - 2] + x[:, t - 1]
        x[:, t] = drawn(rng, moves[before])
    return x


def templates(rng: np.random.Generator, n: int, length: int, vocabulary: int) -> np.ndarray:
    """Sequences (n, length) of sentences: a template names a class of words for each place, words follow Zipf's law
    within their class, and the last word of each sentence agrees with the first of the text.
    """
    classes, count = int(rng.integers(4, 9)), int(rng.integers(3, 9))
    patterns = rng.integers(0, classes, (count, 2 * length))
    for pattern in patterns:  # sentences of three to seven words, one after the other
        pattern[:: int(rng.integers(3, 8))] = classes - 1
    size = vocabulary // classes
    zipf = (1 / np.arange(1, size + 1)).cumsum().astype(np.float32)
    ranks = np.searchsorted(zipf / zipf[-1], rng.random((n, length)))
    start = rng.integers(0, length, (n, 1))
    kinds = patterns[rng.integers(0, count, (n, 1)), start + np.arange(length)]
    ends = np.roll(kinds == classes - 1, -1, axis=1)
    agreed = np.where(ends, ranks[:, :1], ranks)
    return size * kinds + agreed


def authors(
    rng: np.random.Generator, n: int, length: int, vocabulary: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Texts (n, length) of one of several authors, y (n,): some share words with all others, in an order of their own.

    Words come from groups; an author moves between groups by a chain, and prefers some words of each.
    """
    groups = int(rng.integers(6, 13))
    y = rng.integers(0, classes, n)
    moves = np.concatenate([_cumulative(rng, groups, groups, (0.1, 0.6)) for _ in range(classes)])
    size = vocabulary // groups
    zipf = (1 / np.arange(1, size + 1)).cumsum().astype(np.float32)
    rank = np.searchsorted(zipf / zipf[-1], rng.random((n, length)))
    preferred = rng.integers(0, size, (classes, size))
    rank = np.where(rng.random((n, length)) < rng.uniform(0.05, 0.4), preferred[y[:, None], rank], rank)
    group = rng.integers(0, groups, (n, length))
    for t in range(1, length):
        group[:, t] = drawn(rng, moves[groups * y + group[:, t - 1]])
    return size * group + rank, y


WRITERS = {"chain": chain, "order2": partial(chain, order=2), "templates": templates}
