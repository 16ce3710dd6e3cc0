"""PilotLR as a loop sees it: short trainings, validation, strictness, and arguments that are refused."""

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from bundles import write_bundle
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.guard import GuardError
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import N, Training


@pytest.mark.parametrize("total_steps", [1, 2, 3, 15, 63])
def test_short_trainings_and_what_lies_beyond(policy: Bundle, total_steps: int) -> None:
    training = Training(policy, total_steps=total_steps)
    assert not training.scheduler.probing and training.scheduler.planned_steps == total_steps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = training.train(total_steps)
    assert all(math.isfinite(r) and r > 0 for r in rates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.train(total_steps + 5)
    assert ["more than total_steps" in str(w.message) for w in caught] == [True]
    assert set(training.rates[total_steps:]) == {training.rates[total_steps - 1]}


@pytest.mark.parametrize("probe", [True, False], ids=["probed", "unprobed"])
def test_validation_before_training_reaches_the_first_decision(policy: Bundle, probe: bool) -> None:
    training = Training(policy, probe=probe)
    assert training.scheduler.probing == probe
    training.scheduler.observe(val_loss=torch.tensor(1.5))
    training.train(20)
    assert [d.observation["has_val"] for d in training.scheduler.history[:2]] == [1.0, 1.0]
    assert training.scheduler.history[0].step == (16 if probe else 0) and not training.scheduler.probing


def test_guarded_by_default_and_strict_on_request(policy: Bundle, tmp_path: Path) -> None:
    broken = Bundle(write_bundle(tmp_path / "policy.onnx", bias=math.nan))
    training = Training(broken)
    with pytest.warns(UserWarning, match="action_nonfinite: the built-in schedule takes the policy's place"):
        training.train(N)
    assert training.scheduler.history[0].event == "action_nonfinite"
    with pytest.raises(GuardError, match="step 16: action_nonfinite"):
        Training(broken, strict=True).train(N)
    holds = Bundle(write_bundle(tmp_path / "holds.onnx"))
    strict = Training(holds, strict=True)
    strict.train(20)
    strict.y *= math.nan
    with pytest.raises(GuardError, match="collapsed"):
        strict.train(30)
    silent = Training(policy, strict=True)
    silent.update()
    with pytest.raises(ValueError, match="got no loss"):
        silent.scheduler.step()
    done = Training(holds, strict=True, total_steps=5)
    done.train(5)
    with pytest.raises(ValueError, match="more than total_steps=5"):
        done.train(6)


def test_a_loss_that_is_not_finite_cuts_the_rate(tmp_path: Path) -> None:
    """Of a policy that never raises the level: else the rise is undone."""
    training = Training(Bundle(write_bundle(tmp_path / "policy.onnx")))
    training.train(30)
    level = training.scheduler.history[-1].level
    training.y *= math.nan
    training.train(60)
    events = [d for d in training.scheduler.history if d.event == "loss_nonfinite"]
    equation, anchor = ActionEquation(), float(training.scheduler.pilot.anchor[0])
    lowest = max(equation.low, anchor - equation.span)
    assert len(events) > 1 and events[0].level == pytest.approx(max(level - equation.fall, lowest))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"total_steps": 0}, ValueError, "total_steps: 0"),
        ({"total_steps": 12.5}, TypeError, r"total_steps: 12\.5, want an int"),
        ({"min_lr": 0.1, "max_lr": 0.01}, ValueError, r"min_lr, max_lr: 0\.1, 0\.01, want"),
        ({"min_lr": -1.0}, ValueError, "min_lr, max_lr"),
        ({"optimizer": nn.Linear(1, 1)}, TypeError, "optimizer: Linear, want a torch.optim.Optimizer"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(2)], lr=1.0)},
            ValueError,
            "optimizer: no parameter requires a gradient",
        ),
    ],
)
def test_impossible_arguments(policy: Bundle, change: dict, error: type[Exception], message: str) -> None:
    usual = {"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), "total_steps": 10}
    with pytest.raises(error, match=message):
        PilotLR(**(usual | change), policy=policy)
