"""Small trainings as users write them, with parts that the population of `pipeline.workloads` does not have.

Dropout, batch norm, torch's own LSTM, and a regression, on data that no held-out task has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pipeline.workloads.datasets import packaged

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params),
    "adamw": lambda params: torch.optim.AdamW(params),
}


class Recurrent(nn.Module):
    """An image's rows (B, T, F), one after the other, through an LSTM: logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


def _dropout() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def _batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10),
    )  # fmt: skip


def _regression() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dropout": _dropout, "batch norm": _batch_norm, "LSTM": Recurrent, "regression": _regression,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    network: str
    optimizer: str
    batch: int


class Training:
    """A setting's model, optimizer and shuffled batches, drawn by a seed."""

    def __init__(self, setting: Setting, seed: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.model = NETWORKS[setting.network]()
        self.optimizer = OPTIMIZERS[setting.optimizer](self.model.parameters())
        self.loss = nn.functional.mse_loss if setting.network == "regression" else nn.functional.cross_entropy
        self.validation, self.train = _data(setting.network)
        self.batch, self.generator = setting.batch, torch.Generator().manual_seed(seed)

    def batches(self) -> Iterator[Tensor]:
        """Indices (batch,), reshuffled after every pass, without end."""
        while True:
            order = torch.randperm(len(self.train[0]), generator=self.generator)
            yield from (part for part in order.split(self.batch) if len(part) == self.batch)

    def batch_loss(self, index: Tensor) -> Tensor:
        x, y = self.train
        return self.loss(self.model(x[index]), y[index])

    def validation_loss(self) -> float:
        x, y = self.validation
        self.model.eval()
        with torch.no_grad():
            value = float(self.loss(self.model(x), y))
        self.model.train()
        return value

    def run(self, lr: float, steps: int) -> float:
        """Validation loss after cosine decay from `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        scheduler = CosineAnnealingLR(self.optimizer, steps)
        for index in islice(self.batches(), steps):
            loss = self.batch_loss(index)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            scheduler.step()
        return self.validation_loss()


def _data(network: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A quarter for validation, the rest for training: digits, or the brightness of a photograph's places."""
    if network == "regression":
        photo = packaged.small_photo("camera")
        grid = np.meshgrid(*(np.linspace(-3, 3, side) for side in photo.shape[:2]), indexing="ij")
        x = np.stack([axis.ravel() for axis in grid], axis=1).astype(np.float32)
        y = ((photo - photo.mean()) / photo.std()).reshape(-1, 1).astype(np.float32)
    else:
        x, y = packaged.digits()
    order = np.random.default_rng(0).permutation(len(x))
    x, y, part = torch.from_numpy(x[order]), torch.from_numpy(y[order]), len(x) // 4
    return (x[:part], y[:part]), (x[part:], y[part:])
