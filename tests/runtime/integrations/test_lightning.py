"""PilotLR in real Lightning trainings: what the callback passes on, the clock, precision, manual optimization."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from lightning_training import (
    EPOCHS,
    IGNORED,
    Batches,
    Module,
    N,
    first_validation,
    fit,
    intervals,
    probe_losses,
    trainer,
)
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

pytestmark = IGNORED


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


# What the callback passes on


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
    reported = probe_losses(scheduler)
    returned = np.array(module.losses[: every * len(reported)]).reshape(-1, every).mean(1)
    np.testing.assert_allclose(reported, returned, rtol=1e-6)
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
    assert not scheduler.probing and scheduler.pilot.probes.steps[0] == 0  # it has no evidence
    assert len(scheduler.history) > 10


def test_validation_losses_arrive(policy: Bundle) -> None:
    """That of a whole sanity check before training included; each counts at the decision after it."""
    module = Module(policy)
    scheduler = fit(module, val=Batches(3, seed=1), num_sanity_val_steps=-1)
    first = scheduler.history[0].observation
    observed = [t["val_loss"] for t in intervals(scheduler) if not math.isnan(t["val_loss"])]
    assert first["has_val"] == 1
    assert first_validation(scheduler) == pytest.approx(module.validated[0])
    assert observed == pytest.approx(module.validated[1:-1])  # no decision follows the last
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
    reported = probe_losses(scheduler)
    assert scheduler.last_epoch == N // 2
    np.testing.assert_allclose(
        reported, np.array(module.losses[: 2 * len(reported)]).reshape(-1, 2).mean(1) / 2, rtol=1e-6
    )


def test_several_optimizers_keep_their_losses_apart_and_share_the_validation(policy: Bundle) -> None:
    module, run = Pair(policy), trainer(num_sanity_val_steps=-1)
    run.fit(module, Batches(), Batches(3, seed=1))
    for config, losses in zip(run.lr_scheduler_configs, module.losses, strict=True):
        reported = probe_losses(config.scheduler)
        assert reported == losses[: len(reported)]
        assert config.scheduler.last_epoch == N
        assert config.scheduler.history[0].observation["has_val"] == 1
