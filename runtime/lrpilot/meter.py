"""Measures what optimizer steps do to the parameters: a sketch's windows, and gradient norms. Needs torch."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrpilot import distributed
from lrpilot.rollback import parameters
from lrpilot.sampler import Sampler
from lrpilot.telemetry import Sketch


class Meter:
    """The sketch of one optimizer's trainable parameters, and the gradient of the step that awaits completion.

    What it gives out is equal on all ranks, and its calls are collective, but for `note`, `see_gradient` and the state.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._params = _trainable(optimizer)
        self.sampler = Sampler(self._params)
        self.sketch = Sketch(self.sampler.scale)
        if self.sampler.sharded:
            self.sketch.total = distributed.total
        self._gradient: Tensor | None = None  # sample, of the step to complete
        self._norm: Any = None  # observed since the last completed step

    @property
    def device(self) -> torch.device:
        return self.sampler.device

    @property
    def rank(self) -> int:
        """Whose shards this process holds; 0 where parameters are whole."""
        return torch.distributed.get_rank() if self.sampler.sharded else 0

    def is_current(self) -> bool:
        """Whether the optimizer's parameters are still the very same."""
        return all(a is b for a, b in zip(self._params, _trainable(self._optimizer), strict=False))

    def note(self, norm: Any) -> None:
        """Keep an observed gradient norm for the step to complete."""
        self._norm = norm.detach() if isinstance(norm, Tensor) else float(norm)

    def see_gradient(self) -> None:
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
            observed = self._observed()
            self.sketch.gradient(self._gradient, None if observed is None else self.sampler.tensor(observed))

    def open_window(self) -> None:
        """Begin a window at the present weights."""
        self.sketch.open(self.sampler.weights())

    def close_window(self) -> tuple[list[str], Tensor]:
        """Names and values (on the device) of the window's fields."""
        fields = self.sketch.close(self.sampler.weights())
        return [*fields], torch.stack([*fields.values()])

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values; of sharded parameters this rank's part."""
        sketch = {k: _plain(v) for k, v in vars(self.sketch).items() if k not in ("scale", "total")}
        norm = None if self._norm is None else float(self._norm)
        return {"sketch": sketch, "gradient": _plain(self._gradient), "norm": norm, "rank": self.rank}

    def load_state_dict(self, state: dict[str, Any], probing: bool) -> None:
        """Go on where `state_dict` was called; between windows, and unless `probing`, another rank's will do.

        Raises ValueError for shards of another rank that are needed.
        """
        if state["rank"] != self.rank:
            if probing or state["gradient"] is not None or state["sketch"]["_start"] is not None:
                raise ValueError(
                    f"rank: the saved state holds shards of rank {state['rank']}, this is {self.rank}; save and load "
                    "one state per rank, or save between the telemetry windows"
                )
            state = state | {"sketch": state["sketch"] | {"displacement": None}}
        sketch = {name: self.sampler.tensor(value) for name, value in state["sketch"].items()}
        norms, cosines = list(sketch.pop("_norms")), list(sketch.pop("_cosines"))
        self.sketch = Sketch(self.sketch.scale, self.sketch.total, _norms=norms, _cosines=cosines, **sketch)
        self._gradient, self._norm = self.sampler.tensor(state["gradient"]), state["norm"]

    def _observed(self) -> float | None:
        (norm,) = distributed.first([math.nan if self._norm is None else float(self._norm)], self.device)
        return None if self._norm is None and math.isnan(norm) else norm


def _trainable(optimizer: Optimizer) -> list[Tensor]:
    return [p for p in parameters(optimizer) if p.requires_grad]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in cast(list[Any], value)]
    if isinstance(value, Tensor):
        return value.item() if value.ndim == 0 else distributed.numbers(value)
    return value
