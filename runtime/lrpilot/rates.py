"""The learning rates of an optimizer's param groups, which move together. Needs torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def optimizer_kind(optimizer: Optimizer) -> str:
    """The kind a pilot knows: SGD is "sgd", AdamW "adamw", every other optimizer counts as "adam"."""
    if isinstance(optimizer, torch.optim.SGD):
        return "sgd"
    return "adamw" if isinstance(optimizer, torch.optim.AdamW) else "adam"


def unwrapped(optimizer: Any) -> Optimizer:
    """The torch optimizer inside Accelerate's or Lightning's wrapper; hooks must sit on the one that steps."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: {type(optimizer).__name__}, want a torch.optim.Optimizer")
    return optimizer


class Rates:
    """Each group's rate is one rate times its initial one over the first group's that is not zero."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._ratios: list[float] = []
        self._comparable = False  # whether no group's rate is a tensor
        self.written: list[float] = []  # (groups,)

    def of(self, lr: float) -> list[float]:
        """Rates (groups,) that belong to the pilot's rate `lr`."""
        if len(self._ratios) != len(self._optimizer.param_groups):  # at first, and where a group was added
            self._ratios = _ratios(self._optimizer)
        return [lr * ratio for ratio in self._ratios]

    def write(self, lr: float) -> None:
        """Give every group its rate; tensor rates are filled in place."""
        self.written = self.of(lr)
        self._comparable = True
        for group, rate in zip(self._optimizer.param_groups, self.written, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
                self._comparable = False  # comparing would wait for the tensor's device
            else:
                group["lr"] = rate

    def differ(self) -> bool:
        """Whether the groups' rates are others than were written; never of tensor rates."""
        return self._comparable and [group["lr"] for group in self._optimizer.param_groups] != self.written

    def disturbed(self) -> bool:
        """Whether rates that differ are other code's doing; else groups were added."""
        return any(group["lr"] != lr for group, lr in zip(self._optimizer.param_groups, self.written, strict=False))

    def initial(self) -> list[float]:
        """Initial rates (groups,), from which the ratios are taken."""
        return [float(group["initial_lr"]) for group in self._optimizer.param_groups]

    def set_initial(self, rates: list[float]) -> None:
        """Take the initial rates (groups,) of a saved training."""
        for group, lr in zip(self._optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = lr
        self._ratios = _ratios(self._optimizer)


def _ratios(optimizer: Optimizer) -> list[float]:
    """Each group's initial rate over the first that is not zero; 1 where all are."""
    initial = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
    base = next((lr for lr in initial if lr), None)
    return [1.0 if base is None else lr / base for lr in initial]
