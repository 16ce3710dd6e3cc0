"""PilotLR under torch.amp: skipped steps, scaled and clipped gradients, autocast."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import N, Training, adam, sgd

MAKES = {
    "adam": adam,
    "adam, fused": lambda params: adam(params, fused=True),
    "sgd": sgd,
    "sgd, fused": lambda params: sgd(params, fused=True),
}


class Scaled(Training):
    """Steps through a GradScaler; `bad` are the batches whose loss overflows."""

    def __init__(self, *args: Any, scale: float = 2.0**10, bad: frozenset[int] = frozenset(), **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=7)
        self.bad, self.clip, self.autocast, self.batches = bad, 0.0, None, 0

    def update(self) -> Tensor:
        with torch.autocast("cpu", self.autocast, enabled=self.autocast is not None):
            loss = self.loss()
        loss = loss * (math.inf if self.batches in self.bad else 1.0)
        self.batches += 1
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        before = [p.clone() for p in self.model.parameters()]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if any(not torch.equal(a, b) for a, b in zip(before, self.model.parameters(), strict=True)):
            self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss


def norms(training: Training) -> list[float]:
    return [d.telemetry["grad_norm"] for d in training.scheduler.history[1:]]


@pytest.mark.parametrize("name", MAKES)
def test_a_scale_changes_nothing(policy: Bundle, name: str) -> None:
    """Powers of two are exact: rates, gradient norms and weights equal those without a scaler, bit for bit."""
    scaled, plain = Scaled(policy, MAKES[name]), Training(policy, MAKES[name])
    assert scaled.train(N) == plain.train(N)
    assert norms(scaled) == norms(plain)
    np.testing.assert_array_equal(scaled.scheduler.pilot.probes.grad_norm, plain.scheduler.pilot.probes.grad_norm)


@pytest.mark.parametrize("name", MAKES)
def test_skipped_steps_count_nowhere(policy: Bundle, name: str) -> None:
    """In the probe and in windows: rates and decisions are those of a training that never met the bad batches."""
    skipping, plain = Scaled(policy, MAKES[name], bad=frozenset({3, 4, 25, 40, 41, 42})), Training(policy, MAKES[name])
    for _ in range(N + len(skipping.bad)):
        loss = skipping.update()
        tell = skipping.scheduler.history or math.isfinite(loss.item())  # an infinite loss sends a probe back
        skipping.scheduler.step(*([loss] if tell else []))
    assert skipping.scheduler.last_epoch == N and skipping.rates == plain.train(N)
    assert norms(skipping) == norms(plain) and len(norms(plain)) > 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["adam", "adam, fused", "sgd"])
def test_a_first_step_may_be_skipped(policy: Bundle, name: str) -> None:
    """A scale that begins too high is usual: nothing is said about an order of calls that is right.

    Without torch's fused SGD, which takes uninitialised memory for its momentum where the first step is skipped.
    """
    skipping, plain = Scaled(policy, MAKES[name], bad=frozenset({0, 1})), Training(policy, MAKES[name])
    for _ in range(N + len(skipping.bad)):
        loss = skipping.update()
        skipping.scheduler.step(*([loss] if math.isfinite(loss.item()) else []))
    assert skipping.rates == plain.train(N)


@pytest.mark.parametrize("call", ["step", "observe", "watch"])
def test_a_blown_probe_ends_however_losses_are_told(policy: Bundle, call: str) -> None:
    """Where every loss is nan from now on and every step skipped, no optimizer step would ever end the probe."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, factor: float) -> Tensor:
            return self.w.square().sum() * factor

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = PilotLR(optimizer, N, policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    if call == "watch":
        scheduler.watch(net)
    for step in range(20):
        loss = net(math.nan if step >= 6 else 1.0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if call == "observe":
            scheduler.observe(loss=loss)
        scheduler.step(*([loss] if call == "step" else []))
    assert [d.step for d in scheduler.history] == [6] and torch.equal(net.w, torch.ones(3))


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("scaled", [True, False], ids=["unscale_ first", "no scaler"])
def test_the_gradient_norm_is_that_of_the_step(policy: Bundle, name: str, scaled: bool) -> None:
    """Clipped after backward: the sketch, of all coordinates here, sees what the optimizer sees."""
    training = Scaled(policy, MAKES[name], scale=2.0**10 if scaled else 1.0)
    training.clip = 0.01
    training.scaler = training.scaler if scaled else torch.amp.GradScaler("cpu", enabled=False)
    training.train(40)
    assert norms(training) == pytest.approx([0.01] * len(norms(training)), rel=1e-3)
    assert len(norms(training)) > 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["adam", "adam, fused"])
def test_autocast_trains_to_the_end(policy: Bundle, name: str, dtype: torch.dtype) -> None:
    training = Scaled(policy, MAKES[name], scale=2.0**20)  # too high for float16: the first steps are skipped
    training.autocast = dtype
    before = [p.clone() for p in training.model.parameters()]
    while training.scheduler.last_epoch < N and training.batches < 3 * N:
        loss = training.update()
        had = len(training.scheduler.history)
        training.scheduler.step(loss)
        if not had and training.scheduler.history:
            assert all(torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))
    assert training.scheduler.last_epoch == N == len(training.rates)
    assert all(math.isfinite(rate) and rate > 0 for rate in training.rates)
    assert dtype is torch.bfloat16 or training.batches > N


SETS: dict[str, Callable[[torch.optim.Optimizer], None]] = {
    "none": lambda optimizer: optimizer.zero_grad(set_to_none=True),
    "zeros": lambda optimizer: optimizer.zero_grad(set_to_none=False),
}


@pytest.mark.parametrize("when", ["before backward", "after step"])
def test_gradients_set_to_none(policy: Bundle, when: str) -> None:
    """Before step() reads them or not: the hook has sampled them. One parameter never gets a gradient."""
    rates = []
    for clear in SETS.values():
        used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
        optimizer = torch.optim.Adam([used, unused], lr=0.1)
        scheduler = PilotLR(optimizer, N, policy)
        for step in range(N):
            if when == "before backward":
                clear(optimizer)
            loss = (used - step % 3).square().sum()
            loss.backward()
            optimizer.step()
            if when == "after step":
                clear(optimizer)
            scheduler.step(loss)
        assert torch.equal(unused, torch.ones(2))
        assert all(d.telemetry["grad_norm"] > 0 for d in scheduler.history[1:])
        rates.append([d.lr for d in scheduler.history])
    assert rates[0] == rates[1]
