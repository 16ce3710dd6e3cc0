"""Many runs of one workload at once: `torch.func.vmap` over stacked parameters, each member with a learning rate, an
initialisation and a data order of its own. A member follows the plain `torch.optim` loop (tests/test_population.py).

Parameters, gradients and optimizer state are flat (K, P) tensors: the optimizers are a few whole-tensor operations,
a sketch is one indexing, a roll-back one `where`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from pipeline.workloads.base import Data, Workload

BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9  # torch.optim's defaults; SGD with the usual momentum
EVALUATED = 2**18  # member-examples per forward pass of an evaluation, bounds its memory


@dataclass
class State:
    """Everything a training step changes; all (K, P) but `steps` (K, 1)."""

    weights: Tensor
    first: Tensor  # Adam: mean of gradients; SGD: momentum buffer
    second: Tensor  # Adam: mean of squared gradients
    steps: Tensor  # optimizer steps taken

    def clone(self) -> State:
        return State(*(t.clone() for t in vars(self).values()))

    def restore(self, saved: State, which: Tensor) -> None:
        """Put the members `which` (K,) bool back to `saved`."""
        for mine, theirs in zip(vars(self).values(), vars(saved).values(), strict=True):
            mine[which] = theirs[which]


class Population:
    """K members of one workload, in lock-step on one device."""

    def __init__(self, workload: Workload, seeds: Sequence[int], device: str = "cpu") -> None:
        self.workload, self.device = workload, device
        models = [workload.initialise(seed) for seed in seeds]
        self._template = models[0].to(device)
        self._names = [n for n, _ in models[0].named_parameters()]
        self._shapes = [p.shape for p in models[0].parameters()]
        self._sizes = [p.numel() for p in models[0].parameters()]
        weights = torch.stack([nn.utils.parameters_to_vector(m.parameters()).detach() for m in models]).to(device)
        count = torch.zeros(len(models), 1, device=device)
        self.state = State(weights, torch.zeros_like(weights), torch.zeros_like(weights), count)
        self.gradient = torch.zeros_like(weights)
        order = np.stack([workload.batches(seed) for seed in seeds], axis=1)
        self._order = torch.from_numpy(order).to(device)  # (N, K, B)
        self._train = Data(workload.train.x.to(device), workload.train.y.to(device))
        self._step = vmap(grad_and_value(self._loss))
        self._forward = vmap(self._scores, in_dims=(0, None, None))

    def __len__(self) -> int:
        return len(self.state.weights)

    @property
    def n_params(self) -> int:
        """Parameters of one member."""
        return self.state.weights.shape[1]

    def _model(self, flat: Tensor, x: Tensor) -> Tensor:
        """One member's outputs for inputs x (B, ...), from its flat parameters (P,)."""
        parts = [p.view(s) for p, s in zip(torch.split(flat, self._sizes), self._shapes, strict=True)]
        return functional_call(self._template, dict(zip(self._names, parts, strict=True)), (x,))

    def _loss(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.workload.loss(self._model(flat, x), y)

    def _scores(self, flat: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self._model(flat, x)
        error = self.workload.error
        return self.workload.loss(outputs, y), torch.full((), torch.nan) if error is None else error(outputs, y)

    def train_step(self, step: int, lr: np.ndarray) -> Tensor:
        """One optimizer step on the batches of `step` at learning rates lr (K,); batch losses (K,) before it."""
        index = self._order[step]
        self.gradient, loss = self._step(self.state.weights, self._train.x[index], self._train.y[index])
        self._update(torch.as_tensor(lr, dtype=self.gradient.dtype, device=self.device)[:, None])
        return loss

    def _update(self, lr: Tensor) -> None:
        s, g, kind, decay = self.state, self.gradient, self.workload.optimizer, self.workload.weight_decay
        s.steps += 1
        if kind == "adamw":
            s.weights *= 1 - lr * decay
        elif decay:
            g = g + decay * s.weights
        if kind == "sgd":
            s.first.mul_(MOMENTUM).add_(g)
            s.weights -= lr * s.first
            return
        s.first.lerp_(g, 1 - BETAS[0])
        s.second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        # 1 - beta ** t in float32 would lose five digits in the first steps.
        first, second = ((1 - beta ** s.steps.double()).to(g.dtype) for beta in BETAS)
        s.weights -= (lr / first) * s.first / (s.second / second).sqrt_().add_(EPS)

    def score(self, data: Data, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss (K,) and error rate (K,) on the first `limit` examples; nan error where the workload has none."""
        n = len(data) if limit is None else min(limit, len(data))
        chunk = max(1, EVALUATED // len(self))
        totals = np.zeros((2, len(self)))
        with torch.no_grad():
            for i in range(0, n, chunk):
                x, y = (
                    data.x[i : min(i + chunk, n)].to(self.device),
                    data.y[i : min(i + chunk, n)].to(self.device),
                )
                loss, error = self._forward(self.state.weights, x, y)
                totals += len(x) / n * np.stack([loss.cpu().numpy(), error.cpu().numpy()])
        return totals[0], totals[1]
