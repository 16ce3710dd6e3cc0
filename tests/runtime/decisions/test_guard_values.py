"""The guards' numbers, worked out by hand on both sides of every edge."""

import math
from typing import Any

import numpy as np
import pytest

from guarded import CALM, EQUATION, LOST, MISSING, START, Losses, around, high, play, row, watching
from lrpilot.decisions.guard import Guard

nan, inf = math.nan, math.inf
NEAR = around(6.0, 16)  # before training: 4 above the best time, so that half of the gain is less than the line allows
FAR = around(1000.0, 16)  # 998 above it
FLAT = around(20.0, 16)  # as before training


@pytest.mark.parametrize(
    ("start", "rows", "event"),
    [
        # above the line of the best time, 2 + 4.8
        (NEAR, [*CALM, high(6.79)], None),
        (NEAR, [*CALM, high(6.81)], "loss_rise"),
        (NEAR, [*CALM, high(6.81, 8)], None),
        (NEAR, [*CALM, high(6.81, 10)], "loss_rise"),
        # and by half of what was gained, (20 - 2) / 2
        (START, [*CALM, high(10.99)], None),
        (START, [*CALM, high(11.0)], "loss_rise"),
        (START, [*CALM, high(11.01, 8)], None),
        # above the line of the losses before training, 6 + 4.8 and 20 + 4.8
        (NEAR, [*CALM, high(10.79)], "loss_rise"),
        (NEAR, [*CALM, high(10.81)], "loss_runaway"),
        (START, [*CALM, high(24.79)], "loss_rise"),
        (START, [*CALM, high(24.81)], "loss_runaway"),
        (START, [*CALM, high(24.81, 8)], None),
        (START, [high(24.79, 10)], None),
        (START, [high(24.81, 10)], "loss_runaway"),
        # nine of the latest ten, whichever interval they are of
        (START, [*CALM, [99.0] * 8], None),
        (START, [*CALM, [99.0] * 9], "loss_runaway"),
        (START, [*CALM, [99.0] * 5, [99.0] * 4], "loss_runaway"),
        (START, [*CALM, [99.0, nan] * 9], "loss_runaway"),
        # the lower of what is seen lately widens the line as well: 2 + 48
        (NEAR, [*CALM, around(2.0, 16, scatter=10.0), high(49.9)], None),
        (NEAR, [*CALM, around(2.0, 16, scatter=10.0), high(50.1)], "loss_rise"),
        # but not what is seen now
        (START, [*CALM, around(99.0, 26, scatter=40.0)], "loss_runaway"),
        # ten losses have to come, five to compare them with; of five, 2.364 + 4 (1 + 3 / 4)
        (START, [[99.0] * 9], None),
        (START, [[99.0] * 9, [99.0]], "loss_runaway"),
        (None, [around(2.0, 4), [99.0] * 10], None),
        (None, [around(2.0, 5), [9.36] * 10], None),
        (None, [around(2.0, 5), [9.37] * 10], "loss_runaway"),
        # of fewer before training the first ones of the training take the place: 3 + 4 (1 + 3 / 5)
        (around(20.0, 4), [*CALM, high(9.41)], "loss_runaway"),
        (around(20.0, 4), [*CALM, high(9.39)], "loss_rise"),
        (around(20.0, 5), [*CALM, high(19.9)], "loss_rise"),
        # a loss that never moves says nothing of how it moves
        (START, [[2.0] * 16, [2.0] * 16, high(19.0)], None),
        # after an alarm ten new losses have to come; the line is that of the ten which raised it, 12 + 5.33
        (START, [*CALM, around(12.0), [17.34] * 9], None),
        (START, [*CALM, around(12.0), [17.34] * 8, [17.34] * 2], "loss_rise"),
        (START, [*CALM, around(12.0), [17.33] * 10], None),
        # which widens the line of those before training as well: 20 + 5.33
        (START, [*CALM, around(12.0), [25.33] * 10], "loss_rise"),
        (START, [*CALM, around(12.0), [25.34] * 10], "loss_runaway"),
        # an action may miss its bounds by a thousandth
        (START, [*CALM, row(around(2.0), answer=1.0009)], None),
        (START, [*CALM, row(around(2.0), answer=1.001)], None),
        (START, [*CALM, row(around(2.0), answer=1.0011)], "action_out_of_bounds"),
        (START, [*CALM, row(around(2.0), answer=-1.0009)], None),
        (START, [*CALM, row(around(2.0), answer=-1.0011)], "action_out_of_bounds"),
    ],
)
def test_events_at_their_edges(start: Losses | None, rows: list[Any], event: str | None) -> None:
    """The policy wants the lowest level at every decision."""
    events, _ = play(rows, wish=-9.0, start=start)
    assert events[-1] == event and set(events[:-1]) <= {None, "loss_rise"}


