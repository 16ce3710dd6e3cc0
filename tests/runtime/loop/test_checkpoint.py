"""Checkpoints of PilotLR: resumed at any moment it goes on bit for bit, and a foreign state is refused."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bundles import write_bundle
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import MAKES, N, Training, adam


class MicroBatches(Training):
    """Two reports per optimizer step: one before it is made, one afterwards."""

    def report_early(self) -> None:
        self.scheduler.step(self.loss() / 2)

    def train(self, until: int) -> list[float]:
        while len(self.rates) < until:
            self.report_early()
            self.scheduler.step(self.update())
        return self.rates


def assert_same(mine: Training, theirs: Training) -> None:
    torch.testing.assert_close(mine.everything(), theirs.everything(), rtol=0, atol=0)
    histories = ([asdict(d) for d in training.scheduler.history] for training in (mine, theirs))
    np.testing.assert_equal(*histories)  # takes nan for equal


@pytest.mark.parametrize("probe", [True, False], ids=["probed", "unprobed"])
@pytest.mark.parametrize("optimizer", MAKES)
def test_resume_equals_never_stopping(policy: Bundle, optimizer: str, probe: bool) -> None:
    whole = Training(policy, MAKES[optimizer], probe=probe)
    expected = whole.train(N)
    assert len(whole.scheduler.history) > 5

    @settings(max_examples=25, deadline=None)
    @given(kill=st.integers(0, N - 1), between=st.booleans())
    def resumes(kill: int, between: bool) -> None:
        first, second = (Training(policy, MAKES[optimizer], probe=probe) for _ in range(2))
        first.train(kill)
        loss = first.update() if between else None  # killed between optimizer.step() and scheduler.step()
        second.resume(first.saved(), kill + between)
        if between:
            second.scheduler.step(loss)
        second.train(N)
        assert (first.rates + second.rates[kill + between :]) == expected
        assert_same(second, whole)

    resumes()


@settings(max_examples=25, deadline=None)
@given(kill=st.integers(0, N - 1), stepped=st.booleans())
def test_resume_between_micro_batches_equals_never_stopping(policy: Bundle, kill: int, stepped: bool) -> None:
    """Killed after the early report, before the optimizer's step or after it."""
    whole, first, second = (MicroBatches(policy, adam) for _ in range(3))
    expected = whole.train(N)
    first.train(kill)
    first.report_early()
    loss = first.update() if stepped else None
    second.resume(first.saved(), kill + stepped)
    second.scheduler.step(second.update() if loss is None else loss)
    second.train(N)
    assert second.rates[kill + stepped :] == expected[kill + stepped :]
    assert_same(second, whole)


def test_state_is_plain_and_small_after_the_probe(tmp_path: Path) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(plain, value)) and all(map(plain, value.values()))
        return all(map(plain, value)) if isinstance(value, list) else type(value) in (int, float, str, bool, type(None))

    holds = Bundle(write_bundle(tmp_path / "policy.onnx"))  # after a rise there would be a copy of the weights
    training = Training(holds)
    training.train(50)
    assert plain(training.scheduler.state_dict())


@pytest.mark.parametrize(
    ("groups", "optimizer", "message"),
    [
        (2, "adam", "param_groups: the saved state has 1, the optimizer 2"),
        (1, "sgd", "optimizer: the saved state has 'adam', this one 'sgd'"),
    ],
)
def test_a_foreign_state_is_refused(policy: Bundle, groups: int, optimizer: str, message: str) -> None:
    state = Training(policy).scheduler.state_dict()
    params = [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(groups)]
    scheduler = PilotLR(MAKES[optimizer](params), N, policy)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state)


@pytest.mark.parametrize("total_steps", [50, 120], ids=["shorter", "longer"])
def test_a_state_of_another_length_is_extended(policy: Bundle, total_steps: int) -> None:
    first, extended, second = Training(policy), Training(policy), Training(policy, total_steps=total_steps)
    first.train(40)
    with pytest.warns(UserWarning, match=f"the saved training had 80, this one has {total_steps}"):
        second.resume(first.saved(), 40)
    extended.train(40)
    extended.scheduler.extend(total_steps)
    assert second.scheduler.planned_steps == total_steps
    assert second.train(total_steps)[40:] == extended.train(total_steps)[40:]
    too_short = Training(policy, total_steps=30)
    with (
        pytest.warns(UserWarning, match="had 80"),
        pytest.raises(ValueError, match="total_steps: 30, want more than 40"),
    ):
        too_short.resume(first.saved(), 40)


def test_a_state_that_was_extended_says_how_long_the_training_is(policy: Bundle) -> None:
    first, second = Training(policy), Training(policy)
    first.train(40)
    first.scheduler.extend(120)
    second.resume(first.saved(), 40)
    assert second.scheduler.planned_steps == 120
    assert second.train(120)[40:] == first.train(120)[40:]
    assert not math.isnan(second.rates[-1])
