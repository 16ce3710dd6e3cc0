"""Rivals that are not a schedule: optimizers that find their own rate, schedulers that watch a loss, and one optimizer
whose schedule and rate were chosen once.

They use the defaults of their packages, like users who do not tune, and the textbook's rate if they need one.
`loops.py` trains them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau

from pipeline.evaluation import self_tuning
from pipeline.evaluation.loop_driver import Driver, Recipe, plain
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload

CALIBRATED = Path(__file__).with_name("calibrated.json")
NADAMW = "nadamw"  # a rival, and its entry among the calibrated


def _plateau(params: list[nn.Parameter], workload: Workload) -> Driver:
    """torch's ReduceLROnPlateau."""
    optimizer = plain(params, workload)
    return Driver(optimizer, ReduceLROnPlateau(optimizer), "validation")


def _greedy(params: list[nn.Parameter], workload: Workload) -> Driver:
    """GreedyLR of transformers (arXiv:2512.14527)."""
    from transformers.optimization import GreedyLR

    optimizer = plain(params, workload)
    return Driver(optimizer, GreedyLR(optimizer), "validation")


def _nadamw(params: list[nn.Parameter], workload: Workload, schedule: str, lr0: float) -> Driver:
    """NAdamW under a schedule, as in AlgoPerf's baselines (Dahl et al. 2023, arXiv:2306.07179)."""
    optimizer = torch.optim.NAdam(
        params, lr0, self_tuning.adam_betas(workload), weight_decay=workload.weight_decay, decoupled_weight_decay=True
    )
    curve = [*multipliers(schedule, workload.n_steps).tolist(), 0.0]  # torch asks for the rate after the end, too
    return Driver(optimizer, LambdaLR(optimizer, curve.__getitem__))


def _with_cosine(recipe: Recipe) -> Recipe:
    def made(params: list[nn.Parameter], workload: Workload) -> Driver:
        optimizer = recipe(params, workload).optimizer
        return Driver(optimizer, CosineAnnealingLR(optimizer, workload.n_steps))

    return made


@dataclass(frozen=True)
class RivalRecipe:
    """A recipe, and the packages that it comes from, by the names that they are installed under."""

    recipe: Callable[..., Driver]  # (parameters, workload), and `settings` where it has any
    packages: tuple[str, ...] = ()  # besides torch
    settings: Callable[[], dict[str, Any]] = dict  # that are calibrated and frozen: schedule, lr0
    alone: bool = False  # it looks at how weights are parted into tensors

    def of(self, settings: dict[str, Any]) -> Recipe:
        """The recipe with these settings instead of the frozen ones."""
        return partial(self.recipe, **self.settings() | settings)


def nadamw_settings() -> dict[str, Any]:
    """The frozen schedule and highest rate `lr0` that are best on average over the training families' tasks."""
    return json.loads(CALIBRATED.read_text(encoding="utf-8"))[NADAMW]


RIVALS = {
    "untouched": RivalRecipe(lambda params, workload: Driver(plain(params, workload))),
    "plateau": RivalRecipe(_plateau),
    "greedy": RivalRecipe(_greedy, ("transformers",)),
    NADAMW: RivalRecipe(_nadamw, settings=nadamw_settings),
    "schedule_free": RivalRecipe(self_tuning.schedule_free, ("schedulefree",)),
    "schedule_free_high": RivalRecipe(self_tuning.schedule_free_high, ("schedulefree",)),
    "prodigy": RivalRecipe(self_tuning.prodigy, ("prodigyopt",)),
    "prodigy_cosine": RivalRecipe(_with_cosine(self_tuning.prodigy), ("prodigyopt",)),
    "d_adaptation": RivalRecipe(self_tuning.d_adaptation, ("dadaptation",)),
    "d_adaptation_cosine": RivalRecipe(_with_cosine(self_tuning.d_adaptation), ("dadaptation",)),
    "mechanic_cosine": RivalRecipe(_with_cosine(self_tuning.mechanic), ("mechanic-pytorch",)),
    "momo": RivalRecipe(self_tuning.momo, ("momo-opt",)),
    "dog": RivalRecipe(self_tuning.dog, ("dog-optimizer",)),
    "ldog": RivalRecipe(self_tuning.ldog, ("dog-optimizer",), alone=True),
}
