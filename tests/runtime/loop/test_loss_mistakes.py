"""Numbers that are passed in the place of a loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrpilot.policy_file.bundle import Bundle
from user_training import Training

STEPS = 200
Report = Callable[[int, torch.Tensor], Any]  # (step, loss) -> what is passed to `step`


def accuracy(step: int, loss: torch.Tensor) -> float:
    """Of a batch of 64, which rises from a tenth to nine tenths, with noise."""
    right = 6 + 52 * min(1.0, step / STEPS) + 3 * ((step * 7919) % 5 - 2)
    return max(0.0, min(64.0, round(right))) / 64


CASES: dict[str, tuple[Report, dict[str, Any], str | None]] = {
    "an epoch": (lambda step, loss: step, {"probe": False}, "step(0) got an int, as the number of an epoch is"),
    "an epoch, probed": (lambda step, loss: step, {}, "step(0) got an int, as the number of an epoch is"),
    "an accuracy": (accuracy, {"probe": False}, "fractions from 0 to 1, as accuracies are"),
    "an accuracy, probed": (accuracy, {}, "fractions from 0 to 1, as accuracies are"),
    "a tensor": (lambda step, loss: torch.tensor(accuracy(step, loss)), {}, "as accuracies are"),
    "a percentage": (lambda step, loss: 100 * accuracy(step, loss), {}, "as accuracies are"),
    "an error rate": (lambda step, loss: 1 - accuracy(step, loss), {}, None),
    "a loss": (lambda step, loss: loss, {}, None),
    "its number": (lambda step, loss: loss.item(), {}, None),
    "a loss that rises": (lambda step, loss: loss.item() * 0.1 + 0.4 * step / STEPS, {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_loss_is_noticed_once(case: str, policy: Bundle) -> None:
    report, options, message = CASES[case]
    training = Training(policy, total_steps=STEPS, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(STEPS):
            training.scheduler.step(report(step, training.update()))
    texts = [str(w.message) for w in caught if str(w.message).startswith("PilotLR")]
    texts = [text for text in texts if "so the probe is left out" not in text]
    assert [message in text for text in texts] == ([] if message is None else [True])
