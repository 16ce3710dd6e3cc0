"""Measures what optimizer steps do to the parameters: a sketch's windows, and gradient norms. Needs torch."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.decisions.network_size import UNKNOWN, NetworkSize, is_matrix, network_size
from lrpilot.decisions.telemetry import Sketch
from lrpilot.loop import distributed
from lrpilot.loop.rollback import parameters
from lrpilot.loop.sampler import Sampler


class TorchSketch(Sketch):
    """A sketch of torch vectors."""

    def _root(self, v: Tensor) -> Tensor:
        linalg: Any = torch.linalg
        return linalg.vector_norm(v)  # what Tensor.norm comes to, by a shorter way


class Meter:
    """The sketch of one optimizer's trainable parameters, and the gradient of the step that awaits completion.

    Calls are collective, but for `note`, `drop` and the state, which is equal on all ranks.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._params: list[Tensor] | None = None
        self.follow()
        self._gradient: Tensor | None = None  # sample, of the step to complete
        self._norm: Any = None  # observed since the last completed step

    @property
    def device(self) -> torch.device:
        return self.sampler.device

    def follow(self, count: int | None = None) -> None:
        """Sample the first `count` of the optimizer's trainable parameters, anew where they are not the very same."""
        present = _trainable(self._optimizer)[:count]
        if self._params is None or [*map(id, present)] != [*map(id, self._params)]:
            self._params, self.sampler = present, Sampler(present)
            self.sketch = TorchSketch(self.sampler.scale)

    def network_size(self) -> NetworkSize:
        """How large the network of the present weights is; unknown without a weight matrix."""
        matrices = [p for p in self._params or () if is_matrix(p.shape)]
        if not matrices or self.device.type == "meta":  # whose weights have no values
            return UNKNOWN
        values = torch.stack([distributed.square_sum(p, self.device) for p in matrices])
        if self.sampler.sharded:
            values = distributed.total(values)
        return network_size([tuple(p.shape) for p in self._params or ()], distributed.numbers(values))

    def note(self, norm: Any) -> None:
        """Keep an observed gradient norm for the step to complete."""
        self._norm = norm.detach().reshape(()) if isinstance(norm, Tensor) else float(norm)

    def sample_gradient(self) -> None:
        """Sample the gradients of the step just made."""
        self._gradient = self.sampler.gradients()

    def drop(self) -> None:
        """Forget what belongs to a step that asks for nothing."""
        self._gradient = self._norm = None

    def gradient_norm(self) -> float:
        """Norm of the step's gradient, as observed on rank 0 or else estimated from the sample; nan without either."""
        observed = self._observed()
        if observed is not None or self._gradient is None:
            return math.nan if observed is None else observed
        return float(self.sketch.norm(self._gradient))

    def record_gradient(self) -> None:
        """Let the step's gradient count in the window."""
        if self._gradient is not None:
            observed = self._norm if distributed.alone() else self._observed()  # alone, nobody waits for the device
            self.sketch.gradient(self._gradient, None if observed is None else self.sampler.tensor(observed))

    def open_window(self) -> None:
        """Begin a window at the present weights; of groups that were added, and what was unfrozen, too."""
        self.follow()
        self.sketch.open(self.sampler.weights())

    def close_window(self) -> tuple[list[str], Tensor]:
        """Names and values (on the device) of the window's fields."""
        fields = self.sketch.close(self.sampler.weights())
        return [*fields], torch.stack([*fields.values()])

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values."""
        sketch = {k: _plain(v) for k, v in vars(self.sketch).items() if k != "scale"}
        norm = None if self._norm is None else float(self._norm)
        return {"sketch": sketch, "gradient": _plain(self._gradient), "norm": norm, "params": len(self._params or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.follow(state["params"])
        sketch = {name: self.sampler.tensor(value) for name, value in state["sketch"].items()}
        norms, cosines = list(sketch.pop("_norms")), list(sketch.pop("_cosines"))
        self.sketch = TorchSketch(self.sketch.scale, _norms=norms, _cosines=cosines, **sketch)
        self._gradient, self._norm = self.sampler.tensor(state["gradient"]), state["norm"]

    def _observed(self) -> float | None:
        mine = math.nan if self._norm is None else float(self._norm)
        known, norm = distributed.first([self._norm is not None, mine], self.device)
        return norm if known else None


def _trainable(optimizer: Optimizer) -> list[Tensor]:
    return [p for p in parameters(optimizer) if p.requires_grad]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in cast(list[Any], value)]
    if isinstance(value, Tensor):
        return value.item() if value.ndim == 0 else distributed.numbers(value)
    return value
