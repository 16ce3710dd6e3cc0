"""Trainings under optimizers and schedulers of packages, from the initial weights and through the batches that every
other method has.

One training runs in the loop that everybody writes. Of several, a population works out the gradients, and each one's
own optimizer makes its step: the same, for whoever looks at its weights' values alone and not at how they are parted
into tensors (tests/test_loops.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.evaluation.rivals import Driver, Recipe
from pipeline.simulation.follow import Recording
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.population import Best, Population

Scores = tuple[float, float]  # loss, error rate


def train(
    workload: Workload, seeds: Sequence[int], recipes: Sequence[Recipe], val_examples: int, milestones: Sequence[int]
) -> Recording:
    """One training per seed and its recipe, on one thread of the CPU, then its test; see `simulate.Recording`.

    The validation loss is taken at `milestones`, completed steps; a scheduler that watches it hears of it then. A
    training whose batch loss is not finite ends there, and what would have come is nan.
    """
    scored, points = workload.scored(val_examples), set(milestones)
    if len(seeds) == 1:
        return _alone(workload, seeds[0], recipes[0], scored, points)
    return _together(workload, seeds, recipes, scored, points)


def _alone(workload: Workload, seed: int, recipe: Recipe, scored: int, milestones: set[int]) -> Recording:
    model = workload.initialise(seed)
    lowest, best = np.inf, score(workload, model, workload.test)
    driver = recipe([*model.parameters()], workload)
    optimizer, x, y = driver.optimizer, workload.train.x, workload.train.y
    rates, curve = np.full(workload.n_steps, np.nan), np.full(len(milestones), np.nan)
    taken = 0
    _training(optimizer)
    for step, batch in enumerate(torch.from_numpy(workload.batches(seed)), start=1):
        rates[step - 1] = _rate(optimizer)
        loss = workload.loss(model(x[batch]), y[batch])
        if not torch.isfinite(loss):
            val = test = (np.nan, np.nan)
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        driver.after_step(loss)
        if step in milestones:
            with _evaluating(optimizer):
                curve[taken], _ = score(workload, model, workload.val, scored)
                if curve[taken] < lowest:
                    lowest, best = curve[taken], score(workload, model, workload.test)
            driver.after_validation(curve[taken])
            taken += 1
    else:
        with _evaluating(optimizer):
            val, test = score(workload, model, workload.val), score(workload, model, workload.test)
    return _recording(*(np.array(x)[:, None] for x in (curve, rates, val, test, best)))


class Driven(Population):
    """A population whose members' own optimizers make the steps, each on one tensor: the member's row of weights."""

    def __init__(self, workload: Workload, seeds: Sequence[int], recipes: Sequence[Recipe]) -> None:
        super().__init__(workload, seeds)
        self.rows = [nn.Parameter(row) for row in self.state.weights]  # they share its memory
        self.drivers = [recipe([row], workload) for row, recipe in zip(self.rows, recipes, strict=True)]
        self.alive = np.ones(len(seeds), bool)

    def each(self) -> list[tuple[int, Driver]]:
        """The members that still train."""
        return [(i, driver) for i, driver in enumerate(self.drivers) if self.alive[i]]

    def _update(self, lr: np.ndarray) -> None:
        for i, driver in self.each():
            self.rows[i].grad = self.gradient[i]
            driver.optimizer.step()


def _together(
    workload: Workload, seeds: Sequence[int], recipes: Sequence[Recipe], scored: int, milestones: set[int]
) -> Recording:
    population = Driven(workload, seeds, recipes)
    optimizers = [driver.optimizer for driver in population.drivers]
    rates, curve, best = np.full((workload.n_steps, len(seeds)), np.nan), list[np.ndarray](), Best(population)
    _training(*optimizers)
    for step in range(workload.n_steps):
        for i, driver in population.each():
            rates[step, i] = _rate(driver.optimizer)
        loss = population.train_step(step, rates[step])
        population.alive &= torch.isfinite(loss).numpy()
        for i, driver in population.each():
            driver.after_step(loss[i])
        if step + 1 in milestones:
            with _evaluating(*optimizers):
                curve.append(np.where(population.alive, population.score(workload.val, scored)[0], np.nan))
                best.see(curve[-1])
            for i, driver in population.each():
                driver.after_validation(curve[-1][i])
    with _evaluating(*optimizers):
        val, test = (np.where(population.alive, population.score(of), np.nan) for of in (workload.val, workload.test))
    return _recording(np.stack(curve), rates, val, test, best.score(workload.test))


def _recording(curve: np.ndarray, rates: np.ndarray, val: Any, test: Any, best: Any) -> Recording:
    """Of validation losses (M, K), rates (N, K), and three times losses and error rates (2, K)."""
    return Recording(
        np.isfinite(val[0]), val_loss=[val[0]], val_error=[val[1]], test_loss=test[0], test_error=test[1],
        best_loss=best[0], best_error=best[1], curve=curve, lr_curve=rates,
    )  # fmt: skip


def _rate(optimizer: Any) -> float:
    """Of the first group; an optimizer that finds its own scale `d` multiplies by it."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) * float(group.get("d", 1.0))


def _training(*optimizers: Any) -> None:
    """Schedule-free optimizers keep other weights for training than for evaluation."""
    for optimizer in optimizers:
        if hasattr(optimizer, "train"):
            optimizer.train()


@contextmanager
def _evaluating(*optimizers: Any) -> Any:
    for optimizer in optimizers:
        if hasattr(optimizer, "eval"):
            optimizer.eval()
    yield
    _training(*optimizers)


@torch.no_grad()
def score(workload: Workload, model: nn.Module, data: Data, limit: int | None = None) -> Scores:
    """Mean loss and error rate on the first `limit` examples; nan error where the workload has none."""
    outputs: Tensor = model(data.x[:limit])
    loss, y = workload.loss(outputs, data.y[:limit]).item(), data.y[:limit]
    return loss, np.nan if workload.error is None else workload.error(outputs, y).item()
