"""The optimizers of workloads, twice: a step of K runs at once on flat tensors, and torch's own optimizer for one run.

Both use the workload's settings, and tests compare them. The formulas are those of torch.optim; Lion's are of Chen et
al. 2023, arXiv:2302.06675, as in the package lion-pytorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.decisions.optimizer_kinds import ADAM_BETAS
from pipeline.workloads.base import Workload
from pipeline.workloads.training.state import State

EPS, ADAGRAD_EPS = 1e-8, 1e-10
ALPHA = 0.99  # of RMSprop
MOMENTUM_DECAY = 4e-3  # of NAdam
CLIP_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it

Rates = Callable[[np.ndarray], Tensor]  # numbers (k,) of the members -> a column (k, 1) on the device


def torch_optimizer(params: Iterable[nn.Parameter], workload: Workload, lr: float) -> torch.optim.Optimizer:
    """The optimizer of one run of the workload, at a rate."""
    kind = workload.kind
    options: dict[str, Any] = {"lr": lr, "weight_decay": workload.weight_decay}
    if kind.is_sgd:
        options |= {"momentum": workload.momentum, "nesterov": workload.nesterov}
    if kind.betas is not None:
        options["betas"] = workload.betas or kind.betas
    if kind.name == "rmsprop":
        options["alpha"] = ALPHA
    if kind.name == "lion":
        from lion_pytorch import Lion

        return Lion([*params], **options)
    return getattr(torch.optim, kind.classes[0])(params, **options)


def clip(gradient: Tensor, highest: float) -> Tensor:
    """Gradients (k, P), each scaled to a norm of at most `highest`."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return gradient * (highest / (norm + CLIP_EPS)).clamp(max=1.0)


class Stepper:
    """Steps of k members. All parameters of a member are updated together, which needs fewer passes over memory."""

    def __init__(self, workload: Workload, like: Tensor) -> None:
        self._workload, self._betas = workload, workload.betas or workload.kind.betas or ADAM_BETAS
        self._scratch = torch.empty_like(like), torch.empty_like(like)
        self._rule = _RULES[workload.optimizer]

    def __call__(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        """One step along gradients g (k, P) at rates lr (k,)."""
        decay = self._workload.weight_decay
        s.steps += 1
        if decay and self._workload.kind.decoupled:
            s.weights *= self.column(1 - lr * decay)
        elif decay:
            g = g + decay * s.weights
        self._rule(self, s, g, lr)

    def column(self, values: np.ndarray) -> Tensor:
        """(k, 1) on the device, of the members' numbers (k,)."""
        return torch.from_numpy(values.astype(np.float32)).to(self._scratch[0].device)[:, None]

    def _sgd(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        momentum = self._workload.momentum
        s.first.mul_(momentum).add_(g)
        along = g + momentum * s.first if self._workload.nesterov else s.first
        s.weights -= self.column(lr) * along

    def _moments(self, s: State, g: Tensor) -> None:
        s.first.lerp_(g, 1 - self._betas[0])
        s.second.mul_(self._betas[1]).addcmul_(g, g, value=1 - self._betas[1])

    def _adam(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        self._moments(s, g)
        # lr m / first / (sqrt(v / second) + eps)
        first, second = 1 - self._betas[0] ** s.steps, np.sqrt(1 - self._betas[1] ** s.steps)
        above, below = self._scratch
        torch.sqrt(s.second, out=below).add_(self.column(EPS * second))
        torch.mul(s.first, self.column(lr * second / first), out=above)
        s.weights.addcdiv_(above, below, value=-1)

    def _nadam(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        self._moments(s, g)
        second = np.sqrt(1 - self._betas[1] ** s.steps)
        now, following, product = _nadam_momentum(self._betas[0], int(s.steps.max()))
        t = s.steps.astype(int)
        of_gradient, of_mean = (1 - now[t]) / (1 - product[t]), following[t] / (1 - product[t] * following[t])
        above, below = self._scratch
        torch.sqrt(s.second, out=below).add_(self.column(EPS * second))
        torch.mul(s.first, self.column(lr * second * of_mean), out=above)
        above.addcmul_(g, self.column(lr * second * of_gradient))
        s.weights.addcdiv_(above, below, value=-1)

    def _rmsprop(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        s.second.mul_(ALPHA).addcmul_(g, g, value=1 - ALPHA)
        self._scaled(s, g, lr, EPS)

    def _adagrad(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        s.second.addcmul_(g, g)
        self._scaled(s, g, lr, ADAGRAD_EPS)

    def _scaled(self, s: State, g: Tensor, lr: np.ndarray, eps: float) -> None:
        above, below = self._scratch
        torch.sqrt(s.second, out=below).add_(eps)
        torch.mul(g, self.column(lr), out=above)
        s.weights.addcdiv_(above, below, value=-1)

    def _lion(self, s: State, g: Tensor, lr: np.ndarray) -> None:
        above, _ = self._scratch
        torch.lerp(s.first, g, 1 - self._betas[0], out=above)
        s.weights -= self.column(lr) * above.sign_()
        s.first.lerp_(g, 1 - self._betas[1])


_RULES: dict[str, Callable[[Stepper, State, Tensor, np.ndarray], None]] = {
    "sgd": Stepper._sgd, "adam": Stepper._adam, "adamw": Stepper._adam, "nadam": Stepper._nadam,
    "rmsprop": Stepper._rmsprop, "adagrad": Stepper._adagrad, "lion": Stepper._lion,
}  # fmt: skip


def _nadam_momentum(beta: float, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By step, from 0: NAdam's momentum, that of the next step, and the product of all up to it."""
    return _momentum_table(beta, 1024 * (steps // 1024 + 1))


@cache
def _momentum_table(beta: float, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = np.arange(length + 2)
    momentum = beta * (1 - 0.5 * 0.96 ** (t * MOMENTUM_DECAY))
    momentum[0] = 1.0  # no step: the product's beginning
    return momentum[:-1], momentum[1:], np.cumprod(momentum)[:-1]
