"""Evidence: lines and verdicts worked out by hand, how seldom losses that go nowhere raise an alarm, and any unit."""

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.decisions.cadence import Cadence, CadenceSpec
from lrpilot.decisions.guard import GIVEN_BACK
from lrpilot.probing.evidence import (
    AGREE,
    DOUBT,
    FEWEST,
    LATEST,
    MOST,
    NORMAL,
    REFERENCE,
    WIDTH,
    Losses,
    line,
    rise,
    scatter,
)
from stationary import DRAWS

ONE = np.ones(1, bool)
nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("moves", "inner"),
    [
        ([5.0], 5.0),
        ([1.0, 4.0], 2.5),
        ([3.0, 100.0, 1.0, 2.0], 2.0),  # the largest quarter is left out
        ([0.0, 100.0, 2.0, 100.0, 2.0, 4.0, 2.0, 2.0], 2.0),
        ([0.0, 0.0, 0.0, 7.0], 0.0),
    ],
)
def test_scatter_by_hand(moves: list[float], inner: float) -> None:
    """The mean of the inner moves, over that of Gaussian losses of deviation 1; each row on its own."""
    rows = np.array([moves, moves[::-1], [0.0] * len(moves)])
    np.testing.assert_allclose(scatter(rows), [inner / NORMAL, inner / NORMAL, 0.0])


@pytest.mark.parametrize("trend", [0.0, 0.1])
def test_scatter_of_gaussian_losses_is_their_deviation(trend: float) -> None:
    losses = 3.0 * (np.random.default_rng(0).normal(size=(4, 10_000)) + trend * np.arange(10_000))
    np.testing.assert_allclose(scatter(np.abs(np.diff(losses, axis=1))), 3.0, rtol=0.03)


WIDE = WIDTH / NORMAL  # what a line allows for, of many losses that move by 1


@pytest.mark.parametrize(
    ("reference", "middle", "away"),
    [
        ([0.0, 1.0], 0.5, WIDE * (1 + DOUBT)),
        ([0.0, 1.0, 0.0, 1.0, 0.0], 0.0, WIDE * (1 + DOUBT / 4)),
        ([-7.0, -8.0, -7.0, -8.0, -7.0], -7.0, WIDE * (1 + DOUBT / 4)),
        # an outlier at the end is one of eleven moves, or of ten: nine of ten are as small as the rest; of nine not
        ([0.0, 1.0] * 5 + [0.0, 60.0], 0.5, WIDE * (1 + DOUBT / 11)),
        ([0.0, 1.0] * 5 + [60.0], 1.0, WIDE * (1 + DOUBT / 10)),
        ([0.0, 1.0] * 4 + [0.0, 60.0], 0.5, 60.0),
        # in the middle it is two of eleven, of which the smaller one counts
        ([0.0, 1.0] * 3 + [60.0] + [0.0, 1.0] * 2 + [0.0], 0.5, 59.0),
        # seven of nine moves are none
        ([0.0] * 3 + [1.0] + [0.0] * 6, 0.0, 1.0),
        # the latest eight are the centre, all ten moves the scatter: eight of them are 0, 0 and six times 1
        ([9.0] * 3 + [0.0, 1.0] * 4, 0.5, WIDE * (1 + DOUBT / 10) * 6 / 8),
        ([4.0] * 9, 4.0, inf),  # what never moves says nothing
    ],
)
def test_lines_by_hand(reference: list[float], middle: float, away: float) -> None:
    losses = np.array(reference)
    assert rise(losses) == pytest.approx(away)
    assert line(losses) == pytest.approx(middle + away)


# What trainings have reported

START = [10.0, 11.0] * 4  # its line is 10.5 + UNIT * WIDTH
UNIT = (1 + DOUBT / 7) / NORMAL
BEST = [2.0, 2.1] * 8  # its line is 2.05 + 0.1 * WIDE * (1 + DOUBT / 15) = 2.71


def begun(start: list[float] | None, *intervals: list[float]) -> Losses:
    """The losses of one training, before it and of its intervals."""
    losses = Losses(1)
    if start is not None:
        losses.begin(ONE, np.array([start]))
    for interval in intervals:
        losses.add(np.array(interval, float)[:, None])
    return losses


