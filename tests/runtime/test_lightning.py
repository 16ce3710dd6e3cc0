"""PilotLR in real Lightning trainings: what the callback tells it, the clock, resuming, precision, two processes."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from bundles import write_bundle
from lrpilot.bundle import Bundle
from lrpilot.features import NAMES
from lrpilot.integrations.lightning import PilotCallback
from lrpilot.torch import PilotLR
from repository import TOP

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
BATCHES, EPOCHS = 32, 5
N = BATCHES * EPOCHS  # steps; the probe takes up to 16 of them


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    drawn = np.random.default_rng(0).normal(0, 0.05, len(NAMES)).tolist()
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    return Bundle(write_bundle(path, weights=dict(zip(NAMES, drawn, strict=True))))


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


def fit(module: Module, *callbacks: Callback, val: Any = None, ckpt_path: Any = None, **kw: Any) -> PilotLR:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PilotLR|PilotCallback")
        trainer(*callbacks, **kw).fit(module, Batches(), val, ckpt_path=ckpt_path)
    return module.scheduler


def seen_losses(scheduler: PilotLR) -> list[float]:
    """Losses of the probe's steps, as the pilot was told them."""
    told = scheduler.pilot.probes.loss[0]
    return told[: scheduler.pilot.probes.steps[0]].tolist()


def intervals(scheduler: PilotLR) -> list[dict[str, float]]:
    return [decision.telemetry for decision in scheduler.history if decision.telemetry]


def first_validation(scheduler: PilotLR) -> float:
    """The validation loss that later ones are compared with."""
    decision = next(d for d in scheduler.history if not math.isnan(d.telemetry.get("val_loss", math.nan)))
    return decision.telemetry["val_loss"] / 10 ** (decision.observation["val_total"] / 2)


# The same as a plain loop


