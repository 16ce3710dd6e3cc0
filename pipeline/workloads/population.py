"""Many runs of one workload at once: `torch.func.vmap` over stacked parameters, each member with a learning rate, an
initialisation and a data order of its own. A member follows the plain `torch.optim` loop; tests hold it to that.

Parameters, gradients and optimizer state are flat (K, P) tensors: the optimizers are a few whole-tensor operations,
a sketch is one indexing, a roll-back one `where`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from pipeline.workloads.base import Data, Workload
from pipeline.workloads.replay import Replay

BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9  # torch.optim's defaults; SGD with the usual momentum
NOTHING = 1e-30  # where squared gradients start: the root of an exact zero takes ten times as long as any other
RETIRED = 0.25  # share of diverged members from which on leaving them out pays for recording the step anew
EVALUATED = 2**18  # member-examples per forward pass of an evaluation, bounds its memory


@dataclass
class State:
    """Everything a training step changes: tensors (K, P), and a count (K,)."""

    weights: Tensor
    first: Tensor  # Adam: mean of gradients; SGD: momentum buffer
    second: Tensor  # Adam: mean of squared gradients
    steps: np.ndarray  # optimizer steps taken, float64

    def clone(self) -> State:
        return copy.deepcopy(self)

    def restore(self, saved: State, which: np.ndarray) -> None:
        """Put the members `which` (K,) bool back to `saved`."""
        for mine, theirs in zip(vars(self).values(), vars(saved).values(), strict=True):
            mine[which] = theirs[which]

    def select(self, rows: np.ndarray) -> State:
        """The members `rows` (k,) alone."""
        return State(*(x[rows] for x in vars(self).values()))


class Population:
    """K members of one workload, in lock-step on one device."""

    def __init__(self, workload: Workload, seeds: Sequence[int], device: str = "cpu") -> None:
        self.workload, self.device = workload, device
        self._size, self.members = len(seeds), np.arange(len(seeds))  # members: whose row is which
        models = [workload.initialise(seed) for seed in seeds]
        self._template = models[0].to(device)
        self._names = [n for n, _ in models[0].named_parameters()]
        self._shapes = [p.shape for p in models[0].parameters()]
        self._sizes = [p.numel() for p in models[0].parameters()]
        weights = torch.stack([nn.utils.parameters_to_vector(m.parameters()).detach() for m in models]).to(device)
        start = torch.zeros_like(weights), torch.full_like(weights, NOTHING), np.zeros(len(models))
        self.state = State(weights, *start)
        self.gradient = torch.zeros_like(weights)
        self._scratch = torch.empty_like(weights), torch.empty_like(weights)
        order = np.stack([workload.batches(seed) for seed in seeds], axis=1)
        self._order = torch.from_numpy(order).to(device)  # (N, K, B)
        self._train = Data(workload.train.x.to(device), workload.train.y.to(device))
        self._step = Replay(vmap(grad_and_value(self._loss)))
        self._forward = Replay(vmap(self._scores, in_dims=(0, None, None)))

    def __len__(self) -> int:
        return self._size

    @property
    def weights(self) -> Tensor:
        """(k, P), a row for each of `members`."""
        return self.state.weights

    @property
    def n_params(self) -> int:
        """Parameters of one member."""
        return self.state.weights.shape[1]

    def retire(self, which: np.ndarray) -> np.ndarray | None:
        """Train the members `which` (K,) bool no further, as soon as they are a quarter of those in training.

        Returns the rows of `state` and `gradient` that stay, (k,) int; None where all do. One row always stays.
        """
        rows = np.flatnonzero(~which[self.members])
        if len(rows) > (1 - RETIRED) * len(self.members):
            return None
        rows = rows if len(rows) else np.array([0])
        self.members, self.state, self.gradient = self.members[rows], self.state.select(rows), self.gradient[rows]
        self._scratch = torch.empty_like(self.gradient), torch.empty_like(self.gradient)
        self._order = self._order[:, rows]
        return rows

    def spread(self, values: Tensor) -> Tensor:
        """(..., K) with nan for retired members, of values (..., k) by row."""
        if len(self.members) == len(self):
            return values
        whole = values.new_full((*values.shape[:-1], len(self)), torch.nan)
        whole[..., self.members] = values
        return whole

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
        self._update(lr[self.members])
        return self.spread(loss)

    def _update(self, lr: np.ndarray) -> None:
        s, g, kind, decay = self.state, self.gradient, self.workload.optimizer, self.workload.weight_decay
        s.steps += 1
        if kind == "adamw":
            s.weights *= self._column(1 - lr * decay)
        elif decay:
            g = g + decay * s.weights
        if kind == "sgd":
            s.first.mul_(MOMENTUM).add_(g)
            s.weights -= self._column(lr) * s.first
            return
        s.first.lerp_(g, 1 - BETAS[0])
        s.second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        # lr m / first / (sqrt(v / second) + eps), the numbers of a member taken together: fewer passes over memory
        first, second = 1 - BETAS[0] ** s.steps, np.sqrt(1 - BETAS[1] ** s.steps)
        above, below = self._scratch
        torch.sqrt(s.second, out=below).add_(self._column(EPS * second))
        torch.mul(s.first, self._column(lr * second / first), out=above)
        s.weights.addcdiv_(above, below, value=-1)

    def _column(self, values: np.ndarray) -> Tensor:
        """(K, 1) on the device, of the members' numbers (K,)."""
        return torch.from_numpy(values.astype(np.float32)).to(self.device)[:, None]

    def score(self, data: Data, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss (K,) and error rate (K,) on the first `limit` examples; nan error where the workload has none."""
        loss, error = self.spread(self._score(self.state.weights, data, limit)).numpy()
        return loss, error

    def score_of(self, weights: Tensor, data: Data) -> tuple[np.ndarray, np.ndarray]:
        """`score` of other weights (K, P), one row for every member."""
        loss, error = self._score(weights, data, None).numpy()
        return loss, error

    def _score(self, weights: Tensor, data: Data, limit: int | None) -> Tensor:
        """Loss and error rate (2, k) of weights (k, P)."""
        n = len(data) if limit is None else min(limit, len(data))
        chunk = max(1, EVALUATED // len(self))
        total = torch.zeros(2, len(weights), dtype=torch.float64)
        for i in range(0, n, chunk):
            part = slice(i, min(i + chunk, n))
            x, y = data.x[part].to(self.device), data.y[part].to(self.device)
            loss, error = self._forward(weights, x, y)
            total += len(x) / n * torch.stack([loss, error]).cpu()
        return total
