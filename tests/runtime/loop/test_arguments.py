"""What a newcomer may pass by mistake: the error names the argument, its value and what to pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import lrpilot
from lrpilot.policy_file.bundle import Bundle, BundleError
from lrpilot.torch import PilotLR
from user_training import Training

MODEL = nn.Linear(1, 1)


def adam() -> torch.optim.Optimizer:
    return torch.optim.Adam([nn.Parameter(torch.ones(3))])


ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": "x"}, TypeError, "model: 'x', want a torch.nn.Module"),
    ({"model": MODEL.parameters()}, TypeError, "model: generator, want a torch.nn.Module"),
    ({"policy": None}, TypeError, "policy: None, want 'default', the path of a policy.onnx, models:/name@alias"),
    ({"policy": 3}, TypeError, "policy: 3, want 'default'"),
    ({"log": "csv"}, TypeError, r"log: 'csv', want a callable log\(metrics, step\), such as lrpilot.integrations"),
    ({"log": True}, TypeError, "log: True, want a callable"),
    ({"min_lr": "1e-3"}, TypeError, "min_lr: '1e-3', want a learning rate or None"),
    ({"max_lr": [1e-3]}, TypeError, "max_lr: list, want a learning rate or None"),
    ({"max_lr": True}, TypeError, "max_lr: True, want a learning rate or None"),
    ({"max_lr": math.nan}, ValueError, "min_lr, max_lr: None, nan, want 0 <= min_lr <= max_lr"),
    ({"max_lr": 0}, ValueError, "max_lr: 0, want a learning rate above 0"),
    ({"min_lr": math.inf}, ValueError, "min_lr, max_lr: inf, None, want 0 <= min_lr"),
    ({"probe": "no"}, TypeError, "probe: 'no', want True or False"),
    ({"guards": "off"}, TypeError, "guards: 'off', want True or False"),
    ({"strict": None}, TypeError, "strict: None, want True or False"),
    ({"guess": np.array([1e-3, 2e-3])}, TypeError, "guess: ndarray, want a learning rate, 'optimizer', or None"),
    ({"last_epoch": 4}, ValueError, r"last_epoch: 4, want -1, a new training; .* call load_state_dict\(\)"),
    ({"last_epoch": None}, ValueError, "last_epoch: None, want -1"),
    ({"total_steps": [1]}, TypeError, "total_steps: list, want an int, the number of optimizer steps"),
    ({"optimizer": MODEL.parameters()}, TypeError, "optimizer: generator, want .* such as torch.optim.AdamW"),
    ({"optimizer": lr_scheduler.ConstantLR(adam())}, TypeError, "optimizer: ConstantLR, want the optimizer itself"),
]

CALLS: list[tuple[Callable[[PilotLR], Any], type[Exception], str]] = [
    (lambda s: s.step("x"), TypeError, "loss: 'x', want a number or a 0-d tensor"),
    (lambda s: s.step({"loss": 1.0}), TypeError, "loss: dict, want a number or a 0-d tensor"),
    (lambda s: s.step(torch.ones(3)), ValueError, r"loss: a tensor of shape \(3,\), want one number, such as its mean"),
    (lambda s: s.step(1.0, metrics={"val": 1.0}), TypeError, "metrics: dict, want a number or a 0-d tensor"),
    (lambda s: s.observe("x"), TypeError, "val_loss: 'x', want a number"),
    (lambda s: s.observe(grad_norm=torch.ones(2)), ValueError, r"grad_norm: a tensor of shape \(2,\), want one number"),
    (lambda s: s.watch("x"), TypeError, "module: 'x', want a torch.nn.Module"),
    (lambda s: s.set_data_size("x", 3), TypeError, "steps_per_epoch: 'x', want a number"),
    (lambda s: s.set_data_size(0, None), ValueError, "steps_per_epoch: 0, want a number above 0"),
    (lambda s: s.set_data_size(5, 0), ValueError, "examples: 0, want at least 1"),
    (lambda s: s.extend(1.5), TypeError, "total_steps: 1.5, want an int"),
    (lambda s: s.load_state_dict("x"), TypeError, r"state_dict: 'x', want what state_dict\(\) returned; torch.load"),
    (lambda s: s.load_state_dict({}), ValueError, r"of another scheduler \(entries none\), want that of a PilotLR"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), ARGUMENTS, ids=lambda value: str(value)[:30])
def test_an_argument_that_cannot_be(change: dict[str, Any], error: type, message: str, policy: Bundle) -> None:
    with pytest.raises(error, match=message):
        PilotLR(**{"optimizer": adam(), "total_steps": 100, "policy": policy} | change)


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=[message[:20] for _, _, message in CALLS])
def test_a_call_that_cannot_be(call: Callable[[PilotLR], Any], error: type, message: str, policy: Bundle) -> None:
    scheduler = PilotLR(adam(), 100, policy)
    with pytest.raises(error, match=message):
        call(scheduler)


def test_values_of_numpy_and_tensors_of_one_number_will_do(policy: Bundle) -> None:
    scheduler = PilotLR(
        adam(), np.int64(100), policy, probe=np.bool_(True), max_lr=np.float32(1), guess=np.float64(1e-3), last_epoch=-1
    )  # fmt: skip
    scheduler.optimizer.step()
    scheduler.observe(torch.ones(1), np.float32(1.0))
    scheduler.step(torch.ones(1, 1), metrics=np.float32(1.0))
    assert scheduler.last_epoch == 1 and scheduler.planned_steps == 100


def test_a_folder_is_no_policy(tmp_path: Any) -> None:
    with pytest.raises(BundleError, match="a folder; give the path"):
        lrpilot.load_policy(tmp_path)


# What skorch's callback LRScheduler does with a scheduler


def test_a_callback_that_passes_last_epoch_and_no_loss(policy: Bundle) -> None:
    """It builds the scheduler as policy(net.optimizer_, last_epoch=len(net.history) - 1, **kwargs), reads
    `get_last_lr()[0]`, and calls `step()` without a loss; the net calls its criterion inside the optimizer's closure.
    """
    plain = Training(policy)
    net = Training(policy)
    history: list[float] = []
    criterion = nn.MSELoss()
    scheduler = PilotLR(net.optimizer, last_epoch=len(history) - 1, total_steps=80, policy=policy, model=net.model)
    scheduler.watch(criterion)
    for step in range(80):
        at = 16 * (step % 4)

        def closure(at: int = at) -> torch.Tensor:
            net.optimizer.zero_grad()
            loss = criterion(net.model(net.x[at : at + 16]), net.y[at : at + 16])
            loss.backward()
            return loss

        net.optimizer.step(closure)
        history.append(float(scheduler.get_last_lr()[0]))
        scheduler.step()
    assert history == plain.train(80) and len(set(history)) > 40
    with pytest.raises(ValueError, match="last_epoch: 79, want -1"):
        PilotLR(net.optimizer, last_epoch=len(history) - 1, total_steps=80, policy=policy)


# The order of `optimizer.step()` and `scheduler.step(loss)`


class Reports:
    """A loop whose optimizer step accumulates `parts` batches; `order` is what is done with each of them, in turn.

    b: backward pass; s: scheduler.step(loss); o: optimizer.step(), with the last part alone.
    """

    def __init__(self, policy: Bundle, order: str, parts: int, **options: Any) -> None:
        self.training, self.order, self.parts = Training(policy, **options), order, parts

    def step(self, skipped: bool = False) -> None:
        training = self.training
        training.optimizer.zero_grad()
        for part in range(self.parts):
            loss = training.loss()
            for deed in self.order:
                if deed == "b":
                    loss.backward()
                elif deed == "s":
                    training.scheduler.step(loss)
                elif part == self.parts - 1 and not skipped:
                    training.optimizer.step()
                    training.rates.append(0.0)


def order_warnings(recorded: pytest.WarningsRecorder) -> list[str]:
    return [str(w.message) for w in recorded if "came before optimizer.step()" in str(w.message)]


@pytest.mark.parametrize("options", [{}, {"probe": False}, {"accumulate": 2, "total_steps": None, "epochs": 1}])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("order", "early"), [("bos", False), ("bso", True), ("sbo", True)])
def test_a_report_before_the_optimizer_step_is_warned_of_once(
    order: str, early: bool, parts: int, options: dict[str, Any], policy: Bundle, recwarn: pytest.WarningsRecorder
) -> None:
    data = {"data": [0] * 160} if "accumulate" in options else {}
    loop = Reports(policy, order, parts, **options, **data)
    for _ in range(5):  # a report before the backward pass meets weights that the end of the probe changes
        loop.step()
    assert order_warnings(recwarn) == early * [
        "PilotLR: step(loss) came before optimizer.step(); call optimizer.step() first, then scheduler.step(loss)"
    ]


def test_steps_that_a_scaler_skips_are_no_wrong_order(policy: Bundle, recwarn: pytest.WarningsRecorder) -> None:
    loop = Reports(policy, "bos", 1)
    for step in range(10):
        loop.step(skipped=step < 3)
    assert loop.training.scheduler.last_epoch == 7 and order_warnings(recwarn) == []


def test_the_order_is_an_error_where_warnings_are(policy: Bundle) -> None:
    with pytest.raises(ValueError, match=r"step\(loss\) came before optimizer.step\(\)"):
        Reports(policy, "bso", 1, strict=True).step()