RISE, AGAIN = around(510.0), around(760.0)  # half of the gain of 998, and half of what is left
SOUND, RUN = around(2.0), around(5000.0)


@pytest.mark.parametrize(
    ("rows", "level", "levels"),
    [
        ([RISE, SOUND, SOUND, SOUND], 0.25, [-0.25, 0.0, 0.5, 1.0]),
        # a second event below does not change where the level may climb to, by a quarter of a decade each
        ([RISE, AGAIN, *[AGAIN] * 5], 0.25, [-0.25, -0.75, -0.5, -0.25, 0.0, 0.5, 1.0]),
        # nor does it climb while no loss is reported
        ([RISE, MISSING, SOUND, SOUND], 0.25, [-0.25, -0.25, 0.0, 0.5]),
        # after four events in a row it is not lowered any more, whatever is missing among them
        ([RUN, MISSING, RUN, RUN, RUN, RUN], 2.0, [0.5, 0.5, -1.0, -2.5, -2.5, -2.5]),
        ([RUN, *[around(5000.0 - i) for i in range(1, 4)], SOUND, RUN], 1.0, [-0.5] * 4 + [-0.25, -1.75]),
        # a cut goes as deep as the policy itself could, and from there it climbs, to where it was
        ([RUN, SOUND, SOUND], 0.0, [-1.5, -1.25, -1.0]),
        ([RUN, SOUND, SOUND], -2.0, [-2.5, -2.25, -1.75]),
        ([RISE, SOUND, SOUND], -2.2, [-2.5, -2.25, -1.75]),
        # a runaway is waited for while it falls; a loss that is lost is not
        ([RUN, around(4999.0), around(4999.0)], 1.0, [-0.5, -0.5, -2.0]),
        ([RUN, around(4999.0), LOST], 1.0, [-0.5, -0.5, -2.0]),
        ([RUN, around(5001.0)], 1.0, [-0.5, -2.0]),
        # a loss that is finite again was none of the rate's doing, however long it was not
        ([LOST, SOUND, SOUND, SOUND, SOUND], 0.0, [-1.5, -1.0, -0.5, 0.0, 0.5]),
        ([LOST, MISSING, SOUND, SOUND], 0.0, [-1.5, -1.5, -1.0, -0.5]),
        ([LOST, LOST, SOUND, SOUND], 1.5, [0.0, -1.5, -1.0, -0.5]),
        ([*[LOST] * 6, SOUND, SOUND], 1.5, [0.0, -1.5, *[-2.5] * 4, -2.0, -1.5]),
        # unless it is high
        ([LOST, RISE, SOUND], 0.0, [-1.5, -2.0, -1.75]),
    ],
)
def test_levels_after_events(rows: list[Any], level: float, levels: list[float]) -> None:
    """The policy wants 2 at every decision."""
    watch = watching(FAR)
    play(CALM, wish=level, level=level, watch=watch)
    assert play(rows, wish=2.0, level=level, watch=watch)[1] == pytest.approx(levels)


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        (0.0, -0.5),
        (-0.24, -0.74),  # hardly lower
        (-0.25, -0.25),  # that is another level, which has raised one
        (0.4, -0.1),
    ],
)
def test_a_level_that_raised_an_alarm_twice_is_given_up(again: float, kept: float) -> None:
    """The first alarm is at 0. The policy names another level, holds it, and is led back, or not."""
    watch = watching(FAR)
    play([*CALM, RISE], watch=watch)
    assert play([RISE] * 4, wish=again, level=-0.5, watch=watch)[1][-1] == pytest.approx(again)
    events, levels = play([row(AGAIN, answer=0.0)] * 6, level=again, watch=watch)
    assert events.count("loss_rise") == 1 and levels[0] == pytest.approx(again - 0.5)
    assert levels[-1] == pytest.approx(kept)
    events, _ = play([AGAIN], wish=2.0, level=kept, watch=watch)
    assert events == ["recovery" if kept < again else None]


