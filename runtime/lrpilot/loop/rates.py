"""The learning rates of an optimizer's param groups, which move together. Needs torch."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


class Rates:
    """Each group's rate is one rate times its initial one over that of the reference group.

    The reference group is the one with most parameters that has a rate, whatever the order of the groups.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.reference = _reference(optimizer)  # the reference group's initial rate, 0 where no group has one
        self._ratios: list[float] = []
        self._comparable = False  # whether no group's rate is a tensor
        self.written: list[float] = []  # (groups,)

    def of(self, lr: float) -> list[float]:
        """Rates (groups,) that belong to the pilot's rate `lr`."""
        if len(self._ratios) != len(self._optimizer.param_groups):  # at first, and where a group was added
            initial = _initial(self._optimizer)
            self._ratios = [rate / self.reference if self.reference else 1.0 for rate in initial]
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
        return _initial(self._optimizer)

    def set_initial(self, rates: list[float], reference: float) -> None:
        """Take the initial rates (groups,) of a saved training, and that of its reference group."""
        for group, lr in zip(self._optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = lr
        self.reference, self._ratios = reference, []


def _initial(optimizer: Optimizer) -> list[float]:
    for group in optimizer.param_groups:
        if "initial_lr" not in group:  # a tensor is copied, because later rates are written into it
            group["initial_lr"] = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
    return [float(group["initial_lr"]) for group in optimizer.param_groups]


def _reference(optimizer: Optimizer) -> float:
    """The initial rate of the group with most parameters among those that have one; of equals the higher one."""
    sizes = (sum(p.numel() for p in group["params"]) for group in optimizer.param_groups)
    _, rate = max((pair for pair in zip(sizes, _initial(optimizer), strict=True) if pair[1]), default=(0, 0.0))
    return rate
