"""Trainings of a small net in Lightning, as the tests of its callback vary them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from lrpilot.integrations.lightning import PilotCallback
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

IGNORED = [  # Lightning's warnings of what these trainings do on purpose
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
BATCHES, EPOCHS = 32, 5
N = BATCHES * EPOCHS  # steps; the probe takes up to 16 of them


class Batches:
    """A data loader of seeded batches that can be resumed in the middle of an epoch."""

    def __init__(self, count: int = BATCHES, seed: int = 0, scale: float = 1.0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.batches = [scale * torch.randn(16, 4, generator=rng) for _ in range(count)]
        self.at = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        begin, self.at = self.at % len(self), self.at % len(self)
        for batch in self.batches[begin:]:
            self.at += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Module(LightningModule):
    """A small net; it notes the rate of every optimizer step and the losses of every batch."""

    def __init__(self, policy: Bundle, **pilot: Any) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.policy, self.pilot = policy, pilot
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.validated: list[float] = []

    def loss(self, x: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.net(x), x.sum(1, keepdim=True).sin())

    def training_step(self, batch: Tensor, index: int) -> Any:
        loss = self.loss(batch)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def on_validation_epoch_end(self) -> None:
        self.validated.append(float(self.trainer.callback_metrics["val_loss"]))

    def optimizer_step(self, *args: Any, **kw: Any) -> None:
        super().optimizer_step(*args, **kw)
        self.rates.append(self.scheduler.optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.5)
        total = self.pilot.pop("total_steps", None) or self.trainer.estimated_stepping_batches
        self.scheduler = PilotLR(optimizer, total, self.policy, model=self, **self.pilot)
        return [optimizer], [self.scheduler]


def trainer(*callbacks: Callback, feed: bool = True, **kw: Any) -> Trainer:
    torch.set_num_threads(1)
    options: dict[str, Any] = {
        "max_epochs": EPOCHS, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "num_sanity_val_steps": 0,
    }  # fmt: skip
    return Trainer(callbacks=[*callbacks, *([PilotCallback()] if feed else [])], **options | kw)


def fit(
    module: Module, *callbacks: Callback, train: Any = None, val: Any = None, ckpt_path: Any = None, **kw: Any
) -> PilotLR:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PilotLR|PilotCallback")
        trainer(*callbacks, **kw).fit(module, Batches() if train is None else train, val, ckpt_path=ckpt_path)
    return module.scheduler


def probe_losses(scheduler: PilotLR) -> list[float]:
    """Losses of the probe's steps, as they reached the pilot."""
    probes = scheduler.pilot.probes
    return probes.loss[0, : probes.steps[0]].tolist()


def intervals(scheduler: PilotLR) -> list[dict[str, float]]:
    return [decision.telemetry for decision in scheduler.history if decision.telemetry]


def first_validation(scheduler: PilotLR) -> float:
    """The validation loss that later ones are compared with."""
    decision = next(d for d in scheduler.history if not math.isnan(d.telemetry.get("val_loss", math.nan)))
    return decision.telemetry["val_loss"] / 10 ** (decision.observation["val_total"] / 2)
