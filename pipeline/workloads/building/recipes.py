"""How people train: lengths, batches, optimizers and their settings, drawn for the recorded families.

docs/workloads.md says where the shares come from. The frozen families of the other splits use `sampling.assemble`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from torch import Tensor

from lrpilot.decisions.optimizer_kinds import ADAM_BETAS, OPTIMIZERS
from pipeline.workloads.base import Regime, Workload
from pipeline.workloads.building.oddities import draw_oddity
from pipeline.workloads.building.sampling import (
    Build,
    Label,
    Splits,
    cross_entropy,
    cut,
    log_uniform,
    mean_squared_error,
    pick,
    workload,
)
from pipeline.workloads.building.training_losses import Smoothed, huber

T = TypeVar("T")
Network = Literal["mlp", "conv", "transformer", "recurrent", "bag"]

EPOCHS: dict[Regime, tuple[float, float]] = {  # passes over the data, log-uniform
    "ordinary": (2, 20), "finetuning": (2, 20), "small_noisy": (15, 100), "odd": (2, 40),
}  # fmt: skip
BATCHES: dict[Regime, dict[int, float]] = {
    "ordinary": {16: 0.05, 32: 0.40, 64: 0.35, 128: 0.20},
    "finetuning": {8: 0.10, 16: 0.35, 32: 0.45, 64: 0.10},
    "small_noisy": {8: 0.25, 16: 0.35, 32: 0.40},
    "odd": {16: 0.15, 32: 0.40, 64: 0.30, 128: 0.15},
}
MOST_EPOCHS, LEAST_BATCH = 100, 8
STEPS = (300, 2500)
DEEP = {16: 0.25, 32: 0.70, 64: 0.05}  # batches of the networks whose step takes long; their steps
DEEP_STEPS = (300, 600)
OPTIMIZER_SHARES: dict[Network, dict[str, float]] = {
    "mlp": {"adam": .38, "adamw": .24, "sgd": .22, "rmsprop": .05, "nadam": .04, "adagrad": .04, "lion": .03},
    "conv": {"adam": .22, "adamw": .22, "sgd": .40, "rmsprop": .05, "nadam": .04, "adagrad": .03, "lion": .04},
    "transformer": {"adam": .18, "adamw": .62, "sgd": .05, "rmsprop": .03, "nadam": .03, "adagrad": .03, "lion": .06},
    "recurrent": {"adam": .42, "adamw": .22, "sgd": .10, "rmsprop": .14, "nadam": .04, "adagrad": .04, "lion": .04},
    "bag": {"adam": .36, "adamw": .20, "sgd": .20, "rmsprop": .05, "nadam": .04, "adagrad": .12, "lion": .03},
}  # fmt: skip
DECAYS: dict[str, dict[float, float]] = {
    "adamw": {0.0: 0.1, 0.01: 0.5, 0.05: 0.2, 0.1: 0.2},
    "lion": {0.0: 0.2, 0.1: 0.5, 1.0: 0.3},
    "sgd": {0.0: 0.4, 1e-4: 0.3, 5e-4: 0.3},
    "adam": {0.0: 0.8, 1e-5: 0.1, 1e-4: 0.1},
}
CLIPPED: dict[Network, float] = {"mlp": 0.06, "conv": 0.08, "transformer": 0.55, "recurrent": 0.5, "bag": 0.03}
NESTEROV, SMOOTHED, HUBER = 0.35, 0.15, 0.15  # shares: of SGD, of image and text classifiers, of regressions


@dataclass(frozen=True)
class Sizes:
    """Examples to train on, steps, and examples per step of one training."""

    n_train: int
    n_steps: int
    batch_size: int


def draw_sizes(
    rng: np.random.Generator,
    regime: Regime,
    examples: tuple[int, int],
    steps: tuple[int, int] = STEPS,
    *,
    deep: bool = False,
    epochs: tuple[float, float] | None = None,
) -> Sizes:
    """Steps, batch and epochs by the regime's shares.

    `deep`: for a network with slow steps. The number of examples follows from the three, within the bounds `examples`.
    At a bound, the epochs differ.
    """
    n_steps = _draw_steps(rng, DEEP_STEPS if deep else steps)
    batch_size = choose(rng, DEEP if deep and regime != "small_noisy" else BATCHES[regime])
    n_train = round(n_steps * batch_size / log_uniform(rng, *(epochs or EPOCHS[regime])))
    n_train = int(np.clip(n_train, max(examples[0], batch_size), examples[1]))
    n_steps = min(n_steps, MOST_EPOCHS * n_train // LEAST_BATCH)
    return Sizes(n_train, n_steps, min(batch_size, n_train, MOST_EPOCHS * n_train // n_steps))


def draw_stream(rng: np.random.Generator, *, deep: bool = False, most: int = 60_000) -> Sizes:
    """Sizes of a training that repeats no example. If that would take more than `most` examples, its batches are
    smaller.
    """
    n_steps = _draw_steps(rng, DEEP_STEPS if deep else STEPS)
    batch_size = min(choose(rng, DEEP if deep else BATCHES["ordinary"]), most // n_steps)
    return Sizes(n_steps * batch_size, n_steps, batch_size)


def _draw_steps(rng: np.random.Generator, steps: tuple[int, int]) -> int:
    """Steps with density 1 / steps^2, so long trainings cost as much in total as short ones."""
    return int(1 / rng.uniform(1 / (steps[1] + 1), 1 / steps[0]))


def choose(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    """One of the keys, by its share."""
    return pick(rng, tuple(shares), list(shares.values()))


def assemble(
    rng: np.random.Generator,
    family: str,
    regime: Regime,
    network: Network,
    label: Label,
    splits: Splits,
    build: Build,
    sizes: Sizes,
    *,
    start: Mapping[str, Tensor] | None = None,
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
) -> Workload:
    """The workload of these parts with drawn settings. The loss follows from the type of the targets.

    Training examples beyond those that the steps use are left out. In the odd regime a third of the trainings has no
    further oddity (the data are odd already, or it is drawn so). The others have a loss of another scale or badly
    initialised weights.
    """
    optimizer = choose(rng, OPTIMIZER_SHARES[network])
    regression = splits.val.y.is_floating_point()
    loss = mean_squared_error if regression else cross_entropy
    train_loss = None
    if regression and rng.random() < HUBER:
        train_loss = huber
    elif network in ("conv", "transformer") and not regression and rng.random() < SMOOTHED:
        train_loss = Smoothed(0.1)
    if regime == "odd":
        oddity, train_loss, build = draw_oddity(rng, train_loss or loss, build)
        label = label.marked(oddity)
    splits = cut(splits, sizes.n_steps * sizes.batch_size)
    return workload(
        family,
        label,
        splits,
        build,
        optimizer,
        batch_size=min(sizes.batch_size, len(splits.train)),
        n_steps=sizes.n_steps,
        weight_decay=choose(rng, DECAYS[optimizer]) if optimizer in DECAYS else 0.0,
        betas=_betas(rng, optimizer, network),
        momentum=choose(rng, {0.9: 0.9, 0.95: 0.05, 0.8: 0.05}),
        nesterov=OPTIMIZERS[optimizer].is_sgd and bool(rng.random() < NESTEROV),
        clip=choose(rng, {1.0: 0.7, 0.5: 0.15, 5.0: 0.15}) if rng.random() < CLIPPED[network] else None,
        train_loss=train_loss,
        augment=augment,
        start=start or {},
    )


def _betas(rng: np.random.Generator, optimizer: str, network: Network) -> tuple[float, float] | None:
    """Betas that differ from the defaults, in a part of the trainings with Adam kinds, as papers on transformers use
    them.
    """
    if OPTIMIZERS[optimizer].betas != ADAM_BETAS or rng.random() > (0.4 if network == "transformer" else 0.08):
        return None
    return choose(rng, {(0.9, 0.95): 0.4, (0.9, 0.98): 0.4, (0.9, 0.99): 0.2})
