"""Rivals that are not a schedule: optimizers that find their own rate, schedulers that watch a loss, and one optimizer
whose schedule and rate were chosen once.

They use the defaults of their packages, like users who do not tune, and the textbook's rate if they need one. Weight
decay is the workload's own. For optimizers other than SGD, the Adam variant of a package is used. `training_loops.py`
trains them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau

from lrpilot.decisions.optimizer_kinds import ADAM_BETAS, OPTIMIZERS
from pipeline.evaluation.training_loops import Driver, Recipe, textbook_optimizer
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload

CALIBRATED = Path(__file__).with_name("calibrated.json")
NADAMW = "nadamw"  # a rival, and its entry among the calibrated
WARM_UP = 0.05  # share of the steps, where a package advises a warm-up
START, NORMED_START = 1e-6, 1e-4  # DoG's `reps_rel`, and what its authors advise under batch norm


def is_sgd(workload: Workload) -> bool:
    return workload.optimizer == "sgd"


def adam_betas(workload: Workload) -> tuple[float, float]:
    """The workload's own betas, unless they are Lion's."""
    return ADAM_BETAS if workload.betas is None or workload.optimizer == "lion" else workload.betas


def schedule_free(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Schedule-free AdamW or SGD (Defazio et al. 2024, arXiv:2405.15682) at the package's rates, 0.0025 and 1."""
    from schedulefree import AdamWScheduleFree, SGDScheduleFree

    kind = SGDScheduleFree if is_sgd(workload) else AdamWScheduleFree
    return Driver(kind(params, weight_decay=workload.weight_decay, warmup_steps=round(WARM_UP * workload.n_steps)))


