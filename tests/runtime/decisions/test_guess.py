"""A first guess counts for what it is worth: the rule by hand, whatever the numbers, and in a training."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bundles import write_bundle
from lrpilot.decisions.actions import reference
from lrpilot.decisions.guess import RANGE, GuessSpec
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import Training

SPEC = GuessSpec(named=0.6, calm=0.8, guessed=0.8, wrong=0.25)
NONE = math.nan


@pytest.mark.parametrize(
    ("level", "guess", "blown", "want"),
    [
        (0.5, NONE, True, 0.5),
        (0.5, 0.5, True, 0.5),
        # v = .36 + .64 = 1; N(1; 0, 1) = .2419707; r = .1814780 / (.1814780 + .25 / 6); .36 r = .2927798
        (0.0, 1.0, True, 0.29278),
        (0.0, -1.0, True, -0.29278),
        (2.0, 3.0, True, 2.29278),
        # v = .64 + .64 = 1.28; N(1; 0, v) = .2385932; r = .1789449 / (.1789449 + .0416667); .5 r = .4055654
        (0.0, 1.0, False, 0.40557),
    ],
)
def test_the_rule_by_hand(level: float, guess: float, blown: bool, want: float) -> None:
    assert RANGE == 6.0
    assert SPEC.combined(*map(np.array, ([level], [guess], [blown]))) == pytest.approx([want], abs=1e-5)


@given(st.floats(-4, 3), st.floats(-9, 9), st.booleans())
def test_what_comes_out_lies_between(level: float, away: float, blown: bool) -> None:
    z, sure = (GuessSpec(guessed=width).combined(*map(np.array, ([level], [level + away], [blown])))[0] - level
               for width in (0.5, 0.1))  # fmt: skip
    assert -1e-9 <= z * np.sign(away) <= abs(away) + 1e-9 and abs(z) < 1.1
    assert abs(away) > 0.5 or abs(z) <= abs(sure) + 1e-9  # a surer guess of a level nearby has more of a say
    assert abs(away) < 6 or abs(z) < 0.01  # one that is decades off has none


def level_of(training: Training) -> float:
    """The level that its first decision sets."""
    training.train(20)
    return training.scheduler.history[0].level


def test_a_guess_moves_the_first_level_towards_itself(policy: Bundle) -> None:
    named = level_of(Training(policy))
    for off in (-0.4, 0.4):
        rate = 10.0 ** (reference("adam") + named + off)
        training = Training(policy, guess=rate)
        pilot, spec = training.scheduler.pilot, policy.protocol.guess
        want = spec.combined(*map(np.array, ([named], [named + off], [True])))[0]
        assert level_of(training) == pytest.approx(want) and pilot.probes.landmarks().blown[0]
        decision = training.scheduler.history[0]
        assert (
            decision.event is None and decision.applied != decision.action
        )  # what the policy answered stays to be read
    assert level_of(Training(policy, guess=1e9)) == pytest.approx(named, abs=1e-6)


def test_the_optimizers_own_rate_can_be_the_guess(policy: Bundle) -> None:
    """It was built with a rate of 0.5; of several groups the largest one's counts."""
    assert level_of(Training(policy, guess="optimizer")) == level_of(Training(policy, guess=0.5))
    small, large = ({"params": [nn.Parameter(torch.ones(n))], "lr": lr} for n, lr in ((2, 1e-5), (9, 1e-3)))
    parts = [PilotLR(torch.optim.Adam([dict(small), dict(large)]), 40, policy, guess=g) for g in ("optimizer", 1e-3)]
    assert parts[0].history[0].level == parts[1].history[0].level != PilotLR(
        torch.optim.Adam([dict(small), dict(large)]), 40, policy
    ).history[0].level  # fmt: skip


def test_a_guess_survives_what_begins_a_training_anew(policy: Bundle) -> None:
    """A validation loss before the first step of a training without a probe takes the first decision again."""
    levels = []
    for guess in (None, 0.01):
        training = Training(policy, probe=False, guess=guess)
        training.scheduler.observe(val_loss=1.0)
        levels.append(level_of(training))
    assert levels[0] != levels[1]


def test_runs_have_guesses_of_their_own() -> None:
    pilot = Pilot(Protocol(), 40, "sgd", runs=3, guess=np.array([NONE, 0.01, 1.0]))
    pilot.decide(lambda observations: np.zeros(3))
    alone = []
    for guess in (None, 0.01, 1.0):
        one = Pilot(Protocol(), 40, "sgd", guess=guess)
        one.decide(lambda observations: np.zeros(1))
        alone.append(one.level[0])
    np.testing.assert_array_equal(pilot.level, alone)
    assert alone[0] == Protocol().action.anchor < alone[2] and alone[1] > alone[0] - 0.1


def test_a_policy_that_fails_is_the_guards_to_answer_for(tmp_path: Any) -> None:
    broken = Bundle(write_bundle(tmp_path / "policy.onnx", bias=math.nan))
    with pytest.warns(UserWarning, match="action_nonfinite"):
        levels = [level_of(Training(broken, guess=guess)) for guess in (None, 1e-3)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize(
    ("guess", "error", "message"),
    [
        (0.0, ValueError, "guess: 0.0, want a learning rate above 0"),
        (-1e-3, ValueError, "guess: -0.001, want"),
        (math.inf, ValueError, "guess: inf, want"),
        (math.nan, ValueError, "guess: nan, want"),
        (True, TypeError, "guess: True, want a learning rate, 'optimizer', or None"),
        ("cosine", TypeError, "guess: 'cosine', want"),
    ],
)
def test_impossible_guesses(policy: Bundle, guess: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Training(policy, guess=guess)


def test_a_rate_of_zero_is_no_guess(policy: Bundle) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.0)
    with pytest.raises(ValueError, match="guess: 'optimizer', but no group's lr is above 0"):
        PilotLR(optimizer, 40, policy, guess="optimizer")
