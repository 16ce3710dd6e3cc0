"""The oddities of odd trainings: a loss of another scale, or weights that start too large, too small or unevenly."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.building.reinitialised import Reinitialised
from pipeline.workloads.building.sampling import Build, draw_seed, log_uniform, pick
from pipeline.workloads.building.training_losses import Loss, Scaled, Summed

ODDITIES = {"none": 1 / 3, "summed": 0.2, "scaled": 0.2, "initialised": 4 / 15}
FACTORS = (1e-2, 1e2)  # of a scaled loss
GAINS = (0.1, 8.0)  # of badly initialised weights


def draw_oddity(rng: np.random.Generator, loss: Loss, build: Build) -> tuple[str, Loss, Build]:
    """(label, training loss, build) with one of ODDITIES."""
    kind = pick(rng, tuple(ODDITIES), list(ODDITIES.values()))
    if kind == "summed":
        return "summed", Summed(loss, over_predictions=bool(rng.random() < 0.3)), build
    if kind == "scaled":
        factor = log_uniform(rng, *FACTORS)
        return f"times{factor:.2g}", Scaled(loss, factor), build
    if kind == "initialised":
        gain = log_uniform(rng, *GAINS)
        return f"gain{gain:.2g}", loss, Reinitialised(build, gain, draw_seed(rng) if rng.random() < 0.5 else None)
    return "", loss, build
