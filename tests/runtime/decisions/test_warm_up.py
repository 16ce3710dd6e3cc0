"""The warm-up: factors by hand, and how a pilot's rates rise after its probe, after a restart and across a save."""

from typing import Any

import numpy as np
import pytest

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.protocol import Protocol
from lrpilot.decisions.safety import Situation
from lrpilot.decisions.warm_up import WarmUp
from lrpilot.pilot import Pilot

N = 200


def pilot(runs: int = 1, share: float = 0.1, probed: bool = False, **options: Any) -> Pilot:
    protocol = Protocol(action=ActionEquation(warm_up=share))
    return Pilot(protocol, N, "adam", runs=runs, probed=probed, logs=False, **options)


def hold(observation: np.ndarray) -> np.ndarray:
    return np.zeros(len(observation))


@pytest.mark.parametrize(
    ("share", "begin", "steps", "factors"),
    [
        (0.04, 0, (0, 1, 3, 4, 99), [1 / 8, 3 / 8, 7 / 8, 1, 1]),
        (0.04, 10, (10, 11, 13, 14), [1 / 8, 3 / 8, 7 / 8, 1]),
        (0.025, 0, (0, 1, 2, 3), [1 / 5, 3 / 5, 1, 1]),  # two and a half steps
        (0.001, 0, (0, 1), [1, 1]),  # less than one
        (0.0, 0, (0, 1), [1, 1]),
        (0.0, 10, (10, 11), [1, 1]),
    ],
)
def test_factors_by_hand(share: float, begin: int, steps: tuple[int, ...], factors: list[float]) -> None:
    warm_up = WarmUp(1, share, 100)
    if begin:
        warm_up.start(np.ones(1, bool), begin, 100)
    np.testing.assert_allclose([warm_up.factor(step) for step in steps], factors)
    np.testing.assert_array_equal(
        [np.broadcast_to(warm_up.factors(step), 1)[0] for step in steps], [warm_up.factor(step) for step in steps]
    )


def test_only_the_runs_that_are_named_warm_up_again() -> None:
    warm_up = WarmUp(3, 0.1, 40)
    warm_up.start(np.array([False, True, False]), 8, 40)
    np.testing.assert_allclose(warm_up.factors(9), [1, 3 / 8, 1])
    assert warm_up.factors(12) == 1.0


def test_a_share_of_the_steps_after_the_warm_up_by_hand() -> None:
    """A warm-up of 20 steps; one run warms up again late, and one so late that its warm-up outlasts the training."""
    warm_up, none = WarmUp(3, 0.1, N), np.zeros(3)
    for begin, which in ((150, [False, True, False]), (195, [False, False, True])):
        warm_up.start(np.array(which), begin, N)
    at = Situation(199, N, none, none, none, warm_up, none[None], None)
    assert at.steps(0.15).tolist() == pytest.approx([47.0, 174.5, 212.75])


@pytest.mark.parametrize("probed", [False, True])
def test_a_pilot_warms_up_from_the_end_of_its_probe(probed: bool) -> None:
    mine, rates = pilot(probed=probed), []
    while mine.in_probe:
        mine.advance_probe(1.0, 1.0)
    mine.decide(hold)
    begin, level = mine.step, 10.0 ** (mine.reference + mine.level[0])
    for _ in range(25):
        rates.append(mine.learning_rate())
        assert mine.learning_rates()[0] == rates[-1]
        mine.advance()
    assert (begin > 0) == probed
    np.testing.assert_allclose(rates[:20], level * (np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(rates[20:], level)
    assert mine.history[0].lr == level  # what the decision is about


def test_limits_hold_in_a_warm_up() -> None:
    """The lower one is a floor of the rate, the upper one what it rises to."""
    mine = pilot(min_lr=1e-5, max_lr=2e-5)
    mine.decide(hold)
    for step, rate in ((0, 1e-5), (9, 1e-5), (10, 1.05e-5), (19, 1.95e-5), (20, 2e-5)):
        mine.step = step
        assert mine.learning_rate() == pytest.approx(rate) == mine.learning_rates()[0]


def test_a_longer_training_does_not_warm_up_again() -> None:
    mine = pilot()
    mine.decide(hold)
    mine.step = 15
    before = mine.learning_rate()
    mine.extend(10 * N)
    assert mine.learning_rate() == before
    mine.step = 25
    assert mine.learning_rate() == 10.0 ** (mine.reference + mine.level[0])


@pytest.mark.parametrize("at", [3, 30])
def test_a_saved_pilot_goes_on_warming_up(at: int) -> None:
    first, second = pilot(runs=2), pilot(runs=2)
    first.decide(hold)
    first.step = at
    second.load_state_dict(first.state_dict())
    for step in (at, at + 1, at + 30):
        first.step = second.step = step
        np.testing.assert_array_equal(second.learning_rates(), first.learning_rates())
        assert second.learning_rate() == first.learning_rate()
