"""The guards' numbers, worked out by hand on both sides of every edge."""

import math

import numpy as np
import pytest

from guarded import CALM, EQUATION, Row, missing, play, row
from lrpilot.guard import Guard

nan, inf = math.nan, math.inf
# Falling to 2; of the four the mean loss is 5 in the middle, and the noise 2.
FALLING = [row(20.0, noise=9.0), row(6.0, noise=0.1), row(4.0, noise=3.0), row(2.0, noise=1.0)]
# From a loss before training of 1002: less than a hundredth of it was gained.
HIGH = [row(1001.9, noise=0.01)] * 4
SHAKY = [row(1001.9, noise=10.0)] * 4


def rising(*means: float, noise: float = 0.1) -> list[Row]:
    return [row(mean, noise=noise) for mean in means]


@pytest.mark.parametrize(
    ("rows", "loss0", "event"),
    [
        # three times the loss before training
        ([*CALM, row(29.9, last=2.0)], 10.0, None),
        ([*CALM, row(30.0, last=2.0)], 10.0, None),
        ([*CALM, row(30.1, last=2.0)], 10.0, "loss_runaway"),
        ([row(29.9)], 10.0, None),
        ([row(30.1)], 10.0, "loss_runaway"),
        ([row(-0.4)], -0.5, None),  # of one that is not positive there is no multiple
        ([row(0.5)], 0.0, None),
        ([*rising(-9.0, -9.0, -9.0, -9.0), row(-2.0, last=-9.0)], -1.0, None),
        # four deviations over the median of the memory, 5 + 8
        ([*FALLING, row(2.0, last=12.9)], 40.0, None),
        ([*FALLING, row(2.0, last=13.1)], 40.0, "spike"),
        # or a tenth of what was gained, 5 + 9.5
        ([*FALLING, row(2.0, last=14.4)], 100.0, None),
        ([*FALLING, row(2.0, last=14.6)], 100.0, "spike"),
        # which is a hundredth of the loss before training at least: 1.002
        ([*HIGH, row(1001.9, last=1002.9)], 1002.0, None),
        ([*HIGH, row(1001.9, last=1002.91)], 1002.0, "spike"),
        ([*SHAKY, row(1001.9, last=1041.8)], 1002.0, None),
        ([*SHAKY, row(1001.9, last=1042.0)], 1002.0, "spike"),
        # half a deviation over the interval four before
        (rising(2.0, 2.3, 2.6, 2.9, 3.2, noise=2.5), 10.0, None),
        (rising(2.0, 2.3, 2.6, 2.9, 3.2, noise=2.3), 10.0, "drift"),
        (rising(2.0, 2.25, 2.5, 2.75, 3.0, noise=2.0), 10.0, None),
        # or a tenth of what was gained, 10 - 2.3
        (rising(2.0, 2.2, 2.4, 2.6, 2.76), 10.0, None),
        (rising(2.0, 2.2, 2.4, 2.6, 2.78), 10.0, "drift"),
        (rising(2.0, 2.5, 2.5, 2.8, 3.2), 10.0, None),  # did not rise every time
        (rising(2.0, 2.2, 2.4, 3.2, 3.2, noise=0.3), 10.0, None),
        (rising(2.5, 2.0, 2.6, 2.9, 3.4, noise=0.3), 10.0, None),
        # nothing is judged before there are four intervals, and one that is not finite is none
        ([*CALM[:3], row(2.0, last=9.0)], 10.0, None),
        ([*CALM[:3], row(nan), row(2.0, last=9.0)], 10.0, None),
        ([*CALM, row(nan), row(2.0, last=2.81)], 10.0, "spike"),
        (rising(2.2, 2.4, 2.6, 3.2), 10.0, None),
        # an alarm is the new reference: the greater of the mean and the last losses
        ([*CALM, row(2.0, last=5.0), row(2.0, last=5.4)], 10.0, None),
        ([*CALM, row(2.0, last=5.0), row(2.0, last=5.6)], 10.0, "spike"),
        ([*CALM, row(5.0, last=3.0), row(2.0, last=5.6)], 10.0, "spike"),
        ([*CALM, row(5.0, last=3.0), row(2.0, last=5.4)], 10.0, None),
        # an action may miss its bounds by a thousandth
        ([*CALM, row(2.0, answer=1.0009)], 10.0, None),
        ([*CALM, row(2.0, answer=1.001)], 10.0, None),
        ([*CALM, row(2.0, answer=1.0011)], 10.0, "action_out_of_bounds"),
        ([*CALM, row(2.0, answer=-1.0009)], 10.0, None),
        ([*CALM, row(2.0, answer=-1.0011)], 10.0, "action_out_of_bounds"),
    ],
)
def test_events_at_their_edges(rows: list[Row], loss0: float, event: str | None) -> None:
    """The policy wants the lowest level at every decision."""
    assert play(rows, wish=-9.0, loss0=loss0)[0][-1] == event