@pytest.mark.parametrize(
    ("intervals", "above"),
    [
        ([[10.5 + WIDTH * UNIT + 0.01] * LATEST], True),
        ([[10.5 + WIDTH * UNIT - 0.01] * LATEST], False),
        ([[30.0] * (LATEST - 1)], False),  # too few
        ([[30.0] * 6, [30.0] * (LATEST - 6)], True),
        ([[5.0] * (LATEST - AGREE) + [30.0] * AGREE], True),
        ([[30.0] * AGREE + [5.0] * (LATEST - AGREE)], True),
        ([[5.0] * (LATEST - AGREE + 1) + [30.0] * (AGREE - 1)], False),
        ([[30.0] * LATEST, [5.0, 5.0]], False),  # two of the latest ten
        ([[nan, inf, -inf, *[30.0] * (LATEST - 1)]], False),  # what is not finite is no loss
        ([[], [nan], [30.0] * LATEST], True),
        # sixteen losses that move by 20 before the latest: these allow for 20 * WIDE * (1 + DOUBT / 15), 132 of them
        ([[10.0, 30.0] * 8, [130.0] * LATEST], False),
        ([[10.0, 30.0] * 8, [150.0] * LATEST], True),
        # five of them are enough to say that, four are not
        ([[10.0, 30.0, 10.0, 30.0, 10.0], [100.0] * LATEST], False),
        ([[10.0, 30.0, 10.0, 30.0], [100.0] * LATEST], True),
    ],
)
def test_above_the_start_by_hand(intervals: list[list[float]], above: bool) -> None:
    assert begun(START, *intervals).above_start().tolist() == [above]


@pytest.mark.parametrize(
    ("start", "latest", "share", "back"),
    [
        # gained: 10.5 - 2.05 = 8.45; half of it is 4.225
        (START, 6.28, 0.5, True),
        (START, 6.27, 0.5, False),
        (START, 2.72, 0.0, True),
        (START, 2.70, 0.0, False),  # below the line
        (START, 8.5, 0.75, True),
        (START, 8.3, 0.75, False),
        ([0.0, 1.0] * 4, 2.72, 0.5, True),  # nothing was gained
    ],
)
def test_given_back_by_hand(start: list[float], latest: float, share: float, back: bool) -> None:
    losses = begun(start, [*BEST, *[latest] * LATEST])
    assert losses.given_back(share).tolist() == [back] and losses.middle.tolist() == [latest]


def test_the_best_is_the_lowest_median_of_sixteen_before_the_latest() -> None:
    losses = begun(START, [20.0] * 16, [6.0, 6.5] * 13)
    assert losses.best[0].tolist() == [6.0, 6.5] * 8
    losses.add(np.array([7.0, 7.5] * 13)[:, None])
    assert losses.best[0].tolist() == [6.0, 6.5] * 8
    losses.add(np.array([5.0, 4.5] * 13)[:, None])
    assert losses.best[0].tolist() == [5.0, 4.5] * 8 and losses.start[0, -8:].tolist() == START


def test_without_a_probe_the_first_losses_are_the_start() -> None:
    """As soon as there are five before the latest ten."""
    losses = begun(None, [4.0, 5.0] * 7)
    assert np.isnan(losses.start).all() and not (losses.above_start() | losses.below_start())[0]
    losses.add(np.array([[90.0]]))
    assert losses.start[0, -FEWEST:].tolist() == [4.0, 5.0, 4.0, 5.0, 4.0] and np.isnan(losses.start[0, -FEWEST - 1])
    losses.add(np.full((LATEST - 1, 1), 90.0))
    assert losses.above_start()[0] and losses.given_back(GIVEN_BACK)[0]


def test_a_probe_says_what_it_can() -> None:
    """The latest sixteen losses; gaps are left out. Of fewer than five the training's own take the place."""
    losses = begun([nan, *range(20), nan])
    assert losses.start[0].tolist() == [*range(4, 20)]
    losses.begin(~ONE, np.array([START]))
    assert losses.start[0].tolist() == [*range(4, 20)]
    few = begun([nan, 1.0, 2.0, 1.0, 2.0, nan])
    assert np.isnan(few.start).all()
    few.add(np.array([[4.0, 5.0] * 3 + [90.0] * LATEST]).T)
    assert few.start[0, -6:].tolist() == [4.0, 5.0] * 3 and few.above_start()[0]


