"""Trainings whose first losses are broken: the probe leaves them out, and the training ends as it would have."""

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lrpilot.torch import PilotLR

STEPS, BATCH = 500, 32


@cache
def digits() -> tuple[Tensor, Tensor]:
    data: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data[order] / 8 - 1, data.target[order]
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1, momentum=0.9)


class Digits:
    """A training whose batches `broken` (1-based steps) have inputs, or else a loss, of the value `bad`."""

    def __init__(self, make: Callable[[], nn.Module] = mlp, optimizer: Any = adam, seed: int = 0,
                 broken: frozenset[int] = frozenset(), bad: float = math.nan, skips: bool = False, **kw: Any) -> None:  # fmt: skip
        torch.set_num_threads(1)
        self.broken, self.bad, self.skips = broken, bad, skips
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = make()
        self.optimizer = optimizer(self.model.parameters())
        self.scheduler = PilotLR(self.optimizer, kw.pop("total_steps", STEPS), model=self.model, **kw)
        self.rng = np.random.default_rng(seed)

    def train(self, steps: int) -> "Digits":
        x, y = digits()
        for step in range(1, steps + 1):
            at = torch.from_numpy(self.rng.integers(1200, size=BATCH))
            inputs = x[at]
            if step in self.broken and not math.isfinite(self.bad):
                inputs = inputs * self.bad
            loss = nn.functional.cross_entropy(self.model(inputs), y[at])
            if step in self.broken and math.isfinite(self.bad):
                loss = loss * (self.bad / loss.item())
            self.optimizer.zero_grad()
            loss.backward()
            if not (self.skips and (step in self.broken)):
                self.optimizer.step()
            self.scheduler.step(loss)
        return self

    def accuracy(self) -> float:
        x, y = digits()
        self.model.eval()
        with torch.no_grad():
            return (self.model(x[1200:]).argmax(1) == y[1200:]).float().mean().item()


@cache
def undisturbed(make: Any, optimizer: Any, seed: int) -> float:
    return Digits(make, optimizer, seed).train(STEPS).accuracy()
