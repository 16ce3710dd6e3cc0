"""Which parameters PilotLR follows and puts back: frozen, tied, unfrozen, added; and whose policy drove them."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import N, Training, drawn_policy


def followed(scheduler: PilotLR) -> int:
    """How many weights the last window looked at, all of them in nets as small as these."""
    return len(scheduler.state_dict()["meter"]["sketch"]["displacement"])


class Tied(nn.Module):
    """An embedding that is its own head, beside a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.frozen, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.head(self.frozen(self.embedding(tokens))), (tokens + 1) % 7)


@pytest.mark.parametrize("given", ["all", "trainable"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse gradients"])
def test_tied_and_frozen_parameters(policy: Bundle, given: str, sparse: bool) -> None:
    """Tied weights stay one, whether or not the optimizer holds the frozen layer as well."""
    torch.manual_seed(0)
    model = Tied()
    if sparse:
        model.embedding.sparse, model.head.weight = True, nn.Parameter(torch.randn(7, 4))
    params = [p for p in model.parameters() if given == "all" or p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scheduler = PilotLR(optimizer, N, policy, model=model)
    for step in range(N):
        loss = model(torch.arange(5) + step % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        if scheduler.history and scheduler.last_epoch == scheduler.history[0].step:
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.head.weight is model.embedding.weight) != sparse
    assert torch.equal(model.frozen.weight, before["frozen.weight"])
    assert not torch.equal(model.embedding.weight, before["embedding.weight"])
    count = sum({id(p): p.numel() for p in params if p.requires_grad}.values())
    assert followed(scheduler) == count


class Growing:
    """One parameter, and another in a group of its own with a third of the rate from step `at` on."""

    def __init__(self, policy: Bundle, at: int) -> None:
        double = torch.float64  # whose small steps are steps
        self.first = nn.Parameter(torch.ones(3, dtype=double))
        self.second = nn.Parameter(torch.full((2,), 5.0, dtype=double))
        self.optimizer = torch.optim.Adam([self.first], lr=0.3)
        self.scheduler = PilotLR(self.optimizer, 200, policy)
        self.at, self.rates = at, list[list[float]]()

    def grow(self) -> None:
        self.optimizer.add_param_group({"params": [self.second], "lr": 0.1})

    def train(self, until: int) -> None:
        while (step := len(self.rates)) < until:
            if step == self.at:
                self.grow()
            loss = (self.first - step % 3).square().sum() + (self.second - 4).square().sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.rates.append([group["lr"] for group in self.optimizer.param_groups])
            self.scheduler.step(loss)


@pytest.mark.parametrize("at", [0, 5, 61])
def test_added_groups_get_their_share_and_are_followed(policy: Bundle, at: int) -> None:
    loop = Growing(policy, at)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.train(200)
    late = np.array(loop.rates[at + 1 :])
    np.testing.assert_allclose(late[:, 1], late[:, 0] / 3)
    assert (loop.second < 5.0).all()
    whole = torch.cat([loop.first, loop.second]).norm().item()
    assert loop.scheduler.history[-1].telemetry["weight_norm"] == pytest.approx(whole, rel=0.2)  # 3 rows were 2 alone


@pytest.mark.parametrize("kill", [7, 62, 63, 64, 65, 66, 100])
@pytest.mark.parametrize("at", [5, 61])
def test_a_training_with_added_groups_resumes_bit_for_bit(policy: Bundle, at: int, kill: int) -> None:
    """Killed in a window that opened before the group was there, too."""
    whole, first, second = (Growing(policy, at) for _ in range(3))
    whole.train(200)
    first.train(kill)
    if at < kill:
        second.grow()
    with torch.no_grad():
        for mine, theirs in ((second.first, first.first), (second.second, first.second)):
            mine.copy_(theirs)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.scheduler.load_state_dict(first.scheduler.state_dict())
    second.rates = list(first.rates)
    second.train(200)
    assert second.rates == whole.rates
    np.testing.assert_equal(second.scheduler.history.state(), whole.scheduler.history.state())


def test_unfrozen_parameters_are_followed(policy: Bundle) -> None:
    training = Training(policy)
    first = next(training.model.parameters())
    first.requires_grad_(False)
    training = _again(training, policy)
    training.train(40)
    first.requires_grad_(True)
    training.train(N)
    count = sum(p.numel() for p in training.model.parameters())
    assert followed(training.scheduler) == count
    assert training.scheduler.last_epoch == N


def _again(training: Training, policy: Bundle) -> Training:
    """The same training with a new scheduler."""
    training.scheduler = PilotLR(training.optimizer, N, policy, model=training.model)
    return training


def test_another_policy_on_resume_is_told(policy: Bundle, tmp_path: Any) -> None:
    first = Training(policy)
    first.train(30)
    second = Training(drawn_policy(tmp_path / "other.onnx", seed=1))
    with pytest.warns(UserWarning, match="driven by another policy file; this one takes over"):
        second.resume(first.saved(), 30)
    second.train(N)
    assert second.scheduler.last_epoch == N
    with pytest.raises(ValueError, match="another policy file"):
        Training(drawn_policy(tmp_path / "other.onnx", seed=1), strict=True).resume(first.saved(), 30)
