"""Trainings under optimizers and schedulers of packages, from the same initial weights and batches as every other
method.

A single training runs in an ordinary loop. Several trainings share a population that computes the gradients, and each
one's own optimizer makes its step. Both give the same result for an optimizer that uses only the values of the weights
and not how they are split into tensors (tests/pipeline/evaluation/test_rivals.py).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.simulation import follow
from pipeline.simulation.recorder import Recording, Scores
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training import layout, single_run
from pipeline.workloads.training.population import Population
from pipeline.workloads.training.update_rules import torch_optimizer

Reports = Literal["nothing", "loss", "validation"]


@dataclass(frozen=True)
class Driver:
    """Makes the steps of one training."""

    optimizer: Any
    scheduler: Any = None
    reports: Reports = "nothing"  # to the scheduler at every step: nothing or the batch loss; or now and then a
    # validation loss
    needs_loss: bool = False  # the optimizer works its step out from the batch loss

    def step(self, loss: Tensor) -> None:
        """One step of the optimizer along the gradients, and of the scheduler, unless that waits for a validation loss.

        `loss` () is the batch loss of these gradients.
        """
        self.optimizer.step(**({"loss": loss} if self.needs_loss else {}))
        if self.scheduler is not None and self.reports != "validation":
            self.scheduler.step(*([loss] if self.reports == "loss" else []))

    def after_validation(self, val_loss: float) -> None:
        """Step a scheduler that waits for a validation loss."""
        if self.reports == "validation":
            self.scheduler.step(val_loss)


Recipe = Callable[[list[nn.Parameter], Workload], Driver]


def textbook_optimizer(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    """The workload's optimizer at the textbook default's rate."""
    return torch_optimizer(params, workload, workload.default[1])


def of_scheduler(factory: Callable[[Any, int], Any]) -> Recipe:
    """The recipe of a user's scheduler: `factory(optimizer, total_steps)`, where the optimizer has the textbook's rate.

    `step(loss)` gets every batch's loss, `step(metrics)` a validation loss now and then, any other `step()` nothing.
    """

    def made(params: list[nn.Parameter], workload: Workload) -> Driver:
        optimizer = textbook_optimizer(params, workload)
        scheduler = factory(optimizer, workload.n_steps)
        names = [*inspect.signature(scheduler.step).parameters]
        reports: dict[str, Reports] = {"loss": "loss", "metrics": "validation"}
        return Driver(optimizer, scheduler, reports.get(names[0], "nothing") if names else "nothing")

    return made


def train(
    workload: Workload, seeds: Sequence[int], recipes: Sequence[Recipe], val_examples: int, milestones: Sequence[int]
) -> Recording:
    """One training per seed and recipe, on one thread of the CPU, then its test; see `recorder.Recording`.

    The validation loss is measured at `milestones`, in completed steps, and passed to a scheduler that watches it. A
    training whose batch loss is not finite ends there, and its later values are nan.
    """
    alone = len(seeds) == 1
    runs = PlainLoop(workload, seeds[0], recipes[0]) if alone else SideBySide(workload, seeds, recipes)
    return follow.train(workload, runs, val_examples, milestones)


class PlainLoop:
    """One training in an ordinary loop."""

    members = np.arange(1)

    def __init__(self, workload: Workload, seed: int, recipe: Recipe) -> None:
        self._workload, self._seed = workload, seed
        self._batches = torch.from_numpy(workload.batches(seed))
        self._model = workload.initialise(seed)
        self._params = [p for p in self._model.parameters() if p.requires_grad]
        x, _ = single_run.batch(workload, workload.train, self._batches[0], seed, 0)
        self._draws = single_run.count_draws(self._model, x)
        self._driver = recipe(self._params, workload)
        self._alive = True
        _training_mode(self._driver.optimizer)

    def __len__(self) -> int:
        return 1

    @property
    def snapshot(self) -> Tensor:
        return layout.snapshot(self._model)[None]

    def rates(self, step: int) -> np.ndarray:
        return np.array([_rate(self._driver.optimizer) if self._alive else np.nan])

    def train_step(self, step: int, lr: np.ndarray) -> None:
        if not self._alive:
            return
        workload, optimizer = self._workload, self._driver.optimizer
        x, y = single_run.batch(workload, workload.train, self._batches[step], self._seed, step)
        loss = single_run.training_loss(workload, self._model.train(), x, y, self._seed, step, self._draws)
        self._alive = bool(torch.isfinite(loss))
        if not self._alive:
            return
        optimizer.zero_grad()
        loss.backward()
        if workload.clip is not None:
            nn.utils.clip_grad_norm_(self._params, workload.clip)
        self._driver.step(loss.detach())

    def evaluating(self) -> AbstractContextManager[None]:
        return _evaluation_mode(self._driver.optimizer)

    def validated(self, loss: np.ndarray) -> None:
        if self._alive:
            self._driver.after_validation(loss[0])

    def score(self, data: Data, limit: int | None = None) -> Scores:
        loss, error = score(self._workload, self._model, data, limit) if self._alive else (np.nan, np.nan)
        return np.array([loss]), np.array([error])

    def score_of(self, snapshot: Tensor, data: Data) -> Scores:
        model = layout.load(copy.deepcopy(self._model), snapshot[0])
        loss, error = score(self._workload, model, data)
        return np.array([loss]), np.array([error])


class SideBySide(Population):
    """A population whose members have optimizers of their own. Each optimizes one tensor: the member's row of
    weights.
    """

    def __init__(self, workload: Workload, seeds: Sequence[int], recipes: Sequence[Recipe]) -> None:
        super().__init__(workload, seeds)
        self._rows = [nn.Parameter(row) for row in self.state.weights]  # they share its memory
        self._drivers = [recipe([row], workload) for row, recipe in zip(self._rows, recipes, strict=True)]
        self._optimizers = [driver.optimizer for driver in self._drivers]
        self._alive = np.ones(len(seeds), bool)
        _training_mode(*self._optimizers)

    def _in_training(self) -> list[tuple[int, Driver]]:
        return [(i, driver) for i, driver in enumerate(self._drivers) if self._alive[i]]

    def rates(self, step: int) -> np.ndarray:
        return np.array([_rate(o) if a else np.nan for o, a in zip(self._optimizers, self._alive, strict=True)])

    def train_step(self, step: int, lr: np.ndarray) -> Tensor:
        loss = super().train_step(step, lr)
        self._alive &= torch.isfinite(loss).numpy()
        for i, driver in self._in_training():
            self._rows[i].grad = self.gradient[i]
            driver.step(loss[i])
        return loss

    def _update(self, lr: np.ndarray) -> None:
        """Does nothing: the members' drivers make the steps."""

    def evaluating(self) -> AbstractContextManager[None]:
        return _evaluation_mode(*self._optimizers)

    def validated(self, loss: np.ndarray) -> None:
        for i, driver in self._in_training():
            driver.after_validation(loss[i])

    def score(self, data: Data, limit: int | None = None) -> Scores:
        loss, error = np.where(self._alive, super().score(data, limit), np.nan)
        return loss, error


def _rate(optimizer: Any) -> float:
    """The rate of the first group, times the optimizer's own scale `d` if it finds one."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) * float(group.get("d", 1.0))


def _training_mode(*optimizers: Any) -> None:
    """Schedule-free optimizers have other weights for training than for evaluation."""
    for optimizer in optimizers:
        if hasattr(optimizer, "train"):
            optimizer.train()


@contextmanager
def _evaluation_mode(*optimizers: Any) -> Iterator[None]:
    for optimizer in optimizers:
        if hasattr(optimizer, "eval"):
            optimizer.eval()
    yield
    _training_mode(*optimizers)


@torch.no_grad()
def score(workload: Workload, model: nn.Module, data: Data, limit: int | None = None) -> tuple[float, float]:
    """Mean loss and error rate on the first `limit` examples; nan error if the workload has none."""
    outputs: Tensor = model.eval()(data.x[:limit])
    loss, y = workload.loss(outputs, data.y[:limit]).item(), data.y[:limit]
    return loss, np.nan if workload.error is None else workload.error(outputs, y).item()