SHY = row(inf, last=2.0)  # backs off


@pytest.mark.parametrize(
    ("rows", "level", "levels"),
    [
        ([SHY, row(2.0), row(2.0), row(2.0)], 0.25, [-0.25, 0.0, 0.5, 1.0]),
        # a second event below does not change where the level may climb to, by a quarter of a decade each
        ([SHY, SHY, *[row(2.0)] * 5], 0.25, [-0.25, -0.75, -0.5, -0.25, 0.0, 0.5, 1.0]),
        # nor does it climb while no loss is reported
        ([SHY, missing(), row(2.0), row(2.0)], 0.25, [-0.25, -0.25, 0.0, 0.5]),
        # four events in a row lower the level, whatever is missing among them; one calm interval starts anew
        ([SHY, SHY, SHY, missing(), SHY, SHY, SHY], 1.0, [0.5, 0.0, -0.5, -0.5, -1.0, -1.0, -1.0]),
        ([SHY, SHY, SHY, SHY, SHY, row(2.0), SHY], 1.0, [0.5, 0.0, -0.5, -1.0, -1.0, -0.75, -1.25]),
        # a cut goes as deep as the policy itself could, and from there it climbs, to where it was
        ([row(nan), row(2.0), row(2.0)], 0.0, [-1.5, -1.25, -1.0]),
        ([row(nan), row(2.0), row(2.0)], -2.0, [-2.5, -2.25, -1.75]),
        ([SHY, row(2.0), row(2.0)], -2.2, [-2.5, -2.25, -1.75]),
        # a runaway is waited for while it falls; a broken gradient is not
        ([row(100.0), row(99.0), row(99.0)], 1.0, [-0.5, -0.5, -2.0]),
        ([row(100.0), row(99.0), row(98.0, grad=nan)], 1.0, [-0.5, -0.5, -2.0]),
        ([row(100.0), row(101.0)], 1.0, [-0.5, -2.0]),
    ],
)
def test_levels_after_events(rows: list[Row], level: float, levels: list[float]) -> None:
    """The policy wants 2 at every decision."""
    assert play(rows, wish=2.0, level=level)[1] == pytest.approx(levels)


def test_a_runaway_that_falls_from_before_it_was_one_is_cut() -> None:
    """Its loss before training becomes known late."""
    watch = Guard(1, EQUATION)
    assert play([row(100.0)] * 2, loss0=nan, watch=watch)[0] == [None] * 2
    assert play([row(50.0)], watch=watch) == (["loss_runaway"], [-1.5])
    assert watch.scale.tolist() == [10.0]
    watch = Guard(1, EQUATION)  # after another event it is waited for
    assert play([row(2.0), row(100.0, grad=nan)], loss0=nan, watch=watch)[1] == [0.0, -1.5]
    assert play([row(50.0)], level=-1.5, watch=watch) == (["loss_runaway"], [-1.5])


def test_a_loss_that_stays_away_is_accepted_as_the_new_scale() -> None:
    watch = Guard(1, EQUATION)
    events, _ = play([row(100.0)] * 6, wish=-9.0, watch=watch)
    assert events == [*["loss_runaway"] * 5, None]
    assert watch.scale.tolist() == [100.0]


