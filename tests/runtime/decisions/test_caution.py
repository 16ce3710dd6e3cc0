"""What a probe's curve is worth, and the first level that caution makes of it; by hand."""

import json
import math

import numpy as np
import pytest

from lrpilot.decisions.caution import (
    BELOW_EDGE,
    CLEAR,
    LOWEST,
    LUCKY,
    NOISY,
    PRIOR,
    STEADY,
    STRIDE,
    USUAL,
    WINDOW,
    Caution,
    confidence,
)
from lrpilot.probing.evidence import NORMAL

nan, inf = math.nan, math.inf


def falls(by: float) -> list[float]:
    """Thirteen losses around 10, which move by 1, and three about `by` lower; the last is not looked at.

    The start is the median of the first five, 10. The lowest median of three is 10 - by. The scatter is 1 / NORMAL.
    """
    return [10.0, 9.0] * 6 + [10.0] + [10 - by, 9 - by, 10 - by, 99.0]


DEVIATIONS = NORMAL * 3**0.5  # by which the median of three has fallen, for each unit


@pytest.mark.parametrize(
    ("losses", "sure", "noise"),
    [
        ([5.0] * (2 * WINDOW - 1), 0.0, nan),  # too few
        ([], 0.0, nan),
        ([5.0] * 16, 0.0, 0.0),  # nothing fell
        ([0.0] * 16, 0.0, 0.0),
        (falls(4.0), 1.0, 0.1 / NORMAL),  # 5.04 deviations
        (falls(1.25), (1.25 * DEVIATIONS - LUCKY) / (CLEAR - LUCKY), 0.1 / NORMAL),
        ([10.0, 9.0] * 8, (1.0 * DEVIATIONS - LUCKY) / (CLEAR - LUCKY), 0.1 / NORMAL),
        # a loss that falls by one a step: the start is the median of 10, 9 and 8, the lowest that of 4, 3 and 2
        ([10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 1.0, 1 / 9 / NORMAL),
        # a loss that rises by one a step: the lowest median is the start
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 0.0, 1 / 2 / NORMAL),
        # no scatter: whatever falls is clear, but for rounding
        ([5.0] * 8 + [4.999] * 8, 1.0, 0.0),
        ([5.0] * 8 + [5.0 - 1e-12] * 8, 0.0, 0.0),
        # a negative loss
        ([-40.0, -50.0] * 4 + [-60.0, -70.0] * 4, 1.0, 0.25 / NORMAL),
    ],
)
def test_confidence_by_hand(losses: list[float], sure: float, noise: float) -> None:
    with np.errstate(all="raise"):
        assert confidence(np.array(losses)) == pytest.approx((sure, noise, False), nan_ok=True)


@pytest.mark.parametrize(
    ("losses", "unscaled"),
    [
        ([5.0] * 8 + [-1.0] * 8, True),  # of 5 by 6
        ([5.0] * 8 + [0.0] * 8, False),
        ([-4.0, -4.0] * 4 + [-9.0, -9.0] * 4, True),
        ([-4.0, -4.0] * 4 + [-8.0, -8.0] * 4, False),
        ([-1.0] * 8 + [5.0] * 8, False),  # it rose
    ],
)
def test_a_loss_that_falls_by_more_than_its_size_is_unscaled(losses: list[float], unscaled: bool) -> None:
    assert confidence(np.array(losses))[2] == unscaled


def test_long_probes_have_wider_medians() -> None:
    """Of 121 losses the median of ten falls from 9.5 to 9 where three are low, though that of three falls to 5.

    Of the inner 90 moves two are none, and the others 1.
    """
    losses = np.array([10.0, 9.0] * 60 + [0.0])
    losses[50:53] = 5.0
    deviations = 0.5 * 10**0.5 / (88 / 90 / NORMAL)
    assert confidence(losses)[0] == pytest.approx((deviations - LUCKY) / (CLEAR - LUCKY))


