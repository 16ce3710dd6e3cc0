"""PilotLR in real Lightning trainings: resumed, configured in several ways, in two processes, and the example."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from bundles import write_bundle
from lightning_training import (
    BATCHES,
    IGNORED,
    Batches,
    Module,
    N,
    fit,
    trainer,
)
from lrpilot.integrations.lightning import PilotCallback
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from repository import TOP

pytestmark = IGNORED


class Saving(Callback):
    """Saves after some steps, none of them in the probe: that would end it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step in (17, 50, 53):
            trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")


@pytest.fixture(scope="module")
def uninterrupted(policy: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Module, Path]:
    """A training, and a folder of its checkpoints: of some steps, and one per validation."""
    folder, module = tmp_path_factory.mktemp("checkpoints"), Module(policy)
    validated = ModelCheckpoint(folder, "validated-{step}", save_top_k=-1, save_on_train_epoch_end=False)
    fit(module, Saving(folder), validated, val=Batches(3, seed=1), num_sanity_val_steps=-1)
    return module, folder


@pytest.mark.parametrize(
    "name, at, copied",
    [
        ("step=17", 17, True),  # the loss has not fallen yet
        ("step=50", 50, True),  # in the middle of an epoch, and within four decisions after a rise
        ("step=53", 53, True),
        ("validated-step=64", 64, True),
        ("validated-step=128", 128, False),
    ],
)
def test_resuming_equals_never_stopping(
    policy: Bundle, uninterrupted: tuple[Module, Path], name: str, at: int, copied: bool
) -> None:
    """Within an epoch too, where the loader can be resumed and `estimated_stepping_batches` is left alone."""
    whole, folder = uninterrupted
    file = folder / f"{name}.ckpt"
    (saved,) = torch.load(file, weights_only=True)["lr_schedulers"]
    assert (saved["snapshot"] is not None) == copied
    module = Module(policy, total_steps=N)
    scheduler = fit(module, val=Batches(3, seed=1), num_sanity_val_steps=-1, ckpt_path=file)
    assert module.rates == whole.rates[at:]
    assert module.losses == whole.losses[at:]
    assert scheduler.history == whole.scheduler.history
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), whole.parameters(), strict=True))


class Longer(Module):
    """Resumed for more epochs than were planned."""

    def on_train_start(self) -> None:
        self.scheduler.extend(int(self.trainer.estimated_stepping_batches))


def test_a_resumed_training_can_be_made_longer(policy: Bundle, uninterrupted: tuple[Module, Path]) -> None:
    module = Longer(policy, total_steps=N)
    file = uninterrupted[1] / "validated-step=128.ckpt"
    scheduler = fit(module, val=Batches(3, seed=1), max_epochs=8, ckpt_path=file)
    assert scheduler.last_epoch == 8 * BATCHES and scheduler.planned_steps == 8 * BATCHES
    assert 0 < module.rates[-1] < module.rates[0]


# Configurations


class Configured(Module):
    """`configure_optimizers` returns what `shape(optimizer, scheduler)` does."""

    def __init__(self, policy: Bundle, shape: Callable[[Any, Any], Any], **pilot: Any) -> None:
        super().__init__(policy, **pilot)
        self.shape = shape

    def configure_optimizers(self) -> Any:
        (optimizer,), (scheduler,) = super().configure_optimizers()
        return self.shape(optimizer, scheduler)


def by_step(optimizer: Any, scheduler: Any) -> Any:
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.mark.parametrize(
    "shape",
    [
        by_step,
        lambda o, s: {"optimizer": o, "lr_scheduler": s},
        lambda o, s: {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "epoch", "frequency": 2}},
    ],
    ids=["step", "default", "epoch"],
)
def test_every_optimizer_step_is_a_step_of_the_scheduler(policy: Bundle, shape: Any) -> None:
    module = Configured(policy, shape)
    scheduler = fit(module, max_epochs=2)
    assert scheduler._step_count == 1 + scheduler.last_epoch == 1 + 2 * BATCHES
    assert len(set(module.rates)) == 2 * BATCHES


