"""Selection tasks on English prose about Python, by small networks."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.texts import SEQUENCES, random_recurrent, random_transformer, which_text
from pipeline.workloads.building.sampling import assemble, draw_budget
from pipeline.workloads.datasets import text
from pipeline.workloads.datasets.windows import characters


def prose_lm(rng: np.random.Generator) -> Workload:
    """Characters of English prose about Python, by a recurrent cell or a transformer."""
    length = int(rng.integers(14, 19))
    splits = characters(rng, text.TOPICS, length)
    budget = draw_budget(rng, len(splits.train), SEQUENCES)
    recurrent = rng.random() < 0.5
    label, build = (
        random_recurrent(rng, text.N_CHARACTERS) if recurrent else random_transformer(rng, text.N_CHARACTERS, length)
    )
    return assemble(rng, "prose_lm", label.of("prose"), splits, build, budget)


def prose_bag(rng: np.random.Generator) -> Workload:
    """Topics of Python's built-in help."""
    return which_text(rng, "prose_bag", "prose", text.TOPICS, int(rng.integers(6, 13)))


FAMILIES = (
    Family("prose_lm", "selection", prose_lm, "ordinary", "language model", packages=text.PYTHON),
    Family("prose_bag", "selection", prose_bag, "small_noisy", packages=text.PYTHON),
)
