"""Held-out: fine-tuning of a small network on turned and moved digits."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.transfers import finetuned
from pipeline.workloads.building.sampling import log_integer
from pipeline.workloads.datasets import packaged
from pipeline.workloads.datasets.shifts import Shift


def mnist_finetune(rng: np.random.Generator) -> Workload:
    """MNIST, 60-100 turned and moved digits."""

    def turn_and_move(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
        x = ndimage.rotate(x, rng.uniform(20, 60) * rng.choice((-1, 1)), axes=(1, 2), reshape=False, order=1)
        return "turned", ndimage.shift(x, (0, *rng.choice((-2, 2), 2)), order=0), y

    return finetuned(rng, "mnist_finetune", packaged.mnist(), turn_and_move, 2000, log_integer(rng, 60, 100))


FAMILIES = (Family("mnist_finetune", "heldout", mnist_finetune, "finetuning", "MNIST fine-tuned"),)