@pytest.mark.parametrize(
    ("earned", "wish", "level", "event"),
    [
        (inf, 1.0, 0.5, None),  # as far as one decision can
        (0.5, 1.0, 0.5, None),
        (0.3, 1.0, 0.3, "unearned"),
        (0.3, 0.3, 0.3, None),
        (0.0, 1.0, 0.0, "unearned"),
        (-1.0, 1.0, 0.0, "unearned"),  # the present level stands
        (-1.0, 0.0, 0.0, None),
        (-1.0, -0.3, -0.3, None),
    ],
)
def test_rises_that_are_not_earned(earned: float, wish: float, level: float, event: str | None) -> None:
    events, levels = play([*CALM, row(SOUND, wish=wish, earned=earned)])
    assert events[-1] == event and levels[-1] == pytest.approx(level)


@pytest.mark.parametrize(
    ("earned", "level", "event"),
    [(-0.4, -0.4, "unearned"), (-0.25, -0.25, "unearned"), (-0.1, -0.25, "unearned"), (0.5, -0.25, "recovery")],
)
def test_of_two_bounds_the_lower_one_counts(earned: float, level: float, event: str) -> None:
    """Half a decade below where the loss rose, a quarter is allowed."""
    events, levels = play([*CALM, around(12.0), row(around(12.0), wish=1.0, earned=earned)])
    assert events[-1] == event and levels[-2:] == pytest.approx([-0.5, level])


def test_a_ceiling_is_never_exceeded_again() -> None:
    watch = watching(START)
    watch.begin_again(np.array([True]), np.array([0.2]))
    watch.begin_again(np.array([True]), np.array([0.7]))
    assert play([SOUND] * 3, wish=1.0, watch=watch) == (["recovery"] * 3, pytest.approx([0.2] * 3))
    assert play([SOUND], wish=0.2, level=0.2, watch=watch) == ([None], [0.2])
    assert play([SOUND], wish=0.1, level=0.2, watch=watch) == ([None], pytest.approx([0.1]))
    events, levels = play([LOST, *[SOUND] * 4], wish=1.0, level=0.2, watch=watch)
    assert events == ["loss_nonfinite", None, None, None, "recovery"]
    assert levels == pytest.approx([-1.3, -0.8, -0.3, 0.2, 0.2])


def test_a_ceiling_that_is_lifted_gives_the_level_back() -> None:
    """To a policy that holds or asks for less; one that lowers it may go where it likes."""
    cases = (
        (0.0, ["recovery", None], [0.2, 0.2]),
        (0.6, ["recovery", None], [0.2, 0.5]),
        (-0.4, [None] * 2, [-0.8, -1.4]),
    )
    for answer, events, levels in cases:
        watch = watching(START)
        watch.begin_again(np.array([True]), np.array([-0.2]))
        assert play([SOUND], wish=-0.2, level=-0.2, watch=watch) == ([None], [-0.2])
        watch.lift(np.array([True]), np.array([0.2]))
        assert play([row(SOUND, answer=answer)] * 2, level=-0.2, watch=watch) == (events, pytest.approx(levels))


@pytest.mark.parametrize(
    ("rows", "events", "levels"),
    [
        # the loss of the first interval has not fallen; from the third decision on that is known, and 0.3 are earned
        ([(FLAT, 0.4, 0.0), (SOUND, 0.0, 0.0), (SOUND, 0.0, 0.3)], ["unearned", None, "recovery"], [0.0, 0.0, 0.3]),
        # what that chance did not give is not given later
        (
            [(FLAT, 0.4, 0.0), (SOUND, 0.0, 0.0), (SOUND, 0.0, 0.3), (SOUND, 0.0, 1.0)],
            ["unearned", None, "recovery", None], [0.0, 0.0, 0.3, 0.3],
        ),
        # a policy that lowers the level has changed its mind
        ([(FLAT, 0.4, 0.0), (SOUND, -0.1, 0.0), (SOUND, 0.0, 1.0)], ["unearned", None, None], [0.0, -0.1, -0.1]),
        # a rise that was refused although the loss had fallen is not made later
        ([(SOUND, 0.0, 0.0), (SOUND, 0.4, 0.0), (SOUND, 0.0, 1.0)], [None, "unearned", None], [0.0, 0.0, 0.0]),
    ],
)  # fmt: skip
def test_a_rise_waits_for_the_loss_to_fall(
    rows: list[tuple[Losses, float, float]], events: list[str | None], levels: list[float]
) -> None:
    """Rows: losses, the wish less the present level, and the highest level that is earned."""
    watch, level, out = watching(START), 0.0, []
    for losses, move, earned in rows:
        happened, (level,) = play([row(losses, earned=earned)], wish=level + move, level=level, watch=watch)
        out.append((happened[0], round(level, 6)))
    assert out == list(zip(events, levels, strict=True))