HALF_NOISY = PRIOR - NOISY / 2  # the prior where noise is half above the usual
LOW = PRIOR - LOWEST - 0.5


def of(sure: float, noise: float, unscaled: bool = False) -> Caution:
    """The caution of two trainings; the second had no probe."""
    caution = Caution(2)
    caution.confidence[0], caution.noise[0], caution.unscaled[0] = sure, noise, unscaled
    return caution


@pytest.mark.parametrize(
    ("level", "sure", "noise", "near_edge", "first"),
    [
        (PRIOR + 1.0, 1.0, 0.0, inf, PRIOR + 1.0),  # sure
        (PRIOR + 1.0, nan, nan, inf, PRIOR + 1.0),  # no probe
        (PRIOR + 1.0, 0.25, 0.0, inf, PRIOR + 0.25),
        (PRIOR + 1.0, 0.0, 0.0, inf, PRIOR),
        (PRIOR + 1.0, 0.25, USUAL, inf, PRIOR + 0.25),
        (PRIOR + 1.0, 0.25, USUAL + 0.5, inf, HALF_NOISY + 0.25 * (1 + NOISY / 2)),
        (PRIOR + 1.0, 0.0, USUAL + 9.0, inf, PRIOR - NOISY),
        (PRIOR - 0.5, 0.0, 0.0, inf, PRIOR - 0.5),  # lower than the prior
        (PRIOR - 0.2, 0.0, USUAL + 0.5, inf, HALF_NOISY),
        # too near the edge, however sure
        (PRIOR + 1.0, 1.0, 0.0, PRIOR + 0.7, PRIOR + 0.7),
        (PRIOR + 1.0, 0.25, 0.0, PRIOR + 0.1, PRIOR + 0.1),
        (PRIOR + 1.0, 0.25, 0.0, PRIOR + 0.7, PRIOR + 0.25),
        (LOW, 0.0, 0.0, LOW - 1, LOW - 1),
        # neither edge nor confidence says why it is so low
        (LOW, 0.0, 0.0, inf, PRIOR - LOWEST),
        (LOW, 0.75, USUAL + 0.25, inf, PRIOR - NOISY / 4 - LOWEST),
        (LOW, 1.0, 0.0, inf, LOW),
        (LOW, nan, nan, inf, LOW),
        (LOW, 0.0, 0.0, PRIOR, LOW),
    ],
)
def test_first_levels_by_hand(level: float, sure: float, noise: float, near_edge: float, first: float) -> None:
    caution, none = of(sure, noise), np.array([inf, inf])
    levels = caution.first_levels(np.array([level, 3.0]), np.array([near_edge + BELOW_EDGE, inf]), none)
    assert levels.tolist() == pytest.approx([first, 3.0])
    assert caution.near_edge.tolist() == pytest.approx([near_edge, inf])


@pytest.mark.parametrize(
    ("level", "near_edge", "first"),
    [(LOW, PRIOR + 1.0, PRIOR), (PRIOR + 1.0, inf, PRIOR), (LOW, PRIOR - 1.0, PRIOR - 1.0)],
)
def test_an_unscaled_loss_gets_the_prior(level: float, near_edge: float, first: float) -> None:
    """However sure, and whatever its noise: the policy's features are ratios to a size that says nothing."""
    caution, none = of(1.0, USUAL + 0.5, unscaled=True), np.array([inf, inf])
    levels = caution.first_levels(np.array([level, 3.0]), np.array([near_edge + BELOW_EDGE, inf]), none)
    assert levels.tolist() == pytest.approx([first, 3.0])


