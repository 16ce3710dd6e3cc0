"""The loops that `benchmarks.scaling.vectorising` compares: populations, and one training at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lrpilot.decisions.protocol import Protocol
from pipeline.simulation.behaviour import Behaviour
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import Population
from pipeline.workloads.training.update_rules import torch_optimizer

SCHEDULES = {"constant": 0.2, "linear": 0.4, "cosine": 0.2, "random_walk": 0.2}
VALIDATED = 128  # examples of a validation at a decision


def bare(workload: Workload, seeds: Sequence[int], rates: np.ndarray) -> Population:
    """A population at rates (N, K), with the two validations that `simulate` makes of every training."""
    population = Population(workload, seeds)
    population.score(workload.val, VALIDATED)
    for step, lr in enumerate(rates):
        population.train_step(step, lr)
    population.score(workload.val)
    return population


def recorded(workload: Workload, seeds: Sequence[int], validate: bool, device: str = "cpu") -> Recording:
    """A population as the collection records it; without `validate` no decision looks at validation data."""
    behaviour = Behaviour(SCHEDULES, len(seeds), workload.n_steps, np.random.default_rng(0))
    return simulate(
        workload, seeds, Protocol(), behaviour.act, val_examples=VALIDATED,
        show_validation=behaviour.shows_validation if validate else False, device=device,
    )  # fmt: skip


def plain(workload: Workload, seed: int, rates: np.ndarray) -> np.ndarray:
    """Batch losses (N,) of one training at rates (N,); dropout and augmentation draw as they come."""
    model = workload.initialise(seed).train()
    params = [p for p in model.parameters() if p.requires_grad]
    opt, x, y = torch_optimizer(params, workload, 1.0), workload.train.x, workload.train.y
    losses: list[torch.Tensor] = []
    for lr, batch in zip(rates.tolist(), torch.from_numpy(workload.batches(seed)), strict=True):
        opt.param_groups[0]["lr"] = lr
        inputs, targets = x[batch], y[batch]
        if workload.augment is not None:
            inputs, targets = workload.augment(inputs, targets)
        loss = workload.minimised(model(inputs), targets)
        opt.zero_grad()
        loss.backward()
        if workload.clip is not None:
            nn.utils.clip_grad_norm_(params, workload.clip)
        opt.step()
        losses.append(loss.detach())
    return torch.stack(losses).numpy()


class StepEnv:
    """Learning-rate control as an environment: `reset()` -> observation; `step(lr)` -> observation, reward, terminated,
    truncated, info.

    Stands for DACBench's SGD environment (Eimer et al. 2021, arXiv:2105.08541): one optimizer step per action, the
    reward the negative loss of one validation batch at every step, statistics of the loss in the observation. Cheaper
    than that: no data loaders, no gradient per example, no trial step with a copy of model and optimizer.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        self.workload, self.seed = workload, seed

    def reset(self) -> np.ndarray:
        self.model = self.workload.initialise(self.seed)
        self.optimizer = torch_optimizer(self.model.parameters(), self.workload, 1.0)
        self.batches = torch.from_numpy(self.workload.batches(self.seed))
        self.done, self.lr, self.loss, self.mean, self.square = 0, 0.0, 0.0, 0.0, 0.0
        self.validation = self._validate()
        return self._observe()

    def step(self, action: float) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.lr = self.optimizer.param_groups[0]["lr"] = action
        batch, data = self.batches[self.done], self.workload.train
        loss = self.workload.loss(self.model(data.x[batch]), data.y[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1
        self.loss = loss.item()
        self.mean += 0.1 * (self.loss - self.mean)
        self.square += 0.1 * (self.loss**2 - self.square)
        self.validation = self._validate()
        return self._observe(), -self.validation, self.done == len(self.batches), False, {}

    def _validate(self) -> float:
        """Loss of the next validation batch, as large as a training batch."""
        size, data = self.workload.batch_size, self.workload.val
        start = self.done * size % max(len(data) - size, 1)
        with torch.no_grad():
            return self.workload.loss(self.model(data.x[start : start + size]), data.y[start : start + size]).item()

    def _observe(self) -> np.ndarray:
        share = self.done / len(self.batches)
        spread = abs(self.square - self.mean**2) ** 0.5
        return np.array([share, self.lr, self.loss, self.mean, spread, self.validation], np.float32)


def drive(workload: Workload, seed: int, rates: np.ndarray) -> float:
    """Return of one episode at rates (N,)."""
    env, total = StepEnv(workload, seed), 0.0
    env.reset()
    for lr in rates.tolist():
        _, reward, terminated, truncated, _ = env.step(lr)
        total += reward
        if terminated or truncated:
            break
    return total
