"""Held-out tasks on the sources of the standard library, by small networks."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.texts import SEQUENCES, random_recurrent, random_transformer, which_text
from pipeline.workloads.building.sampling import assemble, draw_budget
from pipeline.workloads.datasets import text
from pipeline.workloads.datasets.windows import characters


def stdlib_lm_rnn(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a tanh RNN, GRU or LSTM."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    label, build = random_recurrent(rng, text.N_CHARACTERS)
    return assemble(rng, "stdlib_lm_rnn", label.of("stdlib"), splits, build, budget)


def stdlib_lm_transformer(rng: np.random.Generator) -> Workload:
    """Characters of Python source, by a transformer of one or two blocks."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.available(), length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    label, build = random_transformer(rng, text.N_CHARACTERS, length)
    return assemble(rng, "stdlib_lm_transformer", label.of("stdlib"), splits, build, budget)


def stdlib_bag(rng: np.random.Generator) -> Workload:
    """Modules of the standard library."""
    return which_text(rng, "stdlib_bag", "stdlib", text.available(), int(rng.integers(8, 17)))


FAMILIES = (
    Family("stdlib_lm_rnn", "heldout", stdlib_lm_rnn, "ordinary", "language model", packages=text.PYTHON),
    Family(
        "stdlib_lm_transformer", "heldout", stdlib_lm_transformer, "ordinary", "language model", packages=text.PYTHON
    ),
    Family("stdlib_bag", "heldout", stdlib_bag, "small_noisy", packages=text.PYTHON),
)
