"""The guards: each event by hand, and invariants of their state."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guarded import CALM, EQUATION, LOST, MISSING, Losses, Row, around, high, play, row, watching
from lrpilot.decisions.guard import Guard

nan, inf = math.nan, math.inf
SOUND, RISE, RUN = around(2.0), around(12.0), around(100.0)


@pytest.mark.parametrize(
    ("last", "event", "level"),
    [
        (SOUND, None, 0.0),
        (high(1e9, 1), None, 0.0),  # one loss is no evidence
        (high(1e9, 8), None, 0.0),
        (high(23.0), "loss_rise", -0.5),
        (row(RISE, answer=-0.8), "loss_rise", -1.2),
        (high(25.0), "loss_runaway", -1.5),
        (LOST, "loss_nonfinite", -1.5),
        ([*SOUND, -inf], "loss_nonfinite", -1.5),
        ([*SOUND, inf, nan, nan], "loss_nonfinite", -1.5),  # those that are nan are left out
        ([inf] * 9 + [2.0], None, 0.0),
        ([nan] * 9 + [2.0], None, 0.0),
        ([*SOUND, nan], None, 0.0),
        ([*RISE, inf], "loss_nonfinite", -1.5),
        (MISSING, "loss_missing", 0.0),
        ([nan] * 3, "loss_missing", 0.0),
        (row(MISSING, answer=-1.0), "loss_missing", 0.0),
        (row(MISSING, answer=1.0, earned=-1.0), "loss_missing", 0.0),
        (row(SOUND, failed=True), "policy_failed", 0.0),
        (row(SOUND, answer=nan), "action_nonfinite", 0.0),
        (row(SOUND, answer=-inf), "action_nonfinite", 0.0),
        (row(SOUND, answer=1.002), "action_out_of_bounds", 0.0),
        (row(SOUND, answer=-40.0), "action_out_of_bounds", 0.0),
        (row(SOUND, answer=7.0, earned=-1.0), "action_out_of_bounds", 0.0),
        (row(SOUND, answer=1.0005), None, 0.5),
        (row(SOUND, answer=1.0005, earned=0.2), "unearned", 0.2),
        (row(RISE, answer=nan), "loss_rise", -0.5),
        (row(RISE, answer=1.0, earned=-1.0), "loss_rise", -0.5),
    ],
)
def test_what_one_interval_does(last: Losses | Row, event: str | None, level: float) -> None:
    events, levels = play([*CALM, last])
    assert events == [None] * 3 + [event] and levels[-1] == pytest.approx(level)


def test_a_new_plateau_raises_one_alarm_and_a_loss_that_climbs_one_each() -> None:
    plateau, _ = play([*CALM, *[RISE] * 9], wish=-9.0)
    assert plateau == [None] * 3 + ["loss_rise"] + [None] * 8
    climbing, levels = play([*CALM, RISE, around(18.0), around(24.0)])
    assert climbing[3:] == ["loss_rise"] * 3 and levels[-1] == pytest.approx(-1.5)


CLIMB = [around(middle) for middle in (510.0, 760.0, 890.0, 960.0)]
BEFORE = around(1000.0, 16)


def test_a_loss_that_climbs_whatever_is_done_is_not_the_rates_doing() -> None:
    """Three times the level is lowered in vain; then it is led back, and guarded where it goes higher than it was."""
    for answer in ({}, {"answer": 0.0}):
        watch = watching(BEFORE)
        rows = [row(losses, **answer) for losses in (*CLIMB, *[CLIMB[-1]] * 3)]
        events, levels = play([*CALM, *rows], watch=watch)
        assert events[3:] == ["loss_rise"] * 3 + [None] * 4 and watch.exempt.tolist() == [True]
        assert levels[5:] == pytest.approx([-1.5, -1.0, -0.5, 0.0, 0.0])
        lost, levels = play([LOST], watch=watch)
        assert lost == ["loss_nonfinite"] and levels == [-1.5]
        higher, levels = play([*[CLIMB[-1]] * 3, around(990.0)], wish=0.5, level=levels[0], watch=watch)
        assert higher == [None] * 4 and levels[-1] == pytest.approx(0.5)
        higher, levels = play([around(1010.0)], wish=0.5, level=0.5, watch=watch)
        assert higher == ["loss_runaway"] and levels == pytest.approx([-1.0])


def test_a_loss_that_stops_climbing_does_not() -> None:
    watch = watching(BEFORE)
    events, levels = play([*CALM, *CLIMB[:3], *[around(889.9)] * 6], watch=watch)
    assert events[3:6] == ["loss_rise"] * 3 and not watch.exempt.any()
    assert levels[5] == pytest.approx(-1.5) and levels[6] == pytest.approx(-1.25)


def test_recovery_gives_a_quarter_decade_per_decision_until_the_level_is_back() -> None:
    events, levels = play([*CALM, RISE, *[SOUND] * 4], wish=0.3, level=0.3)
    assert events == [None] * 3 + ["loss_rise", "recovery", None, None, None]
    np.testing.assert_allclose(levels[2:], [0.3, -0.2, 0.05, 0.3, 0.3, 0.3])
    higher, levels = play([*CALM, RISE, *[SOUND] * 7], wish=2.0)
    assert higher[3:] == ["loss_rise", "recovery", *[None] * 6]
    assert levels[-1] == 2.0


HELD, HELD_RISE = row(SOUND, answer=0.0), row(RISE, answer=0.0)


@pytest.mark.parametrize(
    ("rows", "events", "levels"),
    [
        # a back-off is made up for, a quarter of a decade at a time
        ([HELD_RISE, *[HELD] * 4], ["loss_rise", "recovery", "recovery", None, None], [-0.5, -0.25, 0.0, 0.0, 0.0]),
        # a cut but for half a decade: what diverged there would again
        ([row(RUN, answer=0.0), *[HELD] * 6], ["loss_runaway", *["recovery"] * 4, None, None],
         [-1.5, -1.25, -1.0, -0.75, -0.5, -0.5, -0.5]),
        # unless the loss was lost for other reasons: as fast as a policy may rise, and all the way
        ([row(LOST, answer=0.0), *[HELD] * 4], ["loss_nonfinite", *["recovery"] * 3, None],
         [-1.5, -1.0, -0.5, 0.0, 0.0]),
        # a move of the policy's own, up or down, is what it wants from there
        ([HELD_RISE, row(SOUND, answer=-0.1), *[HELD] * 3], ["loss_rise", *[None] * 4],
         [-0.5, -0.65, -0.65, -0.65, -0.65]),
        # a second back-off on the way begins anew
        ([HELD_RISE, row(RISE, answer=0.0), row(around(18.0), answer=0.0), *[HELD] * 5],
         ["loss_rise", "recovery", "loss_rise", *["recovery"] * 3, None, None],
         [-0.5, -0.25, -0.75, -0.5, -0.25, 0.0, 0.0, 0.0]),
    ],
)  # fmt: skip
def test_a_level_that_is_held_is_led_back(rows: list[Row], events: list[str | None], levels: list[float]) -> None:
    happened, reached = play([*CALM, *rows])
    assert happened[3:] == events
    assert reached[3:] == pytest.approx(levels)


def test_runaway_cuts_then_waits_while_the_loss_falls_then_takes_the_loss_for_what_it_is() -> None:
    events, levels = play([*CALM, *[around(100.0 - i) for i in range(8)]])
    assert events[3:8] == ["loss_runaway"] * 5
    assert levels[3:8] == [-1.5] * 5
    assert events[8:] == ["recovery"] * 3  # the fifth accepts 96 as the loss before training
    assert levels[-1] == -0.75


def test_a_training_begins_with_losses_of_its_own_where_there_was_no_probe() -> None:
    events, levels = play([SOUND, SOUND, RUN], start=None)
    assert events == [None, None, "loss_runaway"] and levels[-1] == -1.5


def test_what_no_rate_heals_does_not_lower_it_for_ever() -> None:
    events, levels = play([*CALM, *[LOST] * 30], wish=1.0, level=1.0)
    assert None not in events[3:] and levels[-1] == levels[6] >= -2.5


@pytest.mark.parametrize(
    ("answer", "failed", "probed", "want", "event"),
    [
        (0.3, False, True, 0.3, None),
        (nan, False, True, 0.4, "action_nonfinite"),
        (7.0, False, True, 0.4, "action_out_of_bounds"),
        (0.3, True, True, 0.4, "policy_failed"),
        (nan, False, False, 0.0, "action_nonfinite"),  # the anchor
    ],
)
def test_first_decision(answer: float, failed: bool, probed: bool, want: float, event: str | None) -> None:
    action, events = Guard(1, EQUATION).check(
        np.array([answer]), level=np.zeros(1), anchor=np.zeros(1), losses=None, earned=np.full(1, inf),
        most=np.full(1, inf), fallen=np.zeros(1, bool), probed=probed, failed=failed,
    )  # fmt: skip
    assert events == [event] and action.tolist() == pytest.approx([want])


# invariants

worlds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
GRAIN = 2.0**-10  # of drawn losses: with shifts and powers of two they stay exact


def draw(rng: np.random.Generator, runs: int, decisions: int) -> list[Row]:
    """Random intervals: walks of the loss with jumps, and now and then nothing finite or nothing at all."""
    means = 5 * np.exp(np.cumsum(rng.normal(0, 0.4, (decisions, runs)), axis=0))
    rows = []
    for mean in means:
        n = int(rng.integers(13)) if rng.random() > 0.05 else 0
        losses = mean * rng.lognormal(0, rng.uniform(0, 0.3), (n, runs))
        losses = np.where(rng.random((n, runs)) < 0.05, np.nan, np.round(losses / GRAIN) * GRAIN)
        losses[:, rng.random(runs) < 0.05] = np.nan
        losses[max(n - 3, 0) :, rng.random(runs) < 0.05] = np.inf
        answer = np.where(rng.random(runs) < 0.1, np.nan, rng.uniform(-1.1, 1.1, runs))
        most = np.where(rng.random(runs) < 0.05, rng.normal(0.0, 1.0, runs), inf)
        rows.append({"losses": losses, "answer": answer, "earned": rng.normal(1.0, 2.0, runs), "most": most})
    return rows


def drive(
    watch: Guard, rows: list[Row], level: np.ndarray, which: slice = slice(None), scale: float = 1.0, shift: float = 0.0
) -> Any:
    """Events and levels (decisions, runs) of the runs `which`; losses times `scale`, plus `shift`."""
    seen, anchor = [], np.zeros(len(level))
    if np.isnan(watch.losses.past).all():
        begin = np.round(np.array(around(5.0, 16)) / GRAIN) * GRAIN
        watch.losses.begin(np.arange(len(level)) % 2 == 0, np.tile(begin * scale + shift, (len(level), 1)))
    for r in rows:
        action, events = watch.check(
            r["answer"][which], level=level, anchor=anchor, losses=r["losses"][:, which] * scale + shift,
            earned=r["earned"][which], most=r["most"][which], fallen=watch.losses.clearly_below_start(),
        )  # fmt: skip
        level = EQUATION.apply(level, anchor, action, False)
        seen.append((events, level.tolist()))
    return seen, level


def drawn(rng: np.random.Generator, **changed: float) -> Any:
    return drive(Guard(3, EQUATION), draw(rng, 3, 30), np.zeros(3), **changed)[0]


def test_drawn_worlds_show_every_event() -> None:
    seen = {event for seed in range(12) for events, _ in drawn(np.random.default_rng(seed)) for event in events}
    assert seen == {
        None, "loss_nonfinite", "loss_missing", "loss_runaway", "loss_rise", "action_nonfinite", "action_out_of_bounds",
        "recovery", "unearned",
    }  # fmt: skip


@given(worlds)
@settings(max_examples=25, deadline=None)
def test_runs_do_not_see_each_other(rng: np.random.Generator) -> None:
    rows = draw(rng, 4, 20)
    together, _ = drive(Guard(4, EQUATION), rows, np.zeros(4))
    for i in (0, 2):  # those with a loss before training
        alone, _ = drive(Guard(1, EQUATION), rows, np.zeros(1), slice(i, i + 1))
        assert [([e[i]], [z[i]]) for e, z in together] == alone


@given(worlds, st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_a_saved_guard_goes_on(rng: np.random.Generator, stop: int) -> None:
    rows = draw(rng, 3, 20)
    whole, _ = drive(Guard(3, EQUATION), rows, np.zeros(3))
    first, second = Guard(3, EQUATION), Guard(3, EQUATION)
    before, level = drive(first, rows[:stop], np.zeros(3))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    after, _ = drive(second, rows[stop:], level)
    assert before + after == whole


@given(st.integers(0, 2**32 - 1), st.integers(-20, 20), st.integers(-(2**20), 2**20))
@settings(max_examples=25, deadline=None)
def test_neither_unit_nor_origin_of_the_loss_matters(seed: int, power: int, shift: int) -> None:
    want = drawn(np.random.default_rng(seed))
    assert drawn(np.random.default_rng(seed), scale=2.0**power) == want
    assert drawn(np.random.default_rng(seed), shift=float(shift)) == want


@given(worlds)
@settings(max_examples=25, deadline=None)
def test_levels_stay_within_reach_and_actions_finite(rng: np.random.Generator) -> None:
    levels = np.array([z for _, z in drawn(rng)])
    assert np.all(np.abs(levels) <= 2.5)


@given(st.lists(st.floats(0.0, 1.0), min_size=30, max_size=100), st.floats(-100.0, 100.0), st.integers(4, 16))
@settings(max_examples=40, deadline=None)
def test_a_loss_that_never_rises_raises_no_alarm(falls: list[float], start: float, n: int) -> None:
    losses = (start - np.cumsum(falls)).tolist()
    rows = [losses[i : i + n] for i in range(0, len(losses), n)]
    for before in (None, losses[:8]):
        assert play(rows, start=before)[0] == [None] * len(rows)
