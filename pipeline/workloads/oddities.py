"""What makes a training odd: a loss of another scale, weights that start too large, too small or unevenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.workloads.sampling import Build, draw_seed, log_uniform, pick
from pipeline.workloads.training_losses import Loss, Scaled, Summed

ODDITIES = {"none": 1 / 3, "summed": 0.2, "scaled": 0.2, "initialised": 4 / 15}
FACTORS = (1e-2, 1e2)  # of a scaled loss
GAINS = (0.1, 8.0)  # of badly initialised weights


@dataclass(frozen=True)
class Reinitialised:
    """A model whose weight matrices are multiplied, all by `gain`, or each by one of its own around it.

    Vectors stay: biases, and the scales of normalisation.
    """

    build: Build
    gain: float
    seed: int | None = None  # of the tensors' own gains

    def __call__(self) -> nn.Module:
        model = self.build()
        rng = None if self.seed is None else np.random.default_rng(self.seed)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.ndim > 1:
                    weights *= self.gain * (1 if rng is None else log_uniform(rng, 1 / 3, 3))
        return model


def draw_oddity(rng: np.random.Generator, loss: Loss, build: Build) -> tuple[str, Loss, Build]:
    """(label, training loss, build) with one of ODDITIES."""
    kind = pick(rng, tuple(ODDITIES), list(ODDITIES.values()))
    if kind == "summed":
        return "-summed", Summed(loss, over_predictions=bool(rng.random() < 0.3)), build
    if kind == "scaled":
        factor = log_uniform(rng, *FACTORS)
        return f"-times{factor:.2g}", Scaled(loss, factor), build
    if kind == "initialised":
        gain = log_uniform(rng, *GAINS)
        return f"-gain{gain:.2g}", loss, Reinitialised(build, gain, draw_seed(rng) if rng.random() < 0.5 else None)
    return "", loss, build
