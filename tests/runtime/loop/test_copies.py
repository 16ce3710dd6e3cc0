"""Copies and pickles of a scheduler, and the states of others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from lrpilot.policy_file.bundle import Bundle
from user_training import N, Training


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("moment", [0, 5, 40])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda trio: pickle.loads(pickle.dumps(trio))])
def test_copies_and_pickles_go_on_alike(
    policy: Bundle, moment: int, probe: bool, duplicate: Callable[[Any], Any]
) -> None:
    """Of the model, the optimizer and the scheduler together; the first one is not disturbed."""
    training = Training(policy, probe=probe, log=print)
    training.train(moment)
    other = copy.copy(training)
    other.rates = list(training.rates)
    other.model, other.optimizer, other.scheduler = duplicate((training.model, training.optimizer, training.scheduler))
    assert other.scheduler.optimizer is other.optimizer and other.scheduler.history == training.scheduler.history
    rates = Training(policy, probe=probe).train(N)
    for each in (other, training):
        assert each.train(N) == rates
    assert other.scheduler.history == training.scheduler.history


OTHERS: list[Callable[[torch.optim.Optimizer], Any]] = [
    lambda o: schedulers.CosineAnnealingLR(o, 10),
    lambda o: schedulers.CosineAnnealingWarmRestarts(o, 10),
    lambda o: schedulers.StepLR(o, 10),
    lambda o: schedulers.MultiStepLR(o, [10]),
    lambda o: schedulers.ExponentialLR(o, 0.9),
    lambda o: schedulers.LambdaLR(o, lambda step: 1.0),
    lambda o: schedulers.OneCycleLR(o, 0.1, 10),
    lambda o: schedulers.LinearLR(o),
    lambda o: schedulers.ConstantLR(o),
    lambda o: schedulers.PolynomialLR(o),
    lambda o: schedulers.ReduceLROnPlateau(o),
    lambda o: schedulers.ChainedScheduler([schedulers.StepLR(o, 10)]),
    lambda o: schedulers.SequentialLR(o, [schedulers.StepLR(o, 10), schedulers.StepLR(o, 5)], [5]),
]


@pytest.mark.parametrize("make", OTHERS)
def test_a_state_of_another_scheduler_is_named(make: Callable[[Any], Any], policy: Bundle) -> None:
    other = make(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9))
    with pytest.raises(ValueError, match=f"state_dict: of .*{type(other).__name__}.*want that of a PilotLR"):
        Training(policy).scheduler.load_state_dict(other.state_dict())


def test_a_state_of_something_else_shows_its_entries(policy: Bundle) -> None:
    with pytest.raises(ValueError, match=r"of another scheduler \(entries a, b\), want that of a PilotLR"):
        Training(policy).scheduler.load_state_dict({"b": 1, "a": 2})
