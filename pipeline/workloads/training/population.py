"""Many runs of one workload at once, each with its own learning rate, initialisation, data order and random draws. A
member equals the plain `torch.optim` loop; tests check this.

Parameters, gradients and optimizer state are flat (K, P) tensors. So the optimizers are a few whole-tensor operations,
a sketch is one indexing, and a roll-back one `where`. Gradients come from `torch.func.vmap` over stacked parameters,
or from autograd, one member after the other: if vmap cannot map the module, which the population detects, and if the
network's own matrices occupy a processor without a GPU.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.decisions.network_size import NetworkSize, is_matrix, network_size
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training import layout, single_run
from pipeline.workloads.training.autodiff import Autodiff, CannotVectoriseError, OneByOne, Vectorised
from pipeline.workloads.training.state import State
from pipeline.workloads.training.update_rules import Stepper, clip

RETIRED = 0.25  # share of diverged members from which on leaving them out pays for recording the step anew
EVALUATED = 2**14  # member-examples per forward pass of an evaluation, bounds its memory
MAPPED = 140_000  # weights up to which members train together on a CPU; most larger ones train faster one by one
SAME = 1e-3  # how far a member's first gradient may be from the plain loop's, of its norm


class Population:
    """K members of one workload, in lock-step on one device."""

    def __init__(self, workload: Workload, seeds: Sequence[int], device: str = "cpu") -> None:
        self.workload, self.device = workload, device
        self._seeds = [int(seed) for seed in seeds]
        self._size, self.members = len(seeds), np.arange(len(seeds))  # members: whose row is which
        models = [workload.initialise(seed).to(device) for seed in seeds]
        order = np.stack([workload.batches(seed) for seed in seeds], axis=1)
        self._order = torch.from_numpy(order).to(device)  # (N, K, B)
        self._train = Data(workload.train.x.to(device), workload.train.y.to(device))
        self.state = _begin(models)
        self._autodiff = _autodiff(workload, models, self.state, self._batch(0), self._seeds)
        self.gradient = torch.zeros_like(self.state.weights)
        self._stepper = Stepper(workload, self.gradient)

    def __len__(self) -> int:
        return self._size

    @property
    def snapshot(self) -> Tensor:
        """(k, P + Q): all numbers that the scores of `members` depend on."""
        return torch.cat([self.state.weights, self.state.buffers], dim=1)

    @property
    def n_params(self) -> int:
        """Number of trained parameters of one member."""
        return self.state.weights.shape[1]

    def network_size(self) -> NetworkSize:
        """How large the members' networks are, before any of them has retired; its scale is (K,)."""
        parts = self._autodiff.weights.columns(self.state.weights)
        matrices = [part.flatten(1).double().square().sum(1) for part in parts.values() if is_matrix(part.shape[1:])]
        squares = torch.stack(matrices) if matrices else torch.zeros(0, len(self.state.weights))
        return network_size([tuple(part.shape[1:]) for part in parts.values()], self.spread(squares).cpu().numpy())

    def retire(self, which: np.ndarray) -> np.ndarray | None:
        """Stop training the members `which` (K,) bool, as soon as they are a quarter of those in training.

        Returns the rows of `state` and `gradient` that remain, (k,) int; None if all do. At least one row remains.
        """
        rows = np.flatnonzero(~which[self.members])
        if len(rows) > (1 - RETIRED) * len(self.members):
            return None
        rows = rows if len(rows) else np.array([0])
        self.members, self.state, self.gradient = self.members[rows], self.state.select(rows), self.gradient[rows]
        self._stepper = Stepper(self.workload, self.gradient)
        self._order, self._seeds = self._order[:, rows], [self._seeds[row] for row in rows]
        return rows

    def spread(self, values: Tensor) -> Tensor:
        """Spread values (..., k) by row to all members (..., K), nan for retired ones."""
        if len(self.members) == len(self):
            return values
        whole = values.new_full((*values.shape[:-1], len(self)), torch.nan)
        whole[..., self.members] = values
        return whole

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (k, B, ...) of a step."""
        index = self._order[step]
        if self.workload.augment is None:
            return self._train.x[index], self._train.y[index]
        parts = [
            single_run.batch(self.workload, self._train, mine, seed, step)
            for mine, seed in zip(index, self._seeds, strict=True)
        ]
        x, y = (torch.stack(column) for column in zip(*parts, strict=True))
        return x, y

    def train_step(self, step: int, lr: np.ndarray) -> Tensor:
        """Make an optimizer step on the batches of `step` at rates lr (K,). Returns the batch losses (K,) before it."""
        x, y = self._batch(step)
        gradient, loss, self.state.buffers = self._autodiff.gradients(
            self.state.weights, self.state.buffers, x, y, self.members, self._seeds, step
        )
        self.gradient = gradient if self.workload.clip is None else clip(gradient, self.workload.clip)
        self._update(lr[self.members])
        return self.spread(loss)

    def _update(self, lr: np.ndarray) -> None:
        self._stepper(self.state, self.gradient, lr)

    def score(self, data: Data, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss (K,) and error rate (K,) on the first `limit` examples; nan error if the workload has none."""
        loss, error = self.spread(self._score(self.state.weights, self.state.buffers, data, limit)).numpy()
        return loss, error

    def score_of(self, snapshot: Tensor, data: Data) -> tuple[np.ndarray, np.ndarray]:
        """The `score` with other numbers (K, P + Q), one row for every member."""
        loss, error = self._score(snapshot[:, : self.n_params], snapshot[:, self.n_params :], data, None).numpy()
        return loss, error

    def _score(self, weights: Tensor, buffers: Tensor, data: Data, limit: int | None) -> Tensor:
        """Loss and error rate (2, k) of weights (k, P) and buffers (k, Q)."""
        n = len(data) if limit is None else min(limit, len(data))
        chunk = max(1, EVALUATED // len(self))
        total = torch.zeros(2, len(weights), dtype=torch.float64)
        for i in range(0, n, chunk):
            part = slice(i, min(i + chunk, n))
            x, y = data.x[part].to(self.device), data.y[part].to(self.device)
            loss, error = self._autodiff.scores(weights, buffers, x, y)
            total += len(x) / n * torch.stack([loss, error]).cpu()
        return total


def _begin(models: Sequence[nn.Module]) -> State:
    weights, buffers = (
        torch.stack([layout.Rows.of(part(model)).row(part(model)) for model in models])
        for part in (layout.trained, layout.carried)
    )
    return State.begin(weights, buffers.to(weights.device))


def _autodiff(
    workload: Workload, models: Sequence[nn.Module], begin: State, batch: tuple[Tensor, Tensor], seeds: Sequence[int]
) -> Autodiff:
    """`OneByOne` for large networks on a CPU. For others `Vectorised` if it equals the plain loop, else `OneByOne`, and
    then the reason is printed in one line.
    """
    draws = single_run.count_draws(models[0], batch[0][0])
    if begin.weights.shape[1] > MAPPED and not begin.weights.is_cuda:
        return OneByOne(workload, models, draws)
    template, alone = (copy.deepcopy(models[0]) for _ in range(2))  # a step may leave traces in a module
    try:
        fast = Vectorised(workload, template, draws)
        with warnings.catch_warnings(action="ignore"):  # of operations that torch.func maps slowly
            _check(fast, OneByOne(workload, [alone], draws), begin.clone(), batch, seeds)
    except Exception as error:
        why = " ".join(str(error).split("\n")[0].split())
        print(f"{workload.family}, {workload.name}: trains one run at a time: {why}", file=sys.stderr, flush=True)
        return OneByOne(workload, models, draws)
    return fast


def _check(fast: Autodiff, slow: Autodiff, begin: State, batch: tuple[Tensor, Tensor], seeds: Sequence[int]) -> None:
    """Raise CannotVectoriseError if a gradient of member 0, or a buffer that it leaves, differs from the plain loop's.

    This is checked twice: the first call of `fast` records what the second one repeats.
    """
    x, y = batch
    one, k = slice(0, 1), np.arange(len(seeds))
    for _ in range(2):
        slow_step = slow.gradients(begin.weights[one], begin.buffers[one], x[one], y[one], k[one], seeds[one], 0)
        fast_step = fast.gradients(begin.weights, begin.buffers.clone(), x, y, k, seeds, 0)
        for what, mine, theirs in (*zip(("gradient", "loss", "buffers"), fast_step, slow_step, strict=True),)[::-1]:
            off = torch.linalg.vector_norm((mine[0] - theirs[0]).double())
            if torch.isfinite(theirs).all() and not off <= SAME * torch.linalg.vector_norm(theirs.double()) + 1e-6:
                raise CannotVectoriseError(f"mapped over members, its {what} would be another after a step")
