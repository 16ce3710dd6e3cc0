"""What a probe's curve is worth, and the first level that caution makes of it; by hand."""

import math

import numpy as np
import pytest

from lrpilot.caution import CLEAR, EDGELESS, LOWEST, LUCKY, NOISY, PRIOR, USUAL, WINDOW, cautious, confidence
from lrpilot.evidence import NORMAL

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
        ([-4.0, -5.0] * 4 + [-9.0, -10.0] * 4, 1.0, 0.25 / NORMAL),
    ],
)
def test_confidence_by_hand(losses: list[float], sure: float, noise: float) -> None:
    with np.errstate(all="raise"):
        for edge, share in ((True, 1.0), (False, EDGELESS)):
            assert confidence(np.array(losses), edge) == pytest.approx((share * sure, noise), nan_ok=True)


def test_long_probes_have_wider_medians() -> None:
    """Of 121 losses the median of ten falls from 9.5 to 9 where three are low, though that of three falls to 5.

    Of the inner 90 moves two are none, and the others 1.
    """
    losses = np.array([10.0, 9.0] * 60 + [0.0])
    losses[50:53] = 5.0
    deviations = 0.5 * 10**0.5 / (88 / 90 / NORMAL)
    assert confidence(losses, True)[0] == pytest.approx((deviations - LUCKY) / (CLEAR - LUCKY))


HALF_NOISY = PRIOR - NOISY / 2  # the prior where noise is half above the usual


LOW = PRIOR - LOWEST - 0.5


@pytest.mark.parametrize(
    ("level", "sure", "noise", "near_edge", "blown", "first"),
    [
        (PRIOR + 1.0, 1.0, 0.0, inf, False, PRIOR + 1.0),  # sure
        (PRIOR + 1.0, nan, nan, inf, False, PRIOR + 1.0),  # no probe
        (PRIOR + 1.0, 0.25, 0.0, inf, False, PRIOR + 0.25),
        (PRIOR + 1.0, 0.0, 0.0, inf, False, PRIOR),
        (PRIOR + 1.0, 0.25, USUAL, inf, False, PRIOR + 0.25),
        (PRIOR + 1.0, 0.25, USUAL + 0.5, inf, False, HALF_NOISY + 0.25 * (1 + NOISY / 2)),
        (PRIOR + 1.0, 0.0, USUAL + 9.0, inf, False, PRIOR - NOISY),
        (PRIOR - 0.5, 0.0, 0.0, inf, False, PRIOR - 0.5),  # lower than the prior
        (PRIOR - 0.2, 0.0, USUAL + 0.5, inf, False, HALF_NOISY),
        # too near the edge, or to where the loss was shaken, however sure
        (PRIOR + 1.0, 1.0, 0.0, PRIOR + 0.7, True, PRIOR + 0.7),
        (PRIOR + 1.0, 1.0, 0.0, PRIOR + 0.7, False, PRIOR + 0.7),
        (PRIOR + 1.0, 0.25, 0.0, PRIOR + 0.1, True, PRIOR + 0.1),
        (PRIOR + 1.0, 0.25, 0.0, PRIOR + 0.7, True, PRIOR + 0.25),
        (LOW, 0.0, 0.0, LOW - 1, True, LOW - 1),
        (LOW, 0.0, 0.0, LOW - 1, False, LOW - 1),
        # neither edge nor confidence says why it is so low
        (LOW, 0.0, 0.0, inf, False, PRIOR - LOWEST),
        (LOW, 0.0, 0.0, PRIOR, False, PRIOR - LOWEST),
        (LOW, 0.75, USUAL + 0.25, inf, False, PRIOR - NOISY / 4 - LOWEST),
        (LOW, 1.0, 0.0, inf, False, LOW),
        (LOW, nan, nan, inf, False, LOW),
        (LOW, 0.0, 0.0, PRIOR, True, LOW),
    ],
)
def test_first_levels_by_hand(
    level: float, sure: float, noise: float, near_edge: float, blown: bool, first: float
) -> None:
    """The second run, at level 0, is sure."""
    rows = [np.array(row) for row in ((level, 0.0), (sure, 1.0), (noise, 0.0), (near_edge, inf), (blown, False))]
    assert cautious(*rows).tolist() == pytest.approx([first, 0.0])
