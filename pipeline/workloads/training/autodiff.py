"""Gradients and scores of K members of one workload: together by torch.func, or one by one if it cannot map the module.

Both ways are functions of flat rows. `population.py` decides what a step does with the gradients.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from pipeline.workloads.base import Workload
from pipeline.workloads.training.draws import Dropout, bound, mask_bytes
from pipeline.workloads.training.layout import Rows, carried, load, trained
from pipeline.workloads.training.replay import Replay
from pipeline.workloads.training.single_run import training_loss


class CannotVectoriseError(Exception):
    """Why a workload's members cannot train together, in a few words."""


class Autodiff(ABC):
    """What computes gradients and scores. Seeds identify members: all random draws depend on the seed and the step."""

    def __init__(self, workload: Workload, model: nn.Module, draws: int) -> None:
        self.workload, self.draws = workload, draws  # draws: bytes that the dropout of a step takes
        self.weights, self.buffers = Rows.of(trained(model)), Rows.of(carried(model))

    @abstractmethod
    def gradients(
        self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor, members: np.ndarray, seeds: Sequence[int],
        step: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients (k, P), losses (k,) and new buffers (k, Q) of batches x (k, B, ...), y (k, B, ...).

        `members` (k,) and `seeds` are the places and the seeds of the members that the rows belong to.
        """

    @abstractmethod
    def scores(self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and error rates (k,) on the same examples x (n, ...), y (n, ...); nan error where there is none."""

    def _score(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        error = self.workload.error
        nothing = torch.full((), torch.nan, device=y.device)
        return self.workload.loss(outputs, y), nothing if error is None else error(outputs, y)


class Vectorised(Autodiff):
    """`torch.func.vmap` over rows, recorded once and replayed. Batch norm keeps statistics for each member, and dropout
    takes its masks from outside. A forward pass may not change or draw anything else.
    """

    def __init__(self, workload: Workload, model: nn.Module, draws: int) -> None:
        super().__init__(workload, model, draws)
        self._model = model
        for module in self._model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
                if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                    raise CannotVectoriseError(f"{type(module).__name__} keeps running statistics")
                if module.momentum is None:
                    raise CannotVectoriseError("batch norm with momentum=None averages over all batches")
        mapped = vmap(grad_and_value(self._loss, has_aux=True))

        def train(*inputs: Tensor) -> tuple[Tensor, ...]:
            gradient, (loss, buffers) = mapped(*inputs)
            return gradient, loss, buffers

        self._train = Replay(train)
        self._forward = Replay(vmap(self._scores, in_dims=(0, 0, None, None)))

    def gradients(
        self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor, members: np.ndarray, seeds: Sequence[int],
        step: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        masks = np.stack([mask_bytes(seed, step, self.draws) for seed in seeds])
        gradient, loss, left = self._train(weights, buffers, x, y, torch.from_numpy(masks).to(x.device))
        return gradient, loss, left

    def scores(self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, error = self._forward(weights, buffers, x, y)
        return loss, error

    def _call(self, weights: Tensor, buffers: Tensor, x: Tensor, mode: _Pure) -> Tensor:
        parts, others = self.weights.parts(weights), self.buffers.parts(buffers)
        mode.watch(others)
        with mode:
            return functional_call(self._model, parts | others, (x,))

    def _loss(self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor, masks: Tensor) -> Any:
        self._model.train()
        mode = _Pure(masks)
        outputs = self._call(weights, buffers, x, mode)
        loss = self.workload.minimised(outputs, y)
        return loss, self.buffers.row(mode.buffers) if mode.changed else buffers

    def _scores(self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._model.eval()
        return self._score(self._call(weights, buffers, x, _Pure(x)), y)


class _Pure(Dropout):
    """Dropout from given masks, and batch norm that returns its statistics instead of changing them."""

    def __init__(self, masks: Tensor) -> None:
        super().__init__(masks)
        self.buffers, self.changed = dict[str, Tensor](), False
        self._names: dict[int, str] = {}

    def watch(self, buffers: dict[str, Tensor]) -> None:
        self.buffers = dict(buffers)
        self._names = {id(tensor): name for name, tensor in buffers.items()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm:
            call = bound(func, args, kwargs)
            if call["training"]:
                return self._normalise(**call)
        if func is torch.Tensor.add_ and not args[0].is_floating_point() and args[0].ndim == 0:
            return args[0]  # the count of batches, which no number depends on
        return super().__torch_function__(func, types, args, kwargs)

    def _normalise(
        self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Any, bias: Any,
        training: bool, momentum: float, eps: float,
    ) -> Tensor:  # fmt: skip
        out, mean, inverse = torch.native_batch_norm(input, weight, bias, None, None, training, momentum, eps)
        if running_mean is not None and running_var is not None:
            n = input.numel() // input.shape[1]
            var = (inverse.detach().pow(-2) - eps) * (n / (n - 1))
            for old, new in ((running_mean, mean.detach()), (running_var, var)):
                self.buffers[self._names[id(old)]] = torch.lerp(old, new, momentum)
            self.changed = True
        return out


class OneByOne(Autodiff):
    """Autograd, one member after the other, each with its own module. It works for any module."""

    def __init__(self, workload: Workload, models: Sequence[nn.Module], draws: int) -> None:
        super().__init__(workload, models[0], draws)
        self._models = models

    def gradients(
        self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor, members: np.ndarray, seeds: Sequence[int],
        step: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        gradient, left = torch.empty_like(weights), torch.empty_like(buffers)
        losses = []
        for i, (member, seed) in enumerate(zip(members, seeds, strict=True)):
            model = load(self._models[member], torch.cat([weights[i], buffers[i]]))
            model.train()
            loss = training_loss(self.workload, model, x[i], y[i], seed, step, self.draws)
            params = trained(model)
            parts = torch.autograd.grad(loss, [*params.values()], materialize_grads=True)
            gradient[i] = self.weights.row(dict(zip(params, parts, strict=True)))
            left[i] = self.buffers.row(carried(model))
            losses.append(loss.detach())
        return gradient, torch.stack(losses), left

    @torch.no_grad()
    def scores(self, weights: Tensor, buffers: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        model, rows = copy.deepcopy(self._models[0]).eval(), []
        for row, other in zip(weights, buffers, strict=True):
            rows.append(torch.stack(self._score(load(model, torch.cat([row, other]))(x), y)))
        loss, error = torch.stack(rows, dim=1)
        return loss, error
