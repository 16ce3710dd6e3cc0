"""One run of a workload in an ordinary training loop."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training.draws import Counted, Dropout, mask_bytes, seeded


def batch(workload: Workload, data: Data, index: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a step of run `seed`, augmented."""
    x, y = data.x[index], data.y[index]
    if workload.augment is None:
        return x, y
    with seeded(seed, step, x.device):
        return workload.augment(x, y)


def training_loss(
    workload: Workload, model: nn.Module, x: Tensor, y: Tensor, seed: int, step: int, draws: int
) -> Tensor:
    """The loss that run `seed` minimises at `step`. Its dropout takes `draws`, which are `count_draws` bytes."""
    given = torch.from_numpy(mask_bytes(seed, step, draws)).to(x.device)
    with seeded(seed, step, x.device), Dropout(given):
        outputs = model(x)
    return workload.minimised(outputs, y)


def count_draws(model: nn.Module, x: Tensor) -> int:
    """How many bytes the dropout of one step on a batch takes."""
    copied = copy.deepcopy(model).train()  # the pass may change it
    with torch.no_grad(), seeded(0, 0, x.device), Counted() as counted:
        copied(x)
    return counted.count
