"""How the trainings of `benchmarks.robust` differ from held-out ones. Each change concerns one thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pipeline.evaluation import rivals
from pipeline.workloads.base import Workload

FLAT = ("mnist_mlp", "mnist_overfit", "autompg", "photo_pixels")  # families of vectors, for which any MLP will do
Optimizers = Callable[[list[nn.Parameter], Workload], torch.optim.Optimizer]


@dataclass(frozen=True)
class Change:
    """What is different from the usual training."""

    what: str
    families: Sequence[str] = ()  # none: all held-out ones
    training: Callable[[Workload], Workload] = lambda workload: workload
    optimizer: Optimizers = rivals.plain
    clip: float = math.inf  # gradient norm
    length: float = 1.0  # of the training, as a scheduler hears it, over the true one
    noise: float = 1.0  # factor on the noise of the losses that the pilot hears
    capped: bool = False  # the pilot may not exceed the textbook's rate


def _batch(factor: float) -> Callable[[Workload], Workload]:
    def change(w: Workload) -> Workload:
        return replace(w, batch_size=min(max(round(w.batch_size * factor), 1), len(w.train)))

    return change


def _decay(decay: float) -> Callable[[Workload], Workload]:
    return lambda w: replace(w, weight_decay=decay)


def _mlp(width: int, *extras: Callable[[], nn.Module]) -> Callable[[Workload], Workload]:
    """Two hidden layers of `width`, with `extras` after each."""

    def change(w: Workload) -> Workload:
        n_in, targets = w.train.x.shape[1], torch.cat([w.train.y, w.val.y])
        n_out = targets.shape[1] if w.error is None else int(targets.max()) + 1

        def build() -> nn.Module:
            layers: list[nn.Module] = []
            for a, b in ((n_in, width), (width, width)):
                layers += [nn.Linear(a, b), *(extra() for extra in extras), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(width, n_out))

        return replace(w, build=build, start={})

    return change


def _longer(w: Workload) -> Workload:
    return replace(w, n_steps=50_000)


def _rmsprop(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(params, 1e-3)


def _nadam(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.NAdam(params, 1e-3)


def _adagrad(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(params, 1e-2)


CHANGES = {
    "as usual": Change("nothing"),
    "noisy losses": Change("the losses that the pilot is told are four times as noisy", noise=4.0),
    "told 30 % more": Change("schedulers are told 1.3 times the true number of steps", length=1.3),
    "told 30 % less": Change("schedulers are told 0.7 times the true number of steps", length=0.7),
    "batch × 4": Change("batches of four times the size", training=_batch(4.0)),
    "batch ÷ 4": Change("batches of a quarter of the size", training=_batch(0.25)),
    "no weight decay": Change("no weight decay", training=_decay(0.0)),
    "weight decay": Change("weight decay of 0.1, under SGD of 0.001", training=lambda w: replace(
        w, weight_decay=0.001 if w.optimizer == "sgd" else 0.1, optimizer="sgd" if w.optimizer == "sgd" else "adamw")),
    "clipping": Change("gradients clipped to a norm of 0.1", clip=0.1),
    "dropout": Change("an MLP with dropout of 0.3", FLAT, _mlp(64, lambda: nn.Dropout(0.3))),
    "batch norm": Change("an MLP with batch norm", FLAT, _mlp(64, lambda: nn.LazyBatchNorm1d())),
    "RMSprop": Change("an optimizer that no policy was trained on", optimizer=_rmsprop),
    "NAdam": Change("another one", optimizer=_nadam),
    "Adagrad": Change("and another, whose own rates fall", optimizer=_adagrad),
    "wide": Change("an MLP of 1,600,000 parameters, 30 times what was trained on", FLAT[:1], _mlp(1150)),
    "long": Change("50,000 steps, ten times what was trained on", FLAT[2:3], _longer),
    "max_lr": Change("the pilot may not exceed the textbook's rate", capped=True),
}  # fmt: skip


def trained_as(name: str) -> str:
    """The first change with the same trainings, apart from what only the pilot is told."""

    def training(change: Change) -> tuple[Any, ...]:
        return change.families, change.training, change.optimizer, change.clip, change.length

    return next(other for other, change in CHANGES.items() if training(change) == training(CHANGES[name]))