def test_a_level_that_is_too_high_for_a_training_that_does_not_learn_comes_down() -> None:
    """To the highest level allowed, whatever the policy asks for; a lower wish is heard. It has no way back."""
    for wish, level, event in ((0.9, 0.25, "unearned"), (0.4, 0.25, "unearned"), (0.25, 0.25, None), (0.1, 0.1, None)):
        events, levels = play([row(FLAT, most=0.25)], wish=wish, level=0.4)
        assert (events, levels) == ([event], pytest.approx([level]))
    events, levels = play([row(FLAT, answer=0.0, most=0.25), *[row(SOUND, answer=0.0)] * 4], level=0.4)
    assert (events, levels) == (["unearned", *[None] * 4], pytest.approx([0.25] * 5))


def test_a_policy_that_lowers_the_level_ends_the_rise_that_waits() -> None:
    """A broken loss leads back later; a rise that was refused before the move down does not come back with it."""
    watch = watching(START)
    play([row(FLAT, earned=0.0)], wish=0.4, watch=watch)
    assert watch.rise_deferred.tolist() == [1.0] and watch.target_level.tolist() == pytest.approx([0.4])
    play([row(FLAT)], wish=-0.1, watch=watch)
    assert watch.rise_deferred.tolist() == [0.0] and watch.target_level.tolist() == [-inf]


def free(runs: int) -> dict[str, np.ndarray]:
    """No bound on a level, and no loss that has fallen."""
    return {"earned": np.full(runs, inf), "most": np.full(runs, inf), "fallen": np.zeros(runs, bool)}


def test_only_those_that_begin_again_are_forgotten() -> None:
    watch, zero, both = Guard(2, EQUATION), np.zeros(2), np.ones(2, bool)
    watch.losses.begin(both, np.array([START, START]))
    for losses in ([2.0] * 16, LOST):
        watch.check(zero, level=zero, anchor=zero, losses=np.tile(losses, (2, 1)).T, **free(2))
    watch.begin_again(np.array([True, False]), np.array([-1.0, -1.0]))
    np.testing.assert_array_equal(watch.bound, [np.inf, -1.5])
    np.testing.assert_array_equal(watch.ceiling, [-1.0, np.inf])
    np.testing.assert_array_equal(watch.streak, [0.0, 1.0])
    np.testing.assert_array_equal(watch.losses.fresh, [0.0, 16.0])
    np.testing.assert_array_equal(np.isfinite(watch.losses.past).sum(axis=1), [0, 16])
    np.testing.assert_array_equal(watch.losses.start, [START, START])


def test_the_lower_bound_ends_a_cut() -> None:
    """At an anchor of -3 the span reaches to -5.5, the equation to -4."""
    watch, anchor, level = watching(START), np.full(1, -3.0), np.full(1, -3.4)
    for losses, wanted in ((RUN, -4.0), (SOUND, -3.75)):
        action, _ = watch.check(np.ones(1), level=level, anchor=anchor, losses=np.array(losses)[:, None], **free(1))
        level = EQUATION.apply(level, anchor, action, False)
        assert level == pytest.approx([wanted])


def test_the_first_decision_without_a_policy_is_a_tenth_of_the_blowup() -> None:
    """The anchor lies two decades below it; without a probe it is the anchor. Three runs, whose third answers."""
    action, events = Guard(3, EQUATION).check(
        np.array([nan, nan, 0.5]), level=np.zeros(3), anchor=np.array([-1.0, -1.0, 1.0]), losses=None,
        probed=np.array([True, False, True]), **free(3),
    )  # fmt: skip
    assert events == ["action_nonfinite"] * 2 + [None] and action.tolist() == pytest.approx([0.4, 0.0, 0.5])


@pytest.mark.parametrize("n", [3, 5, 7, 10, 16])
def test_a_plateau_raises_one_alarm_however_short_the_intervals(n: int) -> None:
    events, _ = play([*CALM, *[around(12.0 + i % 2 * 1e-3, n) for i in range(90 // n)]], wish=-9.0)
    assert events.count("loss_rise") == 1