def plain_loop(policy: Bundle, every: int = 1, clip: float | None = None) -> tuple[list[float], PilotLR]:
    """The training of `Module` without Lightning."""
    module, batches = Module(policy), [*Batches()] * EPOCHS
    optimizer = torch.optim.Adam(module.parameters(), lr=0.5)
    scheduler = PilotLR(optimizer, N // every, policy, model=module, steps_per_epoch=N / every / EPOCHS)
    rates: list[float] = []
    for i in range(0, len(batches), every):
        optimizer.zero_grad()
        for batch in batches[i : i + every]:
            loss = module.loss(batch)
            (loss / every).backward()
            scheduler.observe(loss=loss)
        norm = nn.utils.clip_grad_norm_(module.parameters(), clip or math.inf)
        if clip:
            scheduler.observe(grad_norm=norm)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return rates, scheduler


@pytest.mark.parametrize(("length", "steps"), [({}, BATCHES), ({"max_epochs": None, "max_steps": N}, None)])
def test_it_tells_the_length_of_an_epoch(policy: Bundle, length: dict[str, Any], steps: int | None) -> None:
    assert fit(Module(policy), **length).steps_per_epoch == steps


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("clip", [None, 1e-2])
def test_it_does_what_a_plain_loop_does(policy: Bundle, every: int, clip: float | None) -> None:
    """Bit by bit: clock, losses undivided by the accumulation, gradient norms as they are before clipping."""
    module = Module(policy)
    scheduler = fit(module, accumulate_grad_batches=every, gradient_clip_val=clip)
    rates, alone = plain_loop(policy, every, clip)
    assert scheduler.last_epoch == N // every
    assert module.rates == rates
    assert scheduler.history == alone.history and len(scheduler.history) > 10
    assert min(t["grad_norm"] for t in intervals(scheduler)) > (clip or 0)


# What the pilot is told


def scaled() -> dict[str, Any]:
    """fp16 with a GradScaler on a CPU: precision="16-mixed" would fall back to bf16 there."""
    return {"plugins": MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("precision", [dict, lambda: {"precision": "bf16-mixed"}, scaled], ids=["32", "bf16", "fp16"])
def test_losses_arrive_as_training_step_returned_them(
    policy: Bundle, every: int, precision: Callable[[], dict[str, Any]]
) -> None:
    module = Module(policy)
    scheduler = fit(module, accumulate_grad_batches=every, **precision())
    told = seen_losses(scheduler)
    returned = np.array(module.losses[: every * len(told)]).reshape(-1, every).mean(1)
    np.testing.assert_allclose(told, returned, rtol=1e-6)
    assert scheduler.last_epoch == N // every


def test_a_step_that_the_scaler_skips_does_not_count(policy: Bundle) -> None:
    module = Module(policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)  # far above what fp16 gradients can hold
    scheduler = fit(module, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    skipped = round(math.log2(2.0**24 / scaler.get_scale()))
    assert skipped > 3 and scheduler.last_epoch == N - skipped


class Overflowing(Module):
    """Its loss is not finite from the probe's sixth rate on."""

    def loss(self, x: Tensor) -> Tensor:
        return super().loss(x) * (math.inf if self.scheduler.probing and self.scheduler.last_epoch > 4 else 1.0)


def test_a_probe_ends_where_the_scaler_would_skip_for_ever(policy: Bundle) -> None:
    module = Overflowing(policy)
    scheduler = fit(module, **scaled())
    assert not scheduler.probing and scheduler.pilot.probes.steps[0] == 6
    assert len(scheduler.history) > 10


def test_validation_losses_arrive(policy: Bundle) -> None:
    """That of a whole sanity check before training included; each counts at the decision after it."""
    module = Module(policy)
    scheduler = fit(module, val=Batches(3, seed=1), num_sanity_val_steps=-1)
    first = scheduler.history[0].observation
    told = [t["val_loss"] for t in intervals(scheduler) if not math.isnan(t["val_loss"])]
    assert first["has_val"] == 1
    assert first_validation(scheduler) == pytest.approx(module.validated[0])
    assert told == pytest.approx(module.validated[1:-1])  # no decision follows the last
    assert len(module.validated) == EPOCHS + 1


def test_a_validation_of_other_data_or_of_probed_weights_does_not_count(policy: Bundle) -> None:
    module = Module(policy)
    scheduler = fit(module, val=Batches(3, seed=1), num_sanity_val_steps=2, val_check_interval=4)
    within = sum(4 * i < scheduler.pilot.probes.steps[0] for i in range(1, 9))
    assert within and scheduler.history[0].observation["has_val"] == 0
    assert first_validation(scheduler) == pytest.approx(module.validated[1 + within])


def test_validating_after_the_training_tells_nothing(policy: Bundle) -> None:
    module = Module(policy)
    run = trainer()
    run.fit(module, Batches())
    run.validate(module, Batches(3, seed=1), verbose=False)
    assert len(module.validated) == 1 and math.isnan(module.scheduler.pilot.pending_validation[0])


# Resuming


@pytest.fixture(scope="module")
def uninterrupted(policy: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Module, Path]:
    """A training, and a folder of its checkpoints: one per step, and one per validation."""
    folder, module = tmp_path_factory.mktemp("checkpoints"), Module(policy)
    each = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    validated = ModelCheckpoint(folder, "validated-{step}", save_top_k=-1, save_on_train_epoch_end=False)
    fit(module, each, validated, val=Batches(3, seed=1), num_sanity_val_steps=-1)
    return module, folder


@pytest.mark.parametrize(
    "name, at",
    [
        ("step=5", 5),  # in the middle of the probe
        ("step=17", 17),
        ("step=50", 50),  # in the middle of an epoch
        ("step=53", 53),
        ("validated-step=64", 64),
        ("validated-step=128", 128),
    ],
)
def test_resuming_equals_never_stopping(policy: Bundle, uninterrupted: tuple[Module, Path], name: str, at: int) -> None:
    """Within an epoch too, where the loader can be resumed and `estimated_stepping_batches` is left alone."""
    whole, folder = uninterrupted
    file = folder / f"{name}.ckpt"
    (saved,) = torch.load(file, weights_only=True)["lr_schedulers"]
    assert (saved["snapshot"] is None) == (at > 17)  # the copy is kept until the loss has fallen
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
    decided = logged[["step", "lrpilot/lr"]].dropna()
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


# Manual optimization


class Manual(Module):
    """Steps the optimizer and the scheduler itself, once per two batches."""

    automatic_optimization = False

    def training_step(self, batch: Tensor, index: int) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        loss = super().training_step(batch, index)
        self.manual_backward(loss / 2)
        if index % 2:
            optimizer.step()  # pyright: ignore
            optimizer.zero_grad()  # pyright: ignore
            scheduler.step()  # pyright: ignore


class Pair(LightningModule):
    """Two nets with an optimizer and a loss each, as in adversarial training."""

    automatic_optimization = False

    def __init__(self, policy: Bundle) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.policy, self.nets = policy, nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])
        self.losses: list[list[float]] = [[], []]

    def training_step(self, batch: Tensor, index: int) -> None:
        for i, (optimizer, scheduler) in enumerate(zip(self.optimizers(), self.lr_schedulers(), strict=True)):  # pyright: ignore
            loss = 100.0**i * nn.functional.mse_loss(self.nets[i](batch), batch[:, :1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            scheduler.step(loss)
            self.losses[i].append(float(loss.detach()))

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("val_loss", batch.mean())

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in self.nets]
        return optimizers, [PilotLR(o, N, self.policy, model=self) for o in optimizers]


def test_manual_optimization_gets_the_loss_of_each_backward(policy: Bundle) -> None:
    module = Manual(policy)
    scheduler = fit(module)
    told = seen_losses(scheduler)
    assert scheduler.last_epoch == N // 2
    np.testing.assert_allclose(told, np.array(module.losses[: 2 * len(told)]).reshape(-1, 2).mean(1) / 2, rtol=1e-6)


def test_several_optimizers_keep_their_losses_apart_and_share_the_validation(policy: Bundle) -> None:
    module, run = Pair(policy), trainer(num_sanity_val_steps=-1)
    run.fit(module, Batches(), Batches(3, seed=1))
    for config, losses in zip(run.lr_scheduler_configs, module.losses, strict=True):
        told = seen_losses(config.scheduler)
        assert told == losses[: len(told)]
        assert config.scheduler.last_epoch == N
        assert config.scheduler.history[0].observation["has_val"] == 1


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
        return [optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, model=self)]


torch.set_num_threads(1)
data = torch.randn(2048, 4, generator=torch.Generator().manual_seed(1))
net = Net()
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, gradient_clip_val=0.1, logger=False,
    enable_progress_bar=False, enable_checkpointing=False, callbacks=[PilotCallback()],
)
trainer.fit(net, torch.utils.data.DataLoader(data, 16), torch.utils.data.DataLoader(data[:64], 16))
scheduler = net.lr_schedulers()
told = {
    "rates": net.rates,
    "weights": [p.tolist() for p in net.parameters()],
    "steps": [scheduler.last_epoch, scheduler.planned_steps],
    "validated": [d.observation["has_val"] for d in scheduler.history],
}
Path(f"{trainer.global_rank}.json").write_text(json.dumps(told))
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROCESSES)
    env = os.environ | {"PYTHONPATH": str(TOP / "runtime"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["steps"] == [128, 128] and len({*first["rates"]}) == 128
    assert first["validated"][0] == 1


def test_the_example_reads_digits(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = runpy.run_path(str(TOP / "examples/lightning_digits.py"))["main"]()
    assert accuracy > 0.95
    assert f"accuracy {accuracy:.3f}" in capsys.readouterr().out
