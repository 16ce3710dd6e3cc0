"""Next-symbol families: Markov chains and hidden ones, repeated patterns; characters of prose, of Python source."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads import recipes, text
from pipeline.workloads.architectures import draw_attention, draw_recurrent
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.networks import CELLS, Recurrent, Transformer
from pipeline.workloads.recipes import draw_sizes
from pipeline.workloads.sampling import (
    Build,
    Splits,
    assemble,
    draw_budget,
    log_integer,
    log_uniform,
    pick,
    split,
)

BATCH = (4, 8)
EXAMPLES = (1500, 10_000)  # training sequences
N_VAL = 128  # sequences; every one of their symbols is a prediction


def _draw(rng: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """One class for each row of probabilities (n, classes)."""
    cumulative = probabilities.cumsum(1)
    return (rng.random((len(cumulative), 1)) * cumulative[:, -1:] > cumulative).sum(1).clip(max=cumulative.shape[1] - 1)


def markov(rng: np.random.Generator, n: int, length: int, vocabulary: int) -> np.ndarray:
    """Sequences (n, length) of a chain of order 1 or of a hidden Markov model with `vocabulary` states."""
    states = np.empty((n, length), dtype=np.int64)
    moves = rng.dirichlet(np.full(vocabulary, rng.uniform(0.02, 0.15)), vocabulary)
    states[:, 0] = rng.integers(0, vocabulary, n)
    for t in range(1, length):
        states[:, t] = _draw(rng, moves[states[:, t - 1]])
    if rng.random() < 0.6:
        return states
    emissions = rng.dirichlet(np.full(vocabulary, 0.03), vocabulary)
    return _draw(rng, emissions[states.ravel()]).reshape(n, length)


def patterns(rng: np.random.Generator, n: int, length: int, vocabulary: int) -> np.ndarray:
    """Sequences (n, length): a random word repeated, with 5 % wrong symbols."""
    period = int(rng.integers(3, 7))
    word = rng.integers(0, vocabulary, (n, period))
    x = np.tile(word, (1, -(-length // period)))[:, :length]
    return np.where(rng.random(x.shape) < 0.05, rng.integers(0, vocabulary, x.shape), x)


def next_symbol(rng: np.random.Generator, sequences: np.ndarray, n_train: int) -> Splits:
    """Inputs and targets are the sequences without their last and without their first symbol."""
    _, first = np.unique(sequences[:, :-1], axis=0, return_index=True)  # no input in two splits
    sequences = sequences[first]
    return split(rng, sequences[:, :-1].copy(), sequences[:, 1:].copy(), n_train, N_VAL)


def _random_recurrent(rng: np.random.Generator, vocabulary: int) -> tuple[str, Build]:
    cell, width = pick(rng, tuple(CELLS)), log_integer(rng, 12, 32)
    return f"{cell}{width}", partial(Recurrent, cell, vocabulary, width, log_uniform(rng, 0.6, 1.5))


def _random_transformer(rng: np.random.Generator, vocabulary: int, length: int) -> tuple[str, Build]:
    d, blocks = pick(rng, ((16, 1), (16, 2), (24, 1), (24, 2), (32, 1)))
    post = bool(rng.random() < 0.5)
    build = partial(Transformer, vocabulary, length, d, blocks, pick(rng, (2, 4)), post)
    return f"{'post' if post else 'pre'}-norm-{blocks}x{d}", build


def markov_rnn(rng: np.random.Generator) -> Workload:
    """A Markov chain or hidden Markov model, by a tanh RNN, GRU or LSTM."""
    vocabulary, length = int(rng.integers(6, 25)), int(rng.integers(8, 13))
    sizes = draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = next_symbol(rng, markov(rng, sizes.n_train * 5 // 4 + 600, length + 1, vocabulary), sizes.n_train)
    label, build = draw_recurrent(rng, vocabulary, vocabulary)
    label = f"markov{vocabulary}-{label}"
    return recipes.assemble(rng, "markov_rnn", "ordinary", "recurrent", label, splits, build, sizes)


def markov_transformer(rng: np.random.Generator) -> Workload:
    """A Markov chain, hidden Markov model or repeated pattern, by a transformer of one to four blocks."""
    make = pick(rng, (markov, patterns), (0.7, 0.3))
    vocabulary = int(rng.integers(6, 25 if make is markov else 13))
    length, sizes = int(rng.integers(8, 13)), draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = next_symbol(rng, make(rng, 2 * sizes.n_train + 600, length + 1, vocabulary), sizes.n_train)
    label, build = draw_attention(rng, vocabulary, length)
    label = f"{make.__name__}{vocabulary}-{label}"
    return recipes.assemble(rng, "markov_transformer", "ordinary", "transformer", label, splits, build, sizes)


def _characters(rng: np.random.Generator, texts: tuple[str, ...], length: int, n_train: int = 4000) -> Splits:
    """Windows of `length` + 1 characters of eight of the texts."""
    drawn = rng.choice(texts, 8, replace=False)
    sequences = np.concatenate([text.windows(text.characters(str(name)), length + 1) for name in drawn])
    return next_symbol(rng, sequences, n_train)


def prose_lm(rng: np.random.Generator) -> Workload:
    """Characters of English prose about Python, by a recurrent cell or a transformer."""
    length = int(rng.integers(14, 19))
    splits = _characters(rng, text.TOPICS, length)
    budget = draw_budget(rng, len(splits.train), BATCH)
    recurrent = rng.random() < 0.5
    label, build = (
        _random_recurrent(rng, text.N_CHARACTERS) if recurrent else _random_transformer(rng, text.N_CHARACTERS, length)
    )
    return assemble(rng, "prose_lm", f"prose-{label}", splits, build, budget)


def package_lm(rng: np.random.Generator) -> Workload:
    """Characters of the sources of Python packages, by a recurrent cell or a transformer."""
    length, sizes = int(rng.integers(8, 13)), draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = _characters(rng, text.PACKAGES, length, sizes.n_train)
    recurrent = rng.random() < 0.4
    label, build = (
        draw_recurrent(rng, text.N_CHARACTERS, text.N_CHARACTERS)
        if recurrent
        else draw_attention(rng, text.N_CHARACTERS, length)
    )
    network = "recurrent" if recurrent else "transformer"
    return recipes.assemble(rng, "package_lm", "ordinary", network, f"package-{label}", splits, build, sizes)


def stdlib_lm_rnn(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a tanh RNN, GRU or LSTM."""
    length = int(rng.integers(14, 19))
    splits = _characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), BATCH)
    label, build = _random_recurrent(rng, text.N_CHARACTERS)
    return assemble(rng, "stdlib_lm_rnn", f"stdlib-{label}", splits, build, budget)


def stdlib_lm_transformer(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a transformer of one or two blocks."""
    length = int(rng.integers(14, 19))
    splits = _characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), BATCH)
    label, build = _random_transformer(rng, text.N_CHARACTERS, length)
    return assemble(rng, "stdlib_lm_transformer", f"stdlib-{label}", splits, build, budget)


FAMILIES = (
    Family("markov_rnn", "train", markov_rnn, "ordinary"),
    Family("markov_transformer", "train", markov_transformer, "ordinary"),
    Family("package_lm", "train", package_lm, "ordinary"),
    Family("prose_lm", "selection", prose_lm, "ordinary"),
    Family("stdlib_lm_rnn", "heldout", stdlib_lm_rnn, "ordinary"),
    Family("stdlib_lm_transformer", "heldout", stdlib_lm_transformer, "ordinary"),
)