def schedule_free_high(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Schedule-free AdamW from 0.01, whatever the workload's optimizer."""
    from schedulefree import AdamWScheduleFree

    warm_up = round(WARM_UP * workload.n_steps)
    return Driver(AdamWScheduleFree(params, 1e-2, weight_decay=workload.weight_decay, warmup_steps=warm_up))


def prodigy(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101)."""
    from prodigyopt import Prodigy

    decay: Any = workload.weight_decay  # declared int there
    return Driver(Prodigy(params, weight_decay=decay, decouple=OPTIMIZERS[workload.optimizer].decoupled))


def d_adaptation(params: list[nn.Parameter], workload: Workload) -> Driver:
    """D-Adaptation (Defazio & Mishchenko 2023, arXiv:2301.07733)."""
    from dadaptation import DAdaptAdam, DAdaptSGD

    decay: Any = workload.weight_decay  # declared int there
    if is_sgd(workload):
        return Driver(DAdaptSGD(params, momentum=workload.momentum, weight_decay=decay))
    return Driver(DAdaptAdam(params, weight_decay=decay, decouple=OPTIMIZERS[workload.optimizer].decoupled))


def mechanic(params: list[nn.Parameter], workload: Workload) -> Driver:
    """Mechanic (Cutkosky et al. 2023, arXiv:2306.00144) around AdamW or SGD with momentum, their rate 1 as advised."""
    from mechanic_pytorch import mechanize

    decay = workload.weight_decay
    if is_sgd(workload):
        own = {"momentum": workload.momentum, "nesterov": workload.nesterov}
        return Driver(mechanize(torch.optim.SGD)(params, lr=1.0, weight_decay=decay, **own))
    return Driver(mechanize(torch.optim.AdamW)(params, lr=1.0, betas=adam_betas(workload), weight_decay=decay))


def momo(params: list[nn.Parameter], workload: Workload) -> Driver:
    """MoMo for SGD with momentum, else MoMo-Adam (Schaipp et al. 2024, arXiv:2305.07583), rates 1 and 0.01."""
    from momo import Momo, MomoAdam

    optimizer = Momo(params, beta=workload.momentum) if is_sgd(workload) else MomoAdam(params)
    optimizer.param_groups[0]["weight_decay"] = workload.weight_decay  # declared int there
    return Driver(optimizer, needs_loss=True)


def dog(params: list[nn.Parameter], workload: Workload) -> Driver:
    """DoG (Ivgi et al. 2023, arXiv:2302.12022) with the averaging of weights that its package advises."""
    from dog import DoG

    return Driver(Averaged(DoG(params, _start(workload), weight_decay=workload.weight_decay), params))


def ldog(params: list[nn.Parameter], workload: Workload) -> Driver:
    """DoG with a step size of its own for every tensor."""
    from dog import LDoG

    return Driver(Averaged(LDoG(params, _start(workload), weight_decay=workload.weight_decay), params))


def _start(workload: Workload) -> float:
    normed = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return NORMED_START if any(isinstance(module, normed) for module in workload.initialise(0).modules()) else START


class Averaged:
    """DoG with the polynomial average of its weights, which is what to evaluate: `eval()` puts the average in place.

    Running statistics of batch norm stay those of the last weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> None:
        from dog import PolynomialDecayAverager

        self._optimizer, self._params = optimizer, params
        self._averager = PolynomialDecayAverager(nn.ParameterList(params))
        self._aside: list[torch.Tensor] | None = None  # weights of the training, during an evaluation

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def zero_grad(self) -> None:
        self._optimizer.zero_grad()

    def step(self) -> None:
        self._optimizer.step()
        self._averager.step()

    @torch.no_grad()
    def eval(self) -> None:
        """Put the averaged weights in place."""
        self._aside = [p.detach().clone() for p in self._params]
        for p, averaged in zip(self._params, self._averager.averaged_model.parameters(), strict=True):
            p.copy_(averaged)

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights of the training in place."""
        for p, own in zip(self._params, self._aside or self._params, strict=True):
            p.copy_(own)
        self._aside = None


def _plateau(params: list[nn.Parameter], workload: Workload) -> Driver:
    """torch's ReduceLROnPlateau."""
    optimizer = textbook_optimizer(params, workload)
    return Driver(optimizer, ReduceLROnPlateau(optimizer), "validation")


def _greedy(params: list[nn.Parameter], workload: Workload) -> Driver:
    """GreedyLR of transformers (arXiv:2512.14527)."""
    from transformers.optimization import GreedyLR

    optimizer = textbook_optimizer(params, workload)
    return Driver(optimizer, GreedyLR(optimizer), "validation")


def _nadamw(params: list[nn.Parameter], workload: Workload, schedule: str, lr0: float) -> Driver:
    """NAdamW under a schedule, as in AlgoPerf's baselines (Dahl et al. 2023, arXiv:2306.07179)."""
    optimizer = torch.optim.NAdam(
        params, lr0, adam_betas(workload), weight_decay=workload.weight_decay, decoupled_weight_decay=True
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
    "untouched": RivalRecipe(lambda params, workload: Driver(textbook_optimizer(params, workload))),
    "plateau": RivalRecipe(_plateau),
    "greedy": RivalRecipe(_greedy, ("transformers",)),
    NADAMW: RivalRecipe(_nadamw, settings=nadamw_settings),
    "schedule_free": RivalRecipe(schedule_free, ("schedulefree",)),
    "schedule_free_high": RivalRecipe(schedule_free_high, ("schedulefree",)),
    "prodigy": RivalRecipe(prodigy, ("prodigyopt",)),
    "prodigy_cosine": RivalRecipe(_with_cosine(prodigy), ("prodigyopt",)),
    "d_adaptation": RivalRecipe(d_adaptation, ("dadaptation",)),
    "d_adaptation_cosine": RivalRecipe(_with_cosine(d_adaptation), ("dadaptation",)),
    "mechanic_cosine": RivalRecipe(_with_cosine(mechanic), ("mechanic-pytorch",)),
    "momo": RivalRecipe(momo, ("momo-opt",)),
    "dog": RivalRecipe(dog, ("dog-optimizer",)),
    "ldog": RivalRecipe(ldog, ("dog-optimizer",), alone=True),
}
