"""The clock of PilotLR is the optimizer's: micro-batches, seldom reports, skipped steps, and who drives."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import N, Training


def test_step_per_micro_batch_counts_optimizer_steps(policy: Bundle) -> None:
    """Accumulating two halves with a step() each equals one step() with their mean."""
    trainings = [Training(policy), Training(policy)]
    for split, training in enumerate(trainings):
        for _ in range(N):
            training.optimizer.zero_grad()
            losses = []
            for at in (0, 32):
                outputs, targets = training.model(training.x[at : at + 32]), training.y[at : at + 32]
                losses.append(nn.functional.mse_loss(outputs, targets))
                (losses[-1] / 2).backward()
                if at == 32:
                    training.optimizer.step()
                    training.rates.append(training.optimizer.param_groups[0]["lr"])
                if split:
                    training.scheduler.step(losses[-1])
            if not split:
                training.scheduler.step(sum(loss.item() for loss in losses) / 2)
        assert training.scheduler.last_epoch == N
    assert trainings[0].rates == trainings[1].rates


@pytest.mark.parametrize("every", [7, 1000], ids=["seldom", "never"])
def test_step_once_per_epoch_keeps_the_clock(policy: Bundle, every: int) -> None:
    training = Training(policy)
    start = [p.clone() for p in training.model.parameters()]
    with pytest.warns(UserWarning, match="the probe is left out"):
        for step in range(1, N + 1):
            loss = training.update()
            if step == 2:
                assert training.rates[0] != training.rates[1]  # written right before the second step
            if step % every == 0:
                training.scheduler.step(loss)
    assert training.scheduler.last_epoch == N - (N % every != 0)  # the last one awaits its step()
    assert not torch.equal(start[0], next(training.model.parameters()))
    history = training.scheduler.history
    held = [i for i in range(1, len(history)) if math.isnan(history[i].telemetry["loss_mean"])]
    assert held and {history[i].event for i in held} == {"loss_missing"}
    assert [history[i].level for i in held] == pytest.approx([history[i - 1].level for i in held])
    assert every == 7 or np.all(np.diff(training.rates[1:]) < 0)


def test_step_without_loss_warns_once(policy: Bundle) -> None:
    training = Training(policy, probe=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(N):
            training.update()
            training.scheduler.step()
    assert ["got no loss" in str(w.message) for w in caught] == [True]


def test_a_step_of_the_probe_without_a_loss_repeats_the_one_before(policy: Bundle) -> None:
    """Later than the first it does not end the probe."""
    training = Training(policy)
    for step in range(6):
        loss = training.update()
        if step == 4:
            with pytest.warns(UserWarning, match="got no loss"):
                training.scheduler.step()
        else:
            training.scheduler.step(loss)
    losses = training.scheduler.pilot.probes.loss[0]
    assert training.scheduler.probing and losses[4] == losses[3] != losses[5]


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
def test_steps_skipped_by_a_grad_scaler_do_not_count(policy: Bundle, fused: bool) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.1, fused=fused)
    scheduler = PilotLR(optimizer, 40, policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    moved = 0
    for step in range(30):
        loss = (p - step % 3).square().sum()
        before = p.detach().clone()
        optimizer.zero_grad()
        scaler.scale(loss * (math.inf if step % 5 == 3 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        moved += not torch.equal(before, p)
    assert scheduler.last_epoch == moved == 24


def test_a_probe_goes_on_from_its_start_after_a_step_that_a_grad_scaler_skips(policy: Bundle) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.1)
    scheduler = PilotLR(optimizer, N, policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(N):
        loss = p.square().sum() * (math.nan if step == 6 else 1.0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        if step == 6:
            assert scheduler.probing and scheduler.last_epoch == 6 and torch.equal(p, torch.ones(3))
    assert scheduler.last_epoch == N - 1 and len(scheduler.history) > 1


def test_an_observed_gradient_norm_replaces_the_sketchs(policy: Bundle) -> None:
    training = Training(policy)
    for _ in range(30):
        loss = training.update()
        training.scheduler.observe(grad_norm=torch.tensor(7.0))
        training.scheduler.step(loss)
    assert np.all(training.scheduler.pilot.probes.grad_norm == 7.0)
    assert training.scheduler.history[-1].telemetry["grad_norm"] == pytest.approx(7.0)


def test_a_gradient_is_wanted_by_probes_and_windows_alone(policy: Bundle) -> None:
    training, wanted = Training(policy, total_steps=400), []
    while len(training.rates) < 400:
        if training.scheduler.wants_gradient:
            wanted.append(len(training.rates) + 1)
        training.train(len(training.rates) + 1)
    bounds = training.scheduler.pilot.cadence.bounds.tolist()
    windows = {step for end in bounds[1:] for step in range(end - 3, end + 1)}
    probe = set(range(1, training.scheduler.history[0].step + 1))
    assert set(wanted) == probe | {step for step in windows if step > bounds[0]}


def test_an_extension_between_report_and_completion_counts_at_once(policy: Bundle) -> None:
    """A loss that the shorter training wanted, and the longer one does not."""
    training = Training(policy, probe=False, total_steps=10)
    training.scheduler.observe(loss=training.update())
    training.scheduler.extend(100_000)
    assert not training.scheduler.pilot.wants_loss
    training.scheduler.step()
    assert training.scheduler.state_dict()["losses"]["steps"] == []


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "watched"])
def test_a_dropped_scheduler_writes_no_more(policy: Bundle, watched: bool) -> None:
    training = Training(policy, probe=False)
    if watched:
        training.scheduler.watch(training.model[-1])
    training.scheduler = None  # type: ignore[assignment]
    training.optimizer.param_groups[0]["lr"] = 0.25
    training.update()
    assert training.optimizer.param_groups[0]["lr"] == 0.25


def test_another_scheduler_takes_over_and_the_first_can_be_read(policy: Bundle) -> None:
    training = Training(policy)
    training.train(30)
    first, decisions = training.scheduler, len(training.scheduler.history)
    training.scheduler = PilotLR(training.optimizer, N, policy, model=training.model)
    training.train(60)
    assert (first.last_epoch, len(first.history)) == (30, decisions)
    assert training.scheduler.last_epoch == 30
    assert training.rates[30:40] == training.rates[:10]  # it probes anew
