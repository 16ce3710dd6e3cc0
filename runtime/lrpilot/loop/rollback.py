"""Puts a training back where it was: a copy, in host memory, of what optimizer steps change. Needs torch."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrpilot.loop import distributed

LOG = logging.getLogger("lrpilot")
OUTSIDE = ("params", "lr", "initial_lr")  # entries of a param group that a roll-back leaves alone


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


@dataclass
class Snapshot:
    """Copies of trainable parameters, optimizer state, group options and buffers, in plain containers.

    Of a sharded tensor it holds this rank's part.
    """

    params: dict[int, Tensor]  # by position in `parameters(optimizer)`
    state: dict[int, dict[str, Any]]  # the same; a parameter that has none yet is left out
    groups: list[dict[str, Any]]  # options; some optimizers keep state there (Prodigy: d)
    buffers: dict[str, Tensor]  # of the model, by name

    @classmethod
    @torch.no_grad()
    def take(cls, optimizer: Optimizer, model: nn.Module | None) -> Snapshot:
        """Copy the present state to host memory."""
        held = list(enumerate(parameters(optimizer)))
        return cls(
            {i: _copy(p) for i, p in held if p.requires_grad},
            {i: _copied(optimizer.state[p]) for i, p in held if p in optimizer.state},
            [_copied({k: v for k, v in g.items() if k not in OUTSIDE}) for g in optimizer.param_groups],
            {} if model is None else _copied(dict(model.named_buffers())),
        )

    @torch.no_grad()
    def matches(self, optimizer: Optimizer) -> bool:
        """Whether the parameters still have the copied values."""
        held = parameters(optimizer)
        return all(torch.equal(distributed.local(held[i]).cpu(), saved) for i, saved in self.params.items())

    @torch.no_grad()
    def restore(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Put everything back in place, and zero the gradients, which belong to weights that are gone."""
        for i, p in enumerate(parameters(optimizer)):
            if i in self.params:
                distributed.local(p).copy_(self.params[i])
            if p.grad is not None:
                p.grad.zero_()
            if i in self.state:
                _restore(optimizer.state[p], self.state[i], p)
            else:
                optimizer.state.pop(p, None)
        for group, saved in zip(optimizer.param_groups, self.groups, strict=False):  # groups may have been added
            group.update(copy.deepcopy(saved))
        for name, buffer in model.named_buffers() if model is not None else ():
            if name in self.buffers:
                buffer.copy_(self.buffers[name])


class RollBack:
    """The way back to an earlier state: a snapshot, as long as it may be needed. Without one nothing happens."""

    def __init__(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        self._optimizer, self._model = optimizer, model
        self._snapshot: Snapshot | None = None
        self._seconds = 0.0  # that the snapshot took

    @property
    def has_model(self) -> bool:
        """Whether buffers are put back, too."""
        return self._model is not None

    def prepare(self) -> None:
        """Take a snapshot of the present state."""
        begin = time.perf_counter()
        self._snapshot = Snapshot.take(self._optimizer, self._model)
        self._seconds = time.perf_counter() - begin

    def renew(self) -> None:
        """Take another snapshot if the parameters are no longer those of this one: they were loaded, or sharded."""
        if self._snapshot is not None and not self._snapshot.matches(self._optimizer):
            self.prepare()

    def restore(self) -> None:
        """Put everything back to where the snapshot was taken."""
        if self._snapshot is not None:
            self._snapshot.restore(self._optimizer, self._model)

    def end_probe(self, steps: int) -> None:
        """Put everything back after a probe of so many steps, and log what that cost."""
        if self._snapshot is None:
            return
        begin = time.perf_counter()
        self.restore()
        if distributed.leads():
            LOG.info(
                "probe: %d steps, rolled back; the copy took %.3f s to make and %.3f s to put back",
                steps, self._seconds, time.perf_counter() - begin,
            )  # fmt: skip

    def follow(self, *, back: bool, anew: bool, keep: bool) -> None:
        """Do what a decision asks for: go `back` to the snapshot, take it `anew`, `keep` it or else drop it."""
        if back:
            self.restore()
        if anew:
            self.prepare()
        elif not keep:
            self.forget()

    def forget(self) -> None:
        """Drop the snapshot: there is no going back any more."""
        self._snapshot = None

    def state_dict(self) -> dict[str, Any] | None:
        """The snapshot's tensors in plain containers; None without one."""
        return None if self._snapshot is None else dict(vars(self._snapshot))

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take the snapshot of a `state_dict`, or none."""
        self._snapshot = None if state is None else Snapshot(**state)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return distributed.local(value.detach()).to("cpu", copy=True)
    return copy.deepcopy(value)


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) for name, value in values.items()}


def _restore(present: dict[str, Any], saved: dict[str, Any], p: Tensor) -> None:
    """One parameter's optimizer state; tensors in place, so that who holds them goes on holding them."""
    for name in present.keys() - saved.keys():
        del present[name]
    for name, value in saved.items():
        if not isinstance(value, Tensor):
            present[name] = copy.deepcopy(value)
        elif isinstance(present.get(name), Tensor):
            distributed.local(present[name]).copy_(value)
        else:
            present[name] = value.to(p.device, copy=True)
