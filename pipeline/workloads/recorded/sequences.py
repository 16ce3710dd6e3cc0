"""Next-symbol families: Markov chains and hidden ones, repeated patterns; characters of prose, of Python source."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.architectures import draw_attention, draw_recurrent
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import pick
from pipeline.workloads.datasets import text
from pipeline.workloads.datasets.windows import characters, next_symbol

EXAMPLES = (1500, 10_000)  # training sequences


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


def markov_rnn(rng: np.random.Generator) -> Workload:
    """A Markov chain or hidden Markov model, by a tanh RNN, GRU or LSTM."""
    vocabulary, length = int(rng.integers(6, 25)), int(rng.integers(8, 13))
    sizes = draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = next_symbol(rng, markov(rng, sizes.n_train * 5 // 4 + 600, length + 1, vocabulary), sizes.n_train)
    label, build = draw_recurrent(rng, vocabulary, vocabulary)
    label = label.of(f"markov{vocabulary}")
    return recipes.assemble(rng, "markov_rnn", "ordinary", "recurrent", label, splits, build, sizes)


def markov_transformer(rng: np.random.Generator) -> Workload:
    """A Markov chain, hidden Markov model or repeated pattern, by a transformer of one to four blocks."""
    make = pick(rng, (markov, patterns), (0.7, 0.3))
    vocabulary = int(rng.integers(6, 25 if make is markov else 13))
    length, sizes = int(rng.integers(8, 13)), draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = next_symbol(rng, make(rng, 2 * sizes.n_train + 600, length + 1, vocabulary), sizes.n_train)
    label, build = draw_attention(rng, vocabulary, length)
    label = label.of(f"{make.__name__}{vocabulary}")
    return recipes.assemble(rng, "markov_transformer", "ordinary", "transformer", label, splits, build, sizes)


def package_lm(rng: np.random.Generator) -> Workload:
    """Characters of the sources of Python packages, by a recurrent cell or a transformer."""
    length, sizes = int(rng.integers(8, 13)), draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    splits = characters(rng, text.PACKAGES, length, sizes.n_train)
    recurrent = rng.random() < 0.4
    label, build = (
        draw_recurrent(rng, text.N_CHARACTERS, text.N_CHARACTERS)
        if recurrent
        else draw_attention(rng, text.N_CHARACTERS, length)
    )
    network = "recurrent" if recurrent else "transformer"
    return recipes.assemble(rng, "package_lm", "ordinary", network, label.of("package"), splits, build, sizes)


FAMILIES = (
    Family("markov_rnn", "train", markov_rnn, "ordinary"),
    Family("markov_transformer", "train", markov_transformer, "ordinary"),
    Family("package_lm", "train", package_lm, "ordinary", "language model"),
)
