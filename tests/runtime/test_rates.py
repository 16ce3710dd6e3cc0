"""The groups' learning rates: ratios, bounds, tensors, and the kinds of optimizers."""

import pytest
import torch
from torch import nn

from lrpilot.bundle import Bundle
from lrpilot.rates import optimizer_kind
from lrpilot.torch import PilotLR
from user_training import N, Training

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_initial_rate_is_no_input(policy: Bundle, optimizer: str) -> None:
    trainings = [Training(policy, lambda p, lr=lr: OPTIMIZERS[optimizer](p, lr=lr)) for lr in (1e-5, 1e-3, 1e-1)]
    rates = [training.train(N) for training in trainings]
    assert rates[0] == rates[1] == rates[2]
    weights = [training.everything()["model"] for training in trainings]
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=0)


def test_groups_keep_their_ratios(policy: Bundle) -> None:
    a, b, c, d = (nn.Parameter(torch.ones(2)) for _ in range(4))
    lr = torch.tensor(0.02, dtype=torch.float64)
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.0}, {"params": [b], "lr": lr}, {"params": [c], "lr": 0.06}])
    scheduler = PilotLR(optimizer, 20, policy)
    for step in range(20):
        if step == 10:
            optimizer.add_param_group({"params": [d], "lr": 0.01})
        for p in (a, b, c, d):
            p.grad = p.detach().clone()
        optimizer.step()
        scheduler.step(1.0)
        base = scheduler.pilot.learning_rate()
        want = [0.0, base, 3 * base, base / 2][: len(optimizer.param_groups)]
        assert scheduler.get_lr() == scheduler.get_last_lr() == pytest.approx(want)
        assert [float(g["lr"]) for g in optimizer.param_groups] == pytest.approx(want)
    assert optimizer.param_groups[1]["lr"] is lr


@pytest.mark.parametrize(
    ("rates", "want"), [([0.1, 0.2], [1, 2]), ([0.0, 0.0], [1, 1]), ([0.0, 0.5, 0.1], [0, 1, 0.2])]
)
def test_ratios_are_to_the_first_group_with_a_rate(policy: Bundle, rates: list[float], want: list[float]) -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in rates])
    scheduler = PilotLR(optimizer, 20, policy)
    base = scheduler.pilot.learning_rate()
    assert scheduler.get_last_lr() == pytest.approx([r * base for r in want])


def test_bounds_hold(policy: Bundle) -> None:
    rates = Training(policy, min_lr=1e-4, max_lr=2e-3).train(N)
    assert min(rates) == 1e-4 and max(rates) == 2e-3


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [("SGD", "sgd"), ("Adam", "adam"), ("AdamW", "adamw"), ("RMSprop", "adam"), ("NAdam", "adam")],
)
def test_optimizer_kinds(optimizer: str, kind: str) -> None:
    made = getattr(torch.optim, optimizer)([nn.Parameter(torch.ones(1))], lr=0.1)
    assert optimizer_kind(made) == kind
