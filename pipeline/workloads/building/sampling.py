"""Shared by all families: random draws, disjoint splits, losses, and the step from parts to a `Workload`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.networks.small import ACTIVATIONS, MLP, ConvNet

OPTIMIZER_SHARES = {"adam": 0.45, "adamw": 0.20, "sgd": 0.35}
WEIGHT_DECAY = 0.01  # where it is decoupled
STEPS = (300, 5000)
EPOCHS = 100  # at most
MLP_WORK = 450_000  # parameters x batch size of an MLP at most: keeps one run at some hundredths of a second

Build = Callable[[], nn.Module]
T = TypeVar("T")


@dataclass(frozen=True)
class Label:
    """What a workload or a part of it is called."""

    name: str  # in tables of tasks: "mlp2x40-relu"
    title: str = ""  # on pages: "MLP 2×40"

    def of(self, data: str, title: str | None = None) -> Label:
        """This network's on some data; `title`: theirs, where it is not their name."""
        return Label(f"{data}-{self.name}", f"{data if title is None else title} {self.title}".strip())

    def marked(self, mark: str) -> Label:
        """With a mark at the end, unless that is empty."""
        return Label(f"{self.name}-{mark}", f"{self.title} {mark}") if mark else self


@dataclass(frozen=True)
class Splits:
    """Disjoint training, validation and test examples of one problem."""

    train: Data
    val: Data
    test: Data


@dataclass(frozen=True)
class Budget:
    """Length of one run: steps, and examples per step."""

    n_steps: int
    batch_size: int


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def log_integer(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer in low..high, log-uniform."""
    return min(high, int(log_uniform(rng, low, high + 1)))


def pick(rng: np.random.Generator, options: Sequence[T], p: Sequence[float] | None = None) -> T:
    return options[int(rng.choice(len(options), p=p))]


def draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def draw_budget(rng: np.random.Generator, n_train: int, batch: tuple[int, int] = (8, 64)) -> Budget:
    """A length with density 1 / steps^2, so long trainings cost as much in total as short ones; at most EPOCHS."""
    (shortest, longest), (smallest, largest) = STEPS, batch
    n_steps = int(1 / rng.uniform(1 / (longest + 1), 1 / shortest))
    n_steps = min(n_steps, EPOCHS * n_train // smallest)
    largest = min(largest, n_train, EPOCHS * n_train // n_steps)
    return Budget(n_steps, log_integer(rng, smallest, largest))


def split(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, n_train: int, n_val: int = 256, n_test: int = 256
) -> Splits:
    """Random disjoint splits. With few examples, validation and test shrink to a quarter of them."""
    spare = (len(x) - min(n_train, len(x) // 2)) // 2
    n_val, n_test = min(n_val, spare), min(n_test, spare)
    order = rng.permutation(len(x))
    val, test, train = np.split(order, [n_val, n_val + n_test])
    train = train[:n_train]
    return Splits(*(Data(torch.from_numpy(x[i]), torch.from_numpy(y[i])) for i in (train, val, test)))


def corrupt(rng: np.random.Generator, splits: Splits, share: float, n_classes: int) -> Splits:
    """Give `share` of the training examples a wrong class. Validation and test labels stay correct."""
    wrong = torch.from_numpy(rng.random(len(splits.train)) < share)
    offset = torch.from_numpy(rng.integers(1, n_classes, len(splits.train)))
    y = torch.where(wrong, (splits.train.y + offset) % n_classes, splits.train.y)
    return replace(splits, train=Data(splits.train.x, y))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all predictions: outputs (..., classes), targets (...)."""
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def error_rate(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of wrong classes or next symbols: outputs (..., classes), targets (...)."""
    return (outputs.argmax(-1) != targets).float().mean()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs, targets)


def baseline_loss(y: Tensor) -> float:
    """Loss of the best constant prediction of y: entropy of the class frequencies (nats), or variance."""
    if y.is_floating_point():
        return float(y.double().var(0, unbiased=False).mean())
    share = torch.bincount(y.flatten()).double() / y.numel()
    return float(torch.special.entr(share).sum())


def random_mlp(
    rng: np.random.Generator,
    n_in: int,
    n_out: int,
    batch_size: int,
    depths: tuple[int, int] = (1, 4),
    widths: tuple[int, int] = (8, 256),
    gains: tuple[float, float] = (0.8, 2.0),
) -> tuple[Label, Build]:
    """(label, build) of a random MLP whose cost, parameters x batch size, is within MLP_WORK."""
    while True:
        depth = int(rng.integers(depths[0], depths[1] + 1))
        sizes = (n_in, *(log_integer(rng, *widths),) * depth, n_out)
        if sum(a * b for a, b in pairwise(sizes)) * batch_size <= MLP_WORK:
            break
    activation = pick(rng, tuple(ACTIVATIONS))
    norm, residual = rng.random() < 0.2, rng.random() < 0.25
    name = f"{depth}x{sizes[1]}-{activation}{'-norm' * norm}{'-residual' * residual}" if depth else "linear"
    label = Label(name, f"MLP {depth}×{sizes[1]}" if depth else "MLP linear")
    return label, partial(MLP, sizes, activation, log_uniform(rng, *gains), bool(norm), bool(residual))


def random_convnet(rng: np.random.Generator, shape: tuple[int, ...], n_out: int) -> tuple[Label, Build]:
    """(label, build) of a small ConvNet for inputs of `shape` (channels, *size)."""
    width, norm = log_integer(rng, 4, 10), bool(rng.random() < 0.4)
    activation = pick(rng, tuple(ACTIVATIONS))
    gain = log_uniform(rng, 0.7, 2)
    build = partial(ConvNet, shape[1:], (shape[0], width, 2 * width), n_out, activation, gain, norm)
    return Label(f"conv{width}-{activation}{'-norm' * norm}", f"CNN {width}"), build


def assemble(
    rng: np.random.Generator,
    family: str,
    label: Label,
    splits: Splits,
    build: Build,
    budget: Budget,
    start: Mapping[str, Tensor] | None = None,
) -> Workload:
    """The workload of these parts with a drawn optimizer. The loss follows from the type of the targets.

    Training examples beyond those that the steps use are left out. `start`: as in `Workload`.
    """
    optimizer = pick(rng, tuple(OPTIMIZER_SHARES), list(OPTIMIZER_SHARES.values()))
    return workload(
        family, label, cut(splits, budget.n_steps * budget.batch_size), build, optimizer,
        batch_size=budget.batch_size, n_steps=budget.n_steps,
        weight_decay=WEIGHT_DECAY if OPTIMIZERS[optimizer].decoupled else 0.0, start=start or {},
    )  # fmt: skip


def cut(splits: Splits, examples: int) -> Splits:
    """The splits with only the first so many training examples."""
    return replace(splits, train=Data(splits.train.x[:examples], splits.train.y[:examples]))


def workload(family: str, label: Label, splits: Splits, build: Build, optimizer: str, **settings: Any) -> Workload:
    """The workload of these parts; `settings` are those of `Workload`.

    Its loss, error and baseline follow from the type of the targets, its name and title from the parts.
    """
    regression = splits.val.y.is_floating_point()
    return Workload(
        family=family,
        name=f"{label.name}-n{len(splits.train)}-{optimizer}",
        train=splits.train,
        val=splits.val,
        test=splits.test,
        build=build,
        loss=mean_squared_error if regression else cross_entropy,
        error=None if regression else error_rate,
        baseline_loss=baseline_loss(splits.val.y),
        optimizer=optimizer,
        title=label.title,
        **settings,
    )
