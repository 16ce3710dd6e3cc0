"""Selection: fine-tuning of a small network on another version of MNIST-1D."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.transfers import finetuned
from pipeline.workloads.building.sampling import log_integer
from pipeline.workloads.datasets import packaged
from pipeline.workloads.datasets.shifts import shift_signal


def finetune_mnist1d(rng: np.random.Generator) -> Workload:
    """MNIST-1D by a one-dimensional convolution, 100-800 examples of the new version."""
    x, y = packaged.mnist1d()
    return finetuned(rng, "finetune_mnist1d", (x[:, None], y), shift_signal, 2000, log_integer(rng, 100, 800))


FAMILIES = (Family("finetune_mnist1d", "selection", finetune_mnist1d, "finetuning", "fine-tuned MNIST-1D"),)