@pytest.mark.parametrize(
    ("learned", "step", "noise", "highest"),
    [
        (False, 30, STEADY / 2, PRIOR),
        (False, 200, 0.0, PRIOR),
        (False, 29, STEADY / 2, inf),  # soon
        (True, 200, STEADY / 2, inf),
        (False, 200, STEADY, inf),  # it may have, unnoticed
        (False, 200, nan, inf),  # no probe
    ],
)
def test_patience_ends(learned: bool, step: int, noise: float, highest: float) -> None:
    """After 30 steps; the second training had no probe."""
    most = of(1.0, noise).highest_unlearned(step, np.array([30.0, 30.0]), np.array([learned, False]))
    assert most.tolist() == [highest, inf]


@pytest.mark.parametrize(
    ("edge", "warning", "near_edge"),
    [
        (inf, PRIOR + BELOW_EDGE + 0.5, PRIOR + 0.5),
        (inf, PRIOR + BELOW_EDGE - 0.5, PRIOR),  # a rise that was no edge keeps no level below the prior
        (PRIOR + BELOW_EDGE + 1.0, PRIOR + BELOW_EDGE + 0.5, PRIOR + 0.5),
        (PRIOR + BELOW_EDGE - 1.0, PRIOR, PRIOR - 1.0),  # an edge does
    ],
)
def test_a_rise_that_was_no_edge_is_a_warning_by_hand(edge: float, warning: float, near_edge: float) -> None:
    caution = of(1.0, 0.0)
    levels = caution.first_levels(np.array([3.0, 3.0]), np.array([edge, inf]), np.array([warning, inf]))
    assert levels.tolist() == caution.near_edge.clip(max=3.0).tolist() == pytest.approx([near_edge, 3.0])


@pytest.mark.parametrize(
    ("level", "stride", "learned", "near_edge", "first", "highest"),
    [
        (PRIOR, STRIDE / 10, True, inf, PRIOR, PRIOR + 1.0),  # there steps are as long as they may be
        (PRIOR, STRIDE / 10, False, inf, PRIOR - 1.0, PRIOR),
        (PRIOR - 2.0, STRIDE / 10, False, inf, PRIOR - 2.0, PRIOR - 1.0),
        (PRIOR, STRIDE / 10, True, PRIOR + 0.5, PRIOR, PRIOR + 0.5),
        (PRIOR, STRIDE * 10, True, inf, PRIOR - 3.0, PRIOR - 1.0),
        (PRIOR, STRIDE * 10, True, inf, PRIOR, PRIOR),  # it may return to where it began
        (PRIOR, STRIDE / 10, False, inf, PRIOR + 2.0, PRIOR + 2.0),
        (PRIOR, nan, True, inf, PRIOR, inf),  # unknown
        (PRIOR, nan, False, inf, PRIOR - 1.0, PRIOR),
        (PRIOR, 0.0, True, PRIOR + 0.5, PRIOR, PRIOR + 0.5),  # the weights stand still
    ],
)
def test_levels_that_are_earned_by_hand(
    level: float, stride: float, learned: bool, near_edge: float, first: float, highest: float
) -> None:
    caution = of(1.0, 0.0)
    caution.near_edge[0], caution.first[:] = near_edge, (first, 0.0)
    earned = caution.earned(np.array([level, 0.0]), np.array([stride, STRIDE]), np.array([learned, True]))
    assert earned.tolist() == pytest.approx([highest, 0.0])


def test_a_curve_is_taken_in_without_its_gaps() -> None:
    losses = np.array(falls(1.25))
    caution = Caution(2)
    caution.take(1, np.insert(losses, [0, 3, 3, 16], nan))
    assert (caution.confidence[1], caution.noise[1], caution.unscaled[1]) == confidence(losses)
    assert np.isnan([caution.confidence[0], caution.noise[0]]).all()


def test_the_state_goes_through_json() -> None:
    caution, again = of(0.25, 0.5), Caution(2)
    caution.first_levels(np.array([1.0, 2.0]), np.array([2.0, inf]), np.array([inf, 1.0]))
    again.load_state_dict(json.loads(json.dumps(caution.state_dict())))
    for name, array in vars(caution).items():
        np.testing.assert_array_equal(getattr(again, name), array, strict=True)
