"""The way of a loss: reports and observations of a step, the step's loss, the interval's losses."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lrpilot.loop.losses import MICRO_BATCHES, LossBuffer, inside
from lrpilot.policy_file.bundle import Bundle
from user_training import N, Training

WINDOW = torch.tensor([7.0, 8.0])


@pytest.mark.parametrize(
    ("reported", "observed", "loss"),
    [
        ([2.0], [], 2.0),
        ([], [3.0], 3.0),
        ([2.0], [3.0], 2.0),  # what is reported goes before
        ([1.0, 2.0, 6.0], [9.0], 3.0),
        ([1.0, math.nan, 3.0, math.inf], [], 2.0),  # of the finite ones
        ([math.nan, math.inf], [], math.nan),
        ([math.inf], [], math.inf),
        ([], [], None),
        ([torch.tensor(2.0)], [], 2.0),
        ([torch.tensor([2.0]), 4], [], 3.0),
        ([1.0] * 10 + [3.0] * MICRO_BATCHES, [], 3.0),
    ],
)
def test_the_losses_of_a_step_become_one(reported: list[Any], observed: list[Any], loss: float | None) -> None:
    buffer = LossBuffer()
    for value in observed:
        buffer.observe(value, wanted=True)
    for value in reported:
        buffer.report(value, wanted=True, again=False)
    assert buffer.has_loss == (loss is not None)
    buffer.end_step(wanted=True)
    assert not buffer.has_loss and buffer.take() is None
    losses, numbers = buffer.close(WINDOW)
    np.testing.assert_equal(losses, [] if loss is None else [loss])
    assert numbers == [7.0, 8.0] and buffer.close(WINDOW) == ([], [7.0, 8.0])


def test_what_is_not_wanted_is_heard_and_not_stored() -> None:
    buffer = LossBuffer()
    buffer.report(1.0, wanted=False, again=False)
    assert buffer.has_loss and buffer.latest is None
    buffer.end_step(wanted=True)
    buffer.report(2.0, wanted=True, again=False)
    buffer.end_step(wanted=False)
    assert buffer.close(WINDOW)[0] == []


def test_the_same_object_counts_once_per_optimizer_step() -> None:
    """Accelerate steps a scheduler once per process, with the same loss."""
    buffer, loss = LossBuffer(), torch.tensor(1.0)
    buffer.report(loss, wanted=True, again=False)
    buffer.end_step(wanted=True)
    buffer.report(loss, wanted=True, again=True)
    assert not buffer.has_loss
    buffer.report(loss.clone(), wanted=True, again=True)
    buffer.end_step(wanted=True)
    assert buffer.close(WINDOW)[0] == [1.0, 1.0]


def test_a_saved_buffer_goes_on() -> None:
    first, second = LossBuffer(), LossBuffer()
    first.report(torch.tensor(5.0), wanted=True, again=False)
    first.end_step(wanted=True)
    first.observe(9.0, wanted=True)
    first.report(1.0, wanted=True, again=False)
    second.load_state_dict(first.state_dict())
    for buffer in (first, second):
        buffer.report(2.0, wanted=True, again=False)
        buffer.end_step(wanted=True)
    assert first.close(WINDOW) == second.close(WINDOW) == ([5.0, 1.5], [7.0, 8.0])


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (torch.tensor(2.0), 2.0),
        (torch.tensor([2.0]), 2.0),
        ({"loss": torch.tensor(2.0)}, 2.0),
        (SimpleNamespace(loss=torch.tensor(2.0)), 2.0),
        (torch.ones(2), None),
        ({"loss": torch.ones(2)}, None),
        ({"logits": torch.ones(1)}, None),
        (None, None),
    ],
)
def test_the_loss_inside_an_output(output: Any, loss: float | None) -> None:
    value = inside(output)
    assert (None if value is None else value.item()) == loss


def test_losses_of_every_kind_are_the_same_loss(policy: Bundle) -> None:
    kinds: list[Callable[[Tensor], Any]] = [
        lambda t: t,
        lambda t: t.item(),
        lambda t: np.float32(t.item()),
        lambda t: t.detach()[None],
    ]
    curves = []
    for kind in kinds:
        training = Training(policy)
        for _ in range(N):
            training.scheduler.step(kind(training.update()))
        curves.append(training.rates)
    assert all(curve == curves[0] for curve in curves)
