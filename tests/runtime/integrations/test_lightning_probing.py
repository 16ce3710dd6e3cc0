"""The probe and Lightning's callbacks: averages, checkpoints and early stopping leave it out, and so does who stops."""

from __future__ import annotations

import contextlib
import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging

from lightning_training import BATCHES, IGNORED, Batches, Module, N, fit, trainer
from lrpilot.integrations.lightning import PilotCallback
from lrpilot.policy_file.bundle import Bundle

pytestmark = IGNORED


class Average(WeightAveraging):
    """The mean of the weights after the probe."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        if not pl_module.lr_schedulers().probing:
            super().on_train_batch_end(trainer, pl_module, *batch)


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
@pytest.mark.parametrize("at_epochs", [True, False, None])
def test_no_end_of_an_epoch_or_a_validation_writes_a_checkpoint_in_the_probe(
    policy: Bundle, tmp_path: Path, often: dict[str, Any], at_epochs: bool | None
) -> None:
    """Whether it validates within epochs, or the epochs are that short."""
    every = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=at_epochs)
    module = Module(policy)
    scheduler = fit(module, every, val=Batches(3, seed=1), **often)
    begin = scheduler.pilot.probes.steps[0]
    assert begin > 4  # a validation fell into it
    ends = range(4, N + 1, 4) if "max_epochs" in often or not at_epochs else range(BATCHES, N + 1, BATCHES)
    assert steps_of(tmp_path) == [step for step in ends if step >= begin]


class Stopping(EarlyStopping):
    """Notes the steps at which it looks."""

    def setup(self, *args: Any, **kw: Any) -> None:
        super().setup(*args, **kw)
        self.looked: list[int] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        self.looked += [trainer.global_step] * (not self._check_on_train_epoch_end)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.looked += [trainer.global_step] * bool(self._check_on_train_epoch_end)


class Logging(Module):
    """Logs its mean loss over each epoch, too; that of a step of the probe is not finite."""

    def training_step(self, batch: Any, index: int) -> Any:
        loss = super().training_step(batch, index)
        wild = self.scheduler.probing and self.scheduler.last_epoch == 5
        self.log("train_loss", loss * (math.inf if wild else 1.0), on_step=False, on_epoch=True)
        return loss


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("metric", "often", "every", "least"),
    [
        ("val_loss", {"val_check_interval": 2}, 2, 0),
        ("val_loss", {"limit_train_batches": 4, "max_epochs": 40}, 4, 0),
        ("val_loss", {}, BATCHES, 0),  # the first epoch's validation follows the probe
        ("train_loss", {"limit_train_batches": 4, "max_epochs": 40}, 4, 4),  # of an epoch without a step of the probe
        ("train_loss", {}, BATCHES, BATCHES),
    ],
)
def test_early_stopping_does_not_count_the_probe(
    policy: Bundle, first: bool, metric: str, often: dict[str, Any], every: int, least: int
) -> None:
    """The probe's last rate trebles the loss; one of its losses is infinite. Either would stop the training."""
    stopping = Stopping(metric, divergence_threshold=3.0, patience=N)
    callbacks = [stopping, PilotCallback()] if first else [PilotCallback(), stopping]
    scheduler = fit(Logging(policy), *callbacks, feed=False, val=Batches(3, seed=1), **often)
    begin = scheduler.pilot.probes.steps[0]
    assert scheduler.last_epoch == N and begin > 8
    assert stopping.looked == [step for step in range(every, N + 1, every) if step - least >= begin]
    assert not {"on_validation_end", "on_train_epoch_end"} & vars(stopping).keys()  # its own methods again


# Leaving within the probe

AT = 9


class Leaving(Callback):
    """Leaves the fit within the probe, in one of several ways."""

    def __init__(self, way: str, file: Path) -> None:
        self.way, self.file = way, file
        self.begun: dict[str, Any] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.begun = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        if trainer.global_step != AT:
            return
        assert pl_module.scheduler.probing
        if self.way == "stop":
            trainer.should_stop = True
        elif self.way == "interrupt":
            raise KeyboardInterrupt
        elif self.way == "error":
            raise RuntimeError("out of memory")
        elif self.way == "save":
            trainer.save_checkpoint(self.file)
        elif self.way == "save weights":
            trainer.save_checkpoint(self.file, weights_only=True)


def steps_of(folder: Path) -> list[int]:
    return sorted(int(file.stem.removeprefix("step=")) for file in folder.iterdir())


def assert_sound(state: dict[str, Any], begun: dict[str, Any]) -> None:
    torch.testing.assert_close(state, begun, rtol=0, atol=0)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("way", ["stop", "interrupt", "error"])
def test_a_fit_that_ends_in_the_probe_leaves_a_sound_model(
    policy: Bundle, tmp_path: Path, way: str, first: bool
) -> None:
    """And sound last checkpoints."""
    module, leaving = Module(policy), Leaving(way, tmp_path / "none")
    last = ModelCheckpoint(tmp_path, "{step}", save_last=True, save_on_exception=True)
    callbacks = [leaving, PilotCallback(), last] if first else [PilotCallback(), leaving, last]
    with pytest.raises((SystemExit, RuntimeError)) if way != "stop" else contextlib.nullcontext():
        fit(module, *callbacks, feed=False)
    scheduler = module.scheduler
    assert_sound(module.state_dict(), leaving.begun)
    assert scheduler.last_epoch == AT and not scheduler.probing and scheduler.get_last_lr()[0] <= 1e-3
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == AT
    for file in tmp_path.iterdir():
        checkpoint = torch.load(file, weights_only=True)
        assert_sound(checkpoint["state_dict"], leaving.begun)
        assert not checkpoint["lr_schedulers"][0]["probing"]


@pytest.mark.parametrize("way", ["save", "save weights", "every step"])
@pytest.mark.filterwarnings("ignore:PilotLR. the probe was ended for a checkpoint")
def test_a_checkpoint_in_the_probe_is_sound_and_resumes_bit_for_bit(policy: Bundle, tmp_path: Path, way: str) -> None:
    whole, leaving = Module(policy), Leaving(way, tmp_path / "step=9.ckpt")
    own = [ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=AT, save_top_k=-1)] if way == "every step" else []
    with pytest.warns(UserWarning, match="the probe was ended for a checkpoint"):
        trainer(leaving, *own).fit(whole, Batches())
    checkpoint = torch.load(tmp_path / "step=9.ckpt", weights_only=True)
    assert_sound(checkpoint["state_dict"], leaving.begun)
    assert whole.scheduler.last_epoch == N and whole.scheduler.history[0].step == AT
    if way != "save weights":
        assert not checkpoint["lr_schedulers"][0]["probing"]
        resumed = Module(policy, total_steps=N)
        fit(resumed, train=Batches(), ckpt_path=tmp_path / "step=9.ckpt")
        assert resumed.rates == whole.rates[AT:]
        assert_sound(resumed.state_dict(), whole.state_dict())
