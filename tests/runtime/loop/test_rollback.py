"""The probe's roll-back: weights, optimizer state, buffers and groups are what they were before it."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import MAKES, N, Training


@pytest.mark.parametrize("warm", [0, 5], ids=["fresh", "warm"])
@pytest.mark.parametrize("scale", [1.0, 1e4], ids=["calm", "blown"])
@pytest.mark.parametrize("optimizer", MAKES)
def test_probe_is_rolled_back_bit_for_bit(policy: Bundle, optimizer: str, scale: float, warm: int) -> None:
    training = Training(policy, MAKES[optimizer], scale=scale)
    if warm:  # optimizer state and statistics that are not fresh
        del training.scheduler
        for _ in range(warm):
            training.update()
        training.scheduler = PilotLR(training.optimizer, N, policy, model=training.model)
    before = training.everything()
    steps = training.through_probe() - warm
    assert steps <= training.scheduler.pilot.cadence.probe_steps and not training.scheduler.probing
    torch.testing.assert_close(training.everything(), before, rtol=0, atol=0)
    assert not any(p.grad.any() for p in training.model.parameters())  # they belong to weights that are gone
    training.train(N + warm)
    assert all(math.isfinite(rate) and rate > 0 for rate in training.rates)


def test_probe_ends_early_where_the_loss_blows_up(policy: Bundle) -> None:
    training = Training(policy, MAKES["sgd"], total_steps=10 * N)
    training.y *= 1e3  # momentum SGD at 10 and more cannot hold this
    assert training.through_probe() < training.scheduler.pilot.cadence.probe_steps
    training.train(2 * N)
    assert math.isfinite(training.loss().item())


def test_probe_returns_to_weights_loaded_after_construction(policy: Bundle) -> None:
    training = Training(policy)
    with torch.no_grad():
        for p in training.model.parameters():
            p.mul_(0.5)
    loaded = [p.detach().clone() for p in training.model.parameters()]
    training.through_probe()
    assert all(torch.equal(p, q) for p, q in zip(training.model.parameters(), loaded, strict=True))


def test_roll_back_restores_state_in_groups(policy: Bundle) -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["k"] = self.param_groups[0].get("k", 0) + 1
            return super().step(closure)

    p = nn.Parameter(torch.ones(3))
    optimizer = Counting([p], lr=1.0)
    optimizer.param_groups[0]["k"] = 0
    scheduler = PilotLR(optimizer, N, policy)
    while not scheduler.history:
        p.grad = p.detach().clone()
        optimizer.step()
        scheduler.step(float(p.detach().square().sum()))
    assert optimizer.param_groups[0]["k"] == 0
