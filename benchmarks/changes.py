"""How the trainings of `benchmarks.robust` differ from held-out ones. Each change concerns one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from pipeline.workloads.base import Workload

FAMILIES = (  # of held-out tasks: every kind of network among ordinary trainings, and two families of each other regime
    "mnist_mlp", "mnist_cnn", "photo_pixels", "strokes_residual", "strokes_vit", "stdlib_gpt", "reports_lstm",
    "rules_table", "mnist_finetune", "reports_encoder", "mnist_overfit", "autompg", "bodies_raw", "strokes_uneven",
)  # fmt: skip
FLAT = ("mnist_mlp", "photo_pixels", "mnist_overfit", "autompg")  # families of vectors, for which any MLP will do
OTHER_OPTIMIZERS = ("RMSprop", "NAdam", "Adagrad", "Lion")


@dataclass(frozen=True)
class Change:
    """What is different from the usual training."""

    what: str
    training: Callable[[Workload], Workload] = lambda workload: workload
    families: Sequence[str] = FAMILIES
    told: float = 1.0  # length of the training, as a scheduler hears it, over the true one
    noise: float = 1.0  # factor on the noise of the losses that the pilot hears
    capped: bool = False  # the pilot may not exceed the textbook's rate


def _batch(factor: float) -> Callable[[Workload], Workload]:
    def change(w: Workload) -> Workload:
        return replace(w, batch_size=min(max(round(w.batch_size * factor), 1), len(w.train)))

    return change


def _decayed(w: Workload) -> Workload:
    if w.optimizer == "sgd":
        return replace(w, weight_decay=0.001)
    return replace(w, weight_decay=0.1, optimizer="adamw")


def _optimizer(name: str) -> Callable[[Workload], Workload]:
    """With this optimizer at its own defaults, and so without weight decay: AdamW's, added to the gradients, would ruin
    trainings at any rate.
    """
    return lambda w: replace(w, optimizer=name, betas=None, textbook=None, weight_decay=0.0)


def _mlp(width: int, *extras: Callable[[int], nn.Module]) -> Callable[[Workload], Workload]:
    """Two hidden layers of `width`, with `extras` of that width after each."""

    def change(w: Workload) -> Workload:
        n_in, targets = w.train.x.shape[1], torch.cat([w.train.y, w.val.y])
        n_out = targets.shape[1] if w.error is None else int(targets.max()) + 1

        def build() -> nn.Module:
            layers: list[nn.Module] = []
            for a, b in ((n_in, width), (width, width)):
                layers += [nn.Linear(a, b), *(extra(width) for extra in extras), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(width, n_out))

        return replace(w, build=build, start={})

    return change


CHANGES = {
    "as usual": Change("nothing"),
    "noisy losses": Change("the losses that the pilot is told are four times as noisy", noise=4.0),
    "told 30 % more": Change("schedulers are told 1.3 times the true number of steps", told=1.3),
    "told 30 % less": Change("schedulers are told 0.7 times the true number of steps", told=0.7),
    "batch × 4": Change("batches of four times the size", _batch(4.0)),
    "batch ÷ 4": Change("batches of a quarter of the size", _batch(0.25)),
    "no weight decay": Change("no weight decay", lambda w: replace(w, weight_decay=0.0)),
    "weight decay": Change("weight decay of 0.1, under SGD of 0.001", _decayed),
    "clipping": Change("gradients clipped to a norm of 0.1", lambda w: replace(w, clip=0.1)),
    "dropout": Change("an MLP with dropout of 0.3", _mlp(64, lambda _: nn.Dropout(0.3)), FLAT),
    "batch norm": Change("an MLP with batch norm", _mlp(64, nn.BatchNorm1d), FLAT),
    **{name: Change("another optimizer, at its defaults", _optimizer(name.lower())) for name in OTHER_OPTIMIZERS},
    "wide": Change("an MLP of 1,600,000 parameters", _mlp(1150), FLAT[:1]),
    "long": Change("50,000 steps", lambda w: replace(w, n_steps=50_000), FLAT[1::2]),
    "max_lr": Change("the pilot may not exceed the textbook's rate", capped=True),
}  # fmt: skip


def trained_as(name: str) -> str:
    """The first change with the same trainings, apart from what only the pilot is told."""
    change = CHANGES[name]
    return next(
        other
        for other, same in CHANGES.items()
        if (same.training, same.families, same.told) == (change.training, change.families, change.told)
    )
