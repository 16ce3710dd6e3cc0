"""Models that start with weights that are too large, too small, or uneven."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.workloads.building.sampling import Build, log_uniform


@dataclass(frozen=True)
class Reinitialised:
    """A model whose weight matrices are all multiplied by `gain`, or each by its own factor around it.

    Vectors stay as they are: biases, and the scales of normalisation.
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