def test_that_of_one_run_stays_while_that_of_another_is_unknown() -> None:
    watch, zero = Guard(2, EQUATION), np.zeros(2)
    interval = {name: np.full(2, 100.0) for name in ("loss_mean", "loss_last", "loss_noise", "grad_norm")}
    for _ in range(6):
        loss0 = np.array([nan, 10.0])
        _, events = watch.check(zero, level=zero, anchor=zero, interval=interval, loss0=loss0, missing=False)
    assert events == [None, "recovery"]  # of the second, 100 is no runaway any more
    np.testing.assert_array_equal(watch.scale, [nan, 100.0])


def test_a_ceiling_is_never_exceeded_again() -> None:
    watch = Guard(1, EQUATION)
    watch.begin_again(np.array([True]), np.array([0.2]))
    watch.begin_again(np.array([True]), np.array([0.7]))
    assert play([row(2.0)] * 3, wish=1.0, watch=watch) == (["recovery"] * 3, pytest.approx([0.2] * 3))
    assert play([row(2.0)], wish=0.2, level=0.2, watch=watch) == ([None], [0.2])
    assert play([row(2.0)], wish=0.1, level=0.2, watch=watch) == ([None], pytest.approx([0.1]))
    events, levels = play([SHY, row(2.0), row(2.0), row(2.0)], wish=1.0, level=0.2, watch=watch)
    assert events == ["loss_nonfinite", *["recovery"] * 3] and levels == pytest.approx([-0.3, -0.05, 0.2, 0.2])


def test_only_those_that_begin_again_are_forgotten() -> None:
    watch, zero = Guard(2, EQUATION), np.zeros(2)
    calm = {name: np.ones(2) for name in ("loss_mean", "loss_last", "loss_noise", "grad_norm")}
    for interval in (calm, calm, {name: np.full(2, nan) for name in calm}):
        watch.check(zero, level=zero, anchor=zero, interval=interval, loss0=np.ones(2), missing=False)
    watch.begin_again(np.array([True, False]), np.array([-1.0, -1.0]))
    np.testing.assert_array_equal(watch.lid, [np.inf, -1.5])
    np.testing.assert_array_equal(watch.ceiling, [-1.0, np.inf])
    np.testing.assert_array_equal(watch.streak, [0.0, 1.0])
    np.testing.assert_array_equal(watch.past[0, :2], [[nan, 1.0], [nan, 1.0]])


def test_the_lower_bound_ends_a_cut() -> None:
    """At an anchor of -3 the span reaches to -5.5, the equation to -4."""
    watch, anchor, level = Guard(1, EQUATION), np.full(1, -3.0), np.full(1, -3.4)
    interval = {name: np.ones(1) for name in ("loss_mean", "loss_last", "loss_noise", "grad_norm")}
    for broken, wanted in ((nan, -4.0), (1.0, -3.75)):
        action, _ = watch.check(
            np.ones(1), level=level, anchor=anchor, loss0=np.ones(1), missing=False,
            interval=interval | {"grad_norm": np.array([broken])},
        )  # fmt: skip
        level = EQUATION.apply(level, anchor, action, False)
        assert level == pytest.approx([wanted])


def test_the_first_decision_without_a_policy_is_a_tenth_of_the_blowup() -> None:
    """The anchor lies two decades below it; without a probe it is the anchor. Three runs, whose third answers."""
    action, events = Guard(3, EQUATION).check(
        np.array([nan, nan, 0.5]), level=np.zeros(3), anchor=np.array([-1.0, -1.0, 1.0]), interval=None,
        loss0=np.array([1.0, nan, 1.0]), missing=False,
    )  # fmt: skip
    assert events == ["action_nonfinite"] * 2 + [None] and action.tolist() == pytest.approx([0.4, 0.0, 0.5])


def test_a_scale_that_was_raised_stays_where_another_run_learns_its_own() -> None:
    guard = Guard(2, EQUATION)
    guard.scale = np.array([nan, 7.0])
    guard.check(
        np.zeros(2), level=np.zeros(2), anchor=np.zeros(2), loss0=np.array([2.0, 3.0]), missing=False,
        interval={name: np.ones(2) for name in ("loss_mean", "loss_last", "loss_noise", "grad_norm")},
    )  # fmt: skip
    assert guard.scale.tolist() == [2.0, 7.0]
