"""Lightning's callbacks kept out of the probe, in the ways that docs/lightning.md shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging

from lightning_training import IGNORED, Batches, Module, N, fit
from lrpilot.bundle import Bundle

pytestmark = IGNORED


class Average(WeightAveraging):
    """The mean of the weights after the probe."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        if not pl_module.lr_schedulers().probing:
            super().on_train_batch_end(trainer, pl_module, *batch)


class Best(ModelCheckpoint):
    """Saves no weights of the probe."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not pl_module.lr_schedulers().probing:
            super().on_validation_end(trainer, pl_module)


class Stopping(EarlyStopping):
    """Counts no validation of the probe's weights."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not pl_module.lr_schedulers().probing:
            super().on_validation_end(trainer, pl_module)


class Weights(Callback):
    """Those of each batch's end, and whether the probe was under way."""

    def __init__(self) -> None:
        self.kept: list[tuple[bool, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        weights = torch.cat([p.detach().reshape(-1) for p in pl_module.parameters()])
        self.kept.append((pl_module.lr_schedulers().probing, weights))


@pytest.mark.parametrize("every", [1, 2])
def test_an_average_holds_no_weights_of_the_probe(policy: Bundle, every: int) -> None:
    module, weights = Module(policy), Weights()
    scheduler = fit(module, Average(), weights, accumulate_grad_batches=every)
    kept = weights.kept[every - 1 :: every]
    mean = torch.stack([w for probing, w in kept if not probing]).mean(0)
    assert sum(probing for probing, _ in kept) == scheduler.pilot.probes.steps[0] - 1 > 3
    torch.testing.assert_close(torch.cat([p.detach().reshape(-1) for p in module.parameters()]), mean)
    assert not torch.allclose(torch.stack([w for _, w in kept]).mean(0), mean, rtol=1e-2)


@pytest.mark.parametrize("often", [{"val_check_interval": 4}, {"limit_train_batches": 4, "max_epochs": 40}])
def test_no_checkpoint_is_written_in_the_probe(policy: Bundle, tmp_path: Path, often: dict[str, Any]) -> None:
    """Whether it validates within epochs, or the epochs are that short."""
    every = Best(tmp_path, "{step}", monitor="val_loss", save_top_k=-1, save_on_train_epoch_end=False)
    scheduler = fit(Module(policy), every, val=Batches(3, seed=1), **often)
    steps = sorted(int(file.stem.removeprefix("step=")) for file in tmp_path.iterdir())
    begin = scheduler.pilot.probes.steps[0]
    assert begin > 4  # a validation fell into it
    assert steps == [step for step in range(4, N + 1, 4) if step >= begin]


def test_a_probe_stops_no_training(policy: Bundle) -> None:
    """The last rate of the probe trebles the loss, for a single step."""
    lengths = [
        fit(
            Module(policy),
            stopping("val_loss", divergence_threshold=3.0, patience=N, check_on_train_epoch_end=False),
            val=Batches(3, seed=1),
            val_check_interval=1,
        ).last_epoch
        for stopping in (EarlyStopping, Stopping)
    ]
    assert lengths == [15, N]