def test_lightnings_own_loggers_show_rates_and_decisions(policy: Bundle, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    module = Module(policy, log=logger.log_metrics)
    scheduler = fit(module, LearningRateMonitor(), logger=logger, log_every_n_steps=1)
    logged = pandas.read_csv(Path(logger.log_dir) / "metrics.csv")
    monitored = logged[["step", "lr-Adam"]].dropna()
    assert monitored["lr-Adam"].tolist() == pytest.approx(module.rates)
    decided = logged[logged["lrpilot/probe"] == 0]
    assert decided["step"].tolist() == [d.step for d in scheduler.history]
    assert decided["lrpilot/lr"].tolist() == pytest.approx([d.lr for d in scheduler.history])


@pytest.mark.parametrize("kw", [{"fast_dev_run": True}, {"max_epochs": -1, "max_steps": 70}])
def test_the_trainer_says_how_many_steps_there_are(policy: Bundle, kw: dict[str, Any]) -> None:
    scheduler = fit(Module(policy), **kw)
    assert scheduler.last_epoch == scheduler.planned_steps == kw.get("max_steps", 1)


def plateau(optimizer: Any, scheduler: Any) -> Any:
    config = {"scheduler": scheduler, "monitor": "val_loss", "reduce_on_plateau": True}
    return {"optimizer": optimizer, "lr_scheduler": config}


@pytest.mark.parametrize(
    "shape, message",
    [
        (lambda o, s: o, "returned no PilotLR"),
        (lambda o, s: ([o], [torch.optim.lr_scheduler.ConstantLR(o)]), "returned no PilotLR"),
        (lambda o, s: ([o], [s, PilotLR(o, N, s.policy)]), "two PilotLRs"),
        (plateau, r"PilotCallback\(val_loss='val_loss'\)"),
    ],
)
def test_mistakes_are_refused_before_the_training(policy: Bundle, shape: Any, message: str) -> None:
    module = Configured(policy, shape)
    with pytest.raises(MisconfigurationException, match=message):
        fit(module)
    assert not module.losses


@pytest.mark.parametrize(
    "callback, pilot, message",
    [
        (PilotCallback(), {"total_steps": 2}, "total_steps=2, and the Trainer will make 64 optimizer steps"),
        (PilotCallback("valid"), {}, "val_loss='valid' was not logged in validation, but val_loss; name"),
        (Callback(), {}, "got no loss"),
    ],
)
def test_what_hurts_is_warned_of(policy: Bundle, callback: Callback, pilot: dict[str, Any], message: str) -> None:
    run = trainer(callback, feed=False, max_epochs=2)
    with pytest.warns(UserWarning, match=message):
        run.fit(Configured(policy, by_step, **pilot), Batches(), Batches(3, seed=1))


# Two processes, and the example

PROCESSES = """
import json
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lrpilot.integrations.lightning import PilotCallback
from lrpilot.torch import PilotLR


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.rates = []

    def loss(self, x):
        return nn.functional.mse_loss(self.net(x), x[:, :1].sin())

    def training_step(self, x, index):
        return self.loss(x)

    def validation_step(self, x, index):
        self.log("val_loss", self.loss(x))  # a rank's own: rank 0's counts

    def optimizer_step(self, *args):
        super().optimizer_step(*args)
        self.rates.append(self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters())
        return [optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, "policy.onnx", model=self)]


torch.set_num_threads(1)
data = torch.randn(2048, 4, generator=torch.Generator().manual_seed(1))
net = Net()
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, gradient_clip_val=0.1, logger=False,
    enable_progress_bar=False, enable_checkpointing=False, callbacks=[PilotCallback()],
)
trainer.fit(net, torch.utils.data.DataLoader(data, 16), torch.utils.data.DataLoader(data[:64], 16))
scheduler = net.lr_schedulers()
record = {
    "rates": net.rates,
    "weights": [p.tolist() for p in net.parameters()],
    "steps": [scheduler.last_epoch, scheduler.planned_steps],
    "validated": [d.observation["has_val"] for d in scheduler.history],
}
Path(f"{trainer.global_rank}.json").write_text(json.dumps(record))
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROCESSES)
    write_bundle(tmp_path / "policy.onnx")
    env = os.environ | {"PYTHONPATH": str(TOP / "runtime"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["steps"] == [128, 128] and len({*first["rates"]}) == 128
    assert first["validated"][0] == 1


def test_the_example_reads_digits(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = runpy.run_path(str(TOP / "examples/lightning_digits.py"))["main"]()
    assert accuracy > 0.95
    assert f"accuracy {accuracy:.3f}" in capsys.readouterr().out
