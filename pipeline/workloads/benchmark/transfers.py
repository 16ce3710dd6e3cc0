"""Fine-tuning of small networks, for tasks of the benchmark: one version of the data, then another with few examples.

The pretrained weights are the workload's `start`, the same for every run; the two versions share no example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipeline.workloads.base import Workload
from pipeline.workloads.building.sampling import (
    Build,
    assemble,
    cross_entropy,
    draw_budget,
    draw_seed,
    log_integer,
    log_uniform,
    random_convnet,
    random_mlp,
    split,
)
from pipeline.workloads.datasets import packaged
from pipeline.workloads.datasets.shifts import Shift

BATCH = 32  # of the pretraining


def pretrain(rng: np.random.Generator, build: Build, x: np.ndarray, y: np.ndarray, n_steps: int) -> dict[str, Tensor]:
    """Parameters after `n_steps` of Adam with a linearly falling rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(rng))
        model = build()
    batches = torch.from_numpy(rng.integers(0, len(x), (n_steps, BATCH)))
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), lr=log_uniform(rng, 1e-3, 5e-3), fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, n_steps)
    for batch in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def finetuned(
    rng: np.random.Generator,
    family: str,
    table: packaged.Table,
    shift: Callable[[np.random.Generator, np.ndarray, np.ndarray], Shift],
    n_pretrain: int,
    n_train: int,
) -> Workload:
    """Signals with a channel axis go to a ConvNet, images (n, h, w) to an MLP."""
    x, y = table
    order = rng.permutation(len(x))
    old, new = order[:n_pretrain], order[n_pretrain:]
    convolve = x.shape[1] == 1
    flat = (lambda inputs: inputs) if convolve else (lambda inputs: inputs.reshape(len(inputs), -1))
    kind, shifted, targets = shift(rng, x[new], y[new])
    splits = split(rng, flat(shifted), targets, n_train)
    budget = draw_budget(rng, len(splits.train), batch=(8, 32))
    if convolve:
        label, build = random_convnet(rng, x.shape[1:], 10)
    else:
        n_in = splits.train.x.shape[1]
        label, build = random_mlp(rng, n_in, 10, budget.batch_size, (1, 3), (32, 128), gains=(1, 1.6))
        label = label.of("mlp", "")
    start = pretrain(rng, build, flat(x[old]), y[old], log_integer(rng, 100, 600))
    return assemble(rng, family, label.of(kind), splits, build, budget, start=start)