def test_what_is_judged_does_not_widen_the_line() -> None:
    """However many losses of an interval lie that high, and scatter that much."""
    for n in (LATEST, 20, 64):
        losses = begun(START, START, [80.0, 120.0] * (n // 2))
        assert losses.above_start()[0], n


@pytest.mark.parametrize(
    ("intervals", "below"),
    [
        ([[10.4] * LATEST], True),
        ([[10.5] * LATEST], False),
        ([[10.4] * (LATEST - 1)], True),  # nine of ten, of which one is not there yet
        ([[10.4] * (LATEST - 2)], False),
        ([[10.6] * (LATEST - AGREE) + [10.4] * AGREE], True),
        ([[10.6] * (LATEST - AGREE + 1) + [10.4] * (AGREE - 1)], False),
        # two of the latest ten are above, but most of many are below
        ([[10.4] * (MOST - 8), [10.4] * 8 + [10.6] * 2], True),
        ([[10.4] * (MOST - 9), [10.4] * 8 + [10.6] * 2], False),
    ],
)
def test_below_the_start_by_hand(intervals: list[list[float]], below: bool) -> None:
    assert begun(START, *intervals).below_start().tolist() == [below]


@pytest.mark.parametrize(
    ("latest", "clearly"),
    [
        ([10.4] * LATEST, False),
        ([10.5 - 0.99 / NORMAL] * LATEST, False),
        ([10.5 - 1.01 / NORMAL] * LATEST, True),
        ([8.0] * (LATEST - AGREE) + [8.5] * AGREE, True),
        ([8.0] * (AGREE - 1) + [10.6] * (LATEST - AGREE + 1), False),  # too few of them
    ],
)
def test_clearly_below_the_start_by_hand(latest: list[float], clearly: bool) -> None:
    """The losses before training move by 1 about 10.5: that is a scatter of 1 / NORMAL."""
    assert begun(START, latest).clearly_below_start().tolist() == [clearly]


@pytest.mark.parametrize(
    ("start", "intervals", "loss", "out"),
    [
        # nothing gained: ten times the median of the start above that
        (START, [], 115.6, True),
        (START, [], 115.4, False),
        # the same around nothing: ten times UNIT
        ([-0.5, 0.5] * 4, [], 10 * UNIT + 0.01, True),
        ([-0.5, 0.5] * 4, [], 10 * UNIT - 0.01, False),
        # gained 8.45, which is less than the start, and from -1.5 to -9.95, which is more
        (START, [[*BEST, *BEST]], 115.6, True),
        (START, [[*BEST, *BEST]], 115.4, False),
        ([loss - 12 for loss in START], [[loss - 12 for loss in (*BEST, *BEST)]], 83.1, True),
        ([loss - 12 for loss in START], [[loss - 12 for loss in (*BEST, *BEST)]], 82.9, False),
        (START, [], nan, False),
        (START, [], inf, False),
        (None, [], 1e9, False),
        ([4.0] * 8, [], 1e9, False),  # a loss that never moved
    ],
)
def test_out_of_bounds_by_hand(start: list[float] | None, intervals: list[list[float]], loss: float, out: bool) -> None:
    assert begun(start, *intervals).out_of_bounds(np.array([loss]), 10.0).tolist() == [out]


def test_later_losses_are_compared_with_the_latest_by_hand() -> None:
    """No loss is judged twice; each run on its own."""
    losses = Losses(4)
    losses.begin(np.ones(4, bool), np.array([START] * 4))
    losses.add(np.array([BEST + [30.0, 31.0] * 5] * 4).T)
    assert losses.above_start().all() and losses.given_back(0.5).all()
    losses.refer(np.array([True, True, False, False]), np.array([True, False, True, False]))
    assert losses.above_start().tolist() == losses.given_back(0.5).tolist() == [False, False, False, True]
    latest = [30.0, 31.0] * 5
    assert [row[-LATEST:].tolist() == latest for row in losses.best] == [True, True, False, False]
    assert [row[-LATEST:].tolist() == latest for row in losses.start] == [True, False, True, False]
    losses.add(np.full((LATEST, 4), 32.0))
    assert losses.above_start().tolist() == [False, True, False, True]
    assert losses.given_back(0.5).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("latest", "start"), [(30.0, 30.0), (5.0, 10.0)])
def test_what_is_accepted_begins_there_if_it_is_above(latest: float, start: float) -> None:
    losses = begun(START, [*BEST, *[latest] * LATEST])
    losses.accept(~ONE)
    assert losses.best[0].tolist() == BEST
    losses.accept(ONE)
    assert losses.best[0, -1] == latest and losses.start[0, -2] == start


def test_a_training_that_begins_again_keeps_its_start() -> None:
    losses = begun(START, BEST, [30.0] * LATEST)
    losses.begin_again(ONE)
    assert losses.start[0, -8:].tolist() == START and losses.middle[0] == inf
    assert np.isnan(losses.best).all() and np.isnan(losses.past).all() and not losses.above_start()[0]
    losses.add(np.full((LATEST, 1), 30.0))
    assert losses.above_start()[0]


# False alarms


def reported(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of some trainings (steps, runs) are ever above their start, and which ever have given back; (runs,) bool.

    They report at the decisions and steps that a pilot chooses.
    """
    steps, runs = losses.shape
    cadence, seen = Cadence(CadenceSpec(), steps, True), Losses(runs)
    seen.begin(np.ones(runs, bool), losses[: cadence.probe_steps // 3 + 1].T)
    above, back = np.zeros((2, runs), bool)
    for i in range(cadence.decisions):
        begin, end = cadence.interval(i)
        seen.add(losses[np.arange(end, begin, -cadence.stride(i))[::-1] - 1])
        above |= seen.above_start()
        back |= seen.given_back(GIVEN_BACK)
    return above, back


STEPS = (64, 300, 2000)


def trainings(steps: int, runs: int, names: Iterable[str] = DRAWS) -> np.ndarray:
    """(steps, trainings) stationary losses of every distribution, `runs` each, and as many of negated sign."""
    drawn = [DRAWS[name](np.random.default_rng(steps), (steps, 2 * runs)) for name in names]
    return np.concatenate([losses * np.repeat([1.0, -1.0], runs) for losses in drawn], axis=1)


@pytest.mark.parametrize("steps", STEPS)
def test_losses_that_go_nowhere_raise_no_alarm(steps: int) -> None:
    """Less than one training in a thousand has one; of 96,000 two had, both with lognormal losses and 2,000 steps."""
    above, back = reported(trainings(steps, 32))
    assert (above | back).mean() < 0.001


@pytest.mark.parametrize("steps", STEPS)
def test_losses_that_rise_in_the_middle_raise_one(steps: int) -> None:
    """In every training; but losses that are 0 or 1 may not have moved before, which says nothing of how they move."""
    losses = trainings(steps, 8, [name for name in DRAWS if "wrong" not in name])
    losses[steps // 2 :] += 1000.0  # the mixture scatters by a hundred
    above, back = reported(losses)
    assert (above & back).all()


# Any unit and any origin

worlds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(worlds, st.integers(-60, 60), st.integers(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_unit_and_origin_of_the_loss_change_no_verdict(rng: np.random.Generator, exponent: int, constant: int) -> None:
    """Losses are multiples of 2^-20, so that sums with the constant are exact. Bounds count from a loss of 0."""
    intervals = [int(n) for n in rng.integers(1, 20, 6)]
    draw, level = DRAWS[rng.choice([*DRAWS])], np.repeat(rng.normal(0, 5, 7), [8, *intervals])
    losses = np.round((draw(rng, (len(level), 4)) * rng.uniform(0.1, 1) + level[:, None]) * 2.0**20) / 2.0**20
    verdicts, wild = [], []
    for rows in (losses, losses * 2.0**exponent, (losses + constant) * 2.0**exponent):
        seen, said, out = Losses(4), [], []
        seen.begin(np.ones(4, bool), rows[:8].T)
        for new in np.split(rows[8:], np.cumsum(intervals)[:-1]):
            seen.add(new)
            above, back = seen.above_start(), seen.given_back(GIVEN_BACK)
            said += [above, back, seen.below_start()]
            out.append(seen.out_of_bounds(new[-1], 0.5))
            seen.refer(above | back, above)
        verdicts.append(said)
        wild.append(out)
    np.testing.assert_array_equal(verdicts[1], verdicts[0])
    np.testing.assert_array_equal(verdicts[2], verdicts[0])
    np.testing.assert_array_equal(wild[1], wild[0])


@given(worlds, st.integers(2, 30), st.integers(-60, 60), st.integers(-1000, 1000))
@settings(max_examples=60, deadline=None)
def test_unit_and_origin_of_the_loss_change_no_vote(
    rng: np.random.Generator, n: int, exponent: int, constant: int
) -> None:
    """A probe's votes are for losses of other batches above the line, and against those below."""
    draw = DRAWS[rng.choice([*DRAWS])]
    reference, others = (np.round(draw(rng, (m,)) * k * 2.0**20) / 2.0**20 for m, k in ((n, 1.0), (50, 5.0)))
    votes = others > line(reference)
    np.testing.assert_array_equal(
        (others + constant) * 2.0**exponent > line((reference + constant) * 2.0**exponent), votes
    )


@given(worlds, st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_state_goes_through_json(rng: np.random.Generator, stop: int) -> None:
    whole, before, resumed = (Losses(3) for _ in range(3))
    for losses in (whole, before):
        losses.begin(np.array([True, False, True]), np.array([START] * 3))
    for i in range(6):
        if i == stop:
            resumed.load_state_dict(json.loads(json.dumps(before.state_dict())))
            before = resumed
        new = rng.normal(rng.choice([5, 50]), 1, (int(rng.integers(1, 15)), 3))
        for losses in (whole, before):
            losses.add(new)
            losses.refer(losses.above_start(), np.zeros(3, bool))
    for name, array in vars(whole).items():
        np.testing.assert_array_equal(getattr(resumed, name), array, strict=True)
    assert sum(np.size(value) for value in whole.state_dict().values()) == 3 * (4 * REFERENCE + LATEST + 1)
