"""The groups' learning rates: ratios, bounds, tensors, and the kinds of optimizers."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from bundles import write_bundle
from lrpilot.loop.optimizers import kind_of
from lrpilot.policy_file.bundle import Bundle
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
    a, b, c, d = (nn.Parameter(torch.ones(size)) for size in (9, 3, 2, 9))
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
    ("sizes", "rates", "want"),
    [
        ([1, 2], [0.1, 0.2], [0.5, 1]),
        ([2, 1], [0.1, 0.2], [1, 2]),
        ([1, 2], [0.0, 0.0], [1, 1]),
        ([9, 2, 1], [0.0, 0.5, 0.1], [0, 1, 0.2]),
        ([1, 1], [0.1, 0.2], [0.5, 1]),  # of equally large ones, the group with the higher rate
        ([1, 1], [0.2, 0.1], [1, 0.5]),
    ],
)
def test_ratios_are_to_the_group_with_most_parameters(
    policy: Bundle, sizes: list[int], rates: list[float], want: list[float]
) -> None:
    groups = [{"params": [nn.Parameter(torch.ones(size))], "lr": lr} for size, lr in zip(sizes, rates, strict=True)]
    scheduler = PilotLR(torch.optim.SGD(groups), 20, policy, max_lr=1e-3)
    base = scheduler.pilot.learning_rate()
    assert base <= 1e-3 and scheduler.get_last_lr() == pytest.approx([r * base for r in want])


@pytest.mark.parametrize("rates", [(1e-5, 1e-3), (1e-3, 1e-5)], ids=["slow body", "slow head"])
def test_the_order_of_groups_changes_no_result(rates: tuple[float, float]) -> None:
    """Up to rounding: sums over the parameters run in another order. The policy is the shipped one."""

    def trained(turned: bool) -> tuple[list[float], list[float]]:
        torch.manual_seed(0)
        x = torch.randn(64, 4, dtype=torch.float64)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        parts = [{"params": model[at].parameters(), "lr": lr} for at, lr in zip((0, 2), rates, strict=True)]
        optimizer = torch.optim.Adam(parts[::-1] if turned else parts)
        scheduler = PilotLR(optimizer, N)
        for step in range(N):
            batch = x[16 * (step % 4) :][:16]
            loss = nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)
        return [d.lr for d in scheduler.history], [x for p in model.parameters() for x in p.flatten().tolist()]

    (levels, weights), (others, turned) = trained(False), trained(True)
    assert levels == pytest.approx(others, rel=1e-4) and weights == pytest.approx(turned, rel=1e-4, abs=1e-6)


def test_a_resumed_training_has_the_reference_of_the_saved_one(policy: Bundle) -> None:
    def made(added: bool) -> PilotLR:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
        if added:
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(9))], "lr": 0.2})
        return PilotLR(optimizer, 20, policy)

    scheduler, resumed = made(False), made(True)
    scheduler.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(9))], "lr": 0.2})
    base = scheduler.pilot.learning_rate()
    resumed.load_state_dict(scheduler.state_dict())
    assert scheduler.get_lr() == resumed.get_last_lr() == pytest.approx([base, 2 * base])


def test_bounds_hold(policy: Bundle) -> None:
    rates = Training(policy, min_lr=1e-4, max_lr=2e-3).train(N)
    assert min(rates) == 1e-4 and max(rates) == 2e-3


@pytest.mark.parametrize("guards", [True, False], ids=["guarded", "unguarded"])
@pytest.mark.parametrize("cap", [2e-3, 1e-4, 1e-6])
def test_a_cap_bounds_the_level_and_the_rate_falls_from_there(tmp_path: Path, cap: float, guards: bool) -> None:
    """A policy that wants the highest level, always. The lowest cap lies below the probe's first level."""
    greedy = Bundle(write_bundle(tmp_path / "policy.onnx", bias=3.0))
    training = Training(greedy, max_lr=cap, guards=guards)
    rates, first = training.train(N), training.scheduler.history[0].step
    levels = [decision.level for decision in training.scheduler.history]
    # The climb ends where it gets to the cap.
    assert max(rates) == max(rates[:first]) == cap and (first < 16) == (cap < 1.0)
    highest = math.log10(cap) + 3.0
    assert max(levels) <= highest and levels[-1] == pytest.approx(highest)
    falls = [cap * greedy.protocol.action.envelope(step, N) for step in range(N)]
    assert rates[-20:] == pytest.approx(falls[-20:]) and rates[-1] < 0.01 * cap


@pytest.mark.parametrize("guards", [True, False], ids=["guarded", "unguarded"])
def test_a_floor_bounds_the_level_and_every_rate(tmp_path: Path, guards: bool) -> None:
    """A policy that wants the lowest level, always."""
    shy = Bundle(write_bundle(tmp_path / "policy.onnx", bias=-3.0))
    training = Training(shy, min_lr=1e-3, guards=guards)
    rates, first = training.train(N), training.scheduler.history[0].step
    assert {decision.level for decision in training.scheduler.history[1:]} == {0.0}
    assert min(rates) == 1e-3 and rates[-20:] == [1e-3] * 20 and len(rates) > first


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [("SGD", "sgd"), ("Adam", "adam"), ("AdamW", "adamw"), ("RMSprop", "adam"), ("NAdam", "adam")],
)
def test_optimizer_kinds(optimizer: str, kind: str) -> None:
    made = getattr(torch.optim, optimizer)([nn.Parameter(torch.ones(1))], lr=0.1)
    assert kind_of(made) == kind
