"""Rivals that are not a schedule: optimizers that find their own rate, schedulers that watch a loss.

Their packages' defaults stand, as with users who do not tune; where a rate must be given, it is the textbook's.
`loops.py` trains them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from pipeline.workloads.base import TEXTBOOK, Workload

MOMENTUM = 0.9
WARM_UP = 0.05  # share of the steps, where a package advises a warm-up

Reports = Literal["nothing", "loss", "validation"]


@dataclass(frozen=True)
class Driver:
    """What makes one training's steps."""

    optimizer: Any
    scheduler: Any = None
    reports: Reports = "nothing"  # to it at every step: nothing or the batch loss; or now and then a validation loss

    def after_step(self, loss: Tensor) -> None:
        """Let the scheduler step, unless it waits for a validation loss."""
        if self.scheduler is not None and self.reports != "validation":
            self.scheduler.step(*([loss] if self.reports == "loss" else []))

    def after_validation(self, val_loss: float) -> None:
        """Let the scheduler step that waits for a validation loss."""
        if self.reports == "validation":
            self.scheduler.step(val_loss)


Recipe = Callable[[list[nn.Parameter], Workload], Driver]


def plain(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    """torch's optimizer of the workload's kind, at the textbook's rate."""
    lr, decay = TEXTBOOK[workload.optimizer], workload.weight_decay
    if workload.optimizer == "sgd":
        return torch.optim.SGD(params, lr, momentum=MOMENTUM, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[workload.optimizer]
    return kind(params, lr, weight_decay=decay)


def _plateau(params: list[nn.Parameter], workload: Workload) -> Driver:
    """torch's ReduceLROnPlateau."""
    optimizer = plain(params, workload)
    return Driver(optimizer, ReduceLROnPlateau(optimizer), "validation")


def _greedy(params: list[nn.Parameter], workload: Workload) -> Driver:
    """GreedyLR of transformers (arXiv:2512.14527)."""
    from transformers.optimization import GreedyLR

    optimizer = plain(params, workload)
    return Driver(optimizer, GreedyLR(optimizer), "validation")


def _schedule_free(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Schedule-free AdamW or SGD (Defazio et al. 2024, arXiv:2405.15682)."""
    from schedulefree import AdamWScheduleFree, SGDScheduleFree

    kind = SGDScheduleFree if workload.optimizer == "sgd" else AdamWScheduleFree
    warm_up = round(WARM_UP * workload.n_steps)
    return Driver(kind(params, weight_decay=workload.weight_decay, warmup_steps=warm_up))


def _prodigy(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101)."""
    from prodigyopt import Prodigy

    decay: Any = workload.weight_decay  # declared int there
    return Driver(Prodigy(params, weight_decay=decay, decouple=workload.optimizer == "adamw"))


def _d_adaptation(params: list[nn.Parameter], workload: Workload) -> Driver:
    """D-Adaptation (Defazio & Mishchenko 2023, arXiv:2301.07733)."""
    from dadaptation import DAdaptAdam, DAdaptSGD

    decay: Any = workload.weight_decay  # declared int there
    if workload.optimizer == "sgd":
        return Driver(DAdaptSGD(params, momentum=MOMENTUM, weight_decay=decay))
    return Driver(DAdaptAdam(params, weight_decay=decay, decouple=workload.optimizer == "adamw"))


def _with_cosine(recipe: Recipe) -> Recipe:
    def made(params: list[nn.Parameter], workload: Workload) -> Driver:
        optimizer = recipe(params, workload).optimizer
        return Driver(optimizer, CosineAnnealingLR(optimizer, workload.n_steps))

    return made


@dataclass(frozen=True)
class RivalRecipe:
    """A recipe, and the packages that it comes from, by the names that they are installed under."""

    recipe: Recipe
    packages: tuple[str, ...] = ()  # besides torch


RIVALS = {
    "untouched": RivalRecipe(lambda params, workload: Driver(plain(params, workload))),
    "plateau": RivalRecipe(_plateau),
    "greedy": RivalRecipe(_greedy, ("transformers",)),
    "schedule_free": RivalRecipe(_schedule_free, ("schedulefree",)),
    "prodigy": RivalRecipe(_prodigy, ("prodigyopt",)),
    "prodigy_cosine": RivalRecipe(_with_cosine(_prodigy), ("prodigyopt",)),
    "d_adaptation": RivalRecipe(_d_adaptation, ("dadaptation",)),
    "d_adaptation_cosine": RivalRecipe(_with_cosine(_d_adaptation), ("dadaptation",)),
}


def of_scheduler(factory: Callable[[Any, int], Any]) -> Recipe:
    """The recipe of anybody's scheduler: `factory(optimizer, total_steps)`, the optimizer at the textbook's rate.

    `step(loss)` gets every batch's loss, `step(metrics)` a validation loss now and then, any other `step()` nothing.
    """

    def made(params: list[nn.Parameter], workload: Workload) -> Driver:
        optimizer = plain(params, workload)
        scheduler = factory(optimizer, workload.n_steps)
        names = [*inspect.signature(scheduler.step).parameters]
        reports: dict[str, Reports] = {"loss": "loss", "metrics": "validation"}
        return Driver(optimizer, scheduler, reports.get(names[0], "nothing") if names else "nothing")

    return made
