"""What makes the steps of one training outside the decision process: an optimizer, and possibly a scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.workloads.base import Workload
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


def plain(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    """The workload's optimizer at the textbook default's rate."""
    return torch_optimizer(params, workload, workload.default[1])


def of_scheduler(factory: Callable[[Any, int], Any]) -> Recipe:
    """The recipe of a user's scheduler: `factory(optimizer, total_steps)`, where the optimizer has the textbook's rate.

    `step(loss)` gets every batch's loss, `step(metrics)` a validation loss now and then, any other `step()` nothing.
    """

    def made(params: list[nn.Parameter], workload: Workload) -> Driver:
        optimizer = plain(params, workload)
        scheduler = factory(optimizer, workload.n_steps)
        names = [*inspect.signature(scheduler.step).parameters]
        reports: dict[str, Reports] = {"loss": "loss", "metrics": "validation"}
        return Driver(optimizer, scheduler, reports.get(names[0], "nothing") if names else "nothing")

    return made
