"""The guards: each event by hand, and invariants of their state."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guarded import CALM, EQUATION, LOSS0, Row, missing, play, row
from lrpilot.guard import Guard


@pytest.mark.parametrize(
    ("last", "event", "level"),
    [
        (row(2.0), None, 0.0),
        (row(math.nan), "loss_nonfinite", -1.5),
        (row(math.inf), "loss_nonfinite", -1.5),
        (row(math.inf, last=2.0), "loss_nonfinite", -0.5),
        (row(math.inf, last=2.0, grad=math.nan), "loss_nonfinite", -1.5),
        (row(2.0, grad=math.nan), "gradient_nonfinite", -1.5),
        (row(2.0, grad=math.inf), "gradient_nonfinite", -1.5),
        (missing(), "loss_missing", 0.0),
        (missing() | {"answer": -1.0}, "loss_missing", 0.0),
        (missing() | {"grad": math.nan}, "gradient_nonfinite", -1.5),
        (row(30.1), "loss_runaway", -1.5),
        # Training gained 8, of which a tenth is 0.8; four deviations are 0.4 at first, then 1.2.
        (row(2.0, last=2.79), None, 0.0),
        (row(2.0, last=2.81), "spike", -0.5),
        (row(2.0, last=2.81, answer=-0.8), "spike", -1.2),
        (row(2.0, failed=True), "policy_failed", 0.0),
        (row(2.0, answer=math.nan), "action_nonfinite", 0.0),
        (row(2.0, answer=-math.inf), "action_nonfinite", 0.0),
        (row(2.0, answer=1.002), "action_out_of_bounds", 0.0),
        (row(2.0, answer=-40.0), "action_out_of_bounds", 0.0),
        (row(2.0, answer=1.0005), None, 0.5),
        (row(2.0, last=2.81, answer=math.nan), "spike", -0.5),
    ],
)
def test_what_one_interval_does(last: Row, event: str | None, level: float) -> None:
    events, levels = play([*CALM, last])
    assert events == [None] * 4 + [event] and levels[-1] == pytest.approx(level)


@pytest.mark.parametrize(("noise", "last", "event"), [(0.3, 3.19, None), (0.3, 3.21, "spike")])
def test_a_spike_exceeds_the_noise(noise: float, last: float, event: str | None) -> None:
    assert play([row(2.0, noise=noise)] * 4 + [row(2.0, last=last)])[0][-1] == event


def test_one_wild_interval_does_not_dull_the_next() -> None:
    wild = row(2.0, noise=50.0)
    assert play([*CALM[:-1], wild, row(2.0, last=2.81)])[0][-1] == "spike"


@pytest.mark.parametrize("shift", [-12.0, -2.0, 1e3])
def test_losses_may_be_negative_or_near_zero(shift: float) -> None:
    """Only what training gained counts, so a loss may have any origin."""
    for last, event in ((2.79, None), (2.81, "spike")):
        rows = [row(2.0 + shift)] * 4 + [row(2.0 + shift, last=last + shift)]
        # At a loss of hundreds a hundredth of it is the least that counts as gained, here 10.
        event = None if shift > 0 else event
        assert play(rows, loss0=LOSS0 + shift)[0][-1] == event


def test_without_a_known_loss_before_training_noise_alone_decides() -> None:
    assert play([*CALM, row(2.0, last=2.41)], loss0=math.nan)[0][-1] == "spike"
    assert play([*CALM, row(1e6, last=2.39)], loss0=math.nan)[0][-1] is None


def test_nothing_is_judged_before_the_memory_is_full() -> None:
    assert play([*CALM[:-1], row(2.0, last=9.0)])[0][-1] is None


@pytest.mark.parametrize(
    ("means", "noise", "event"),
    [
        ((2.0, 2.3, 2.6, 2.9, 3.2), 0.5, "drift"),
        ((2.0, 2.3, 2.6, 2.9, 3.2), 3.0, None),  # 1.2 is less than half a deviation
        ((2.0, 2.1, 2.2, 2.3, 2.4), 0.5, None),  # 0.4 is less than a tenth of 7.85
        ((2.0, 2.3, 2.2, 2.9, 3.2), 0.5, None),  # fell once
        ((3.2, 2.9, 2.6, 2.3, 2.0), 0.5, None),
    ],
)
def test_drift(means: tuple[float, ...], noise: float, event: str | None) -> None:
    events, levels = play([row(m, noise=noise) for m in means])
    assert events == [None] * 4 + [event]
    assert levels[-1] == (-0.5 if event else 0.0)


def test_a_new_plateau_raises_one_alarm_and_a_loss_that_climbs_one_each() -> None:
    plateau, _ = play([*CALM, row(2.0, last=5.0), *[row(5.0)] * 9], wish=-9.0)
    assert plateau == [None] * 4 + ["spike"] + [None] * 9
    climbing, levels = play([*CALM, row(4.0), row(6.0), row(9.0)])
    assert climbing[4:] == ["spike"] * 3 and levels[-1] == pytest.approx(-1.5)


def test_a_loss_that_climbs_whatever_is_done_is_not_the_rates_doing() -> None:
    """Three times the level is lowered in vain; then it is led back, and guarded where it goes higher than it was."""
    climb = [row(4.0), row(6.0), row(9.0), row(13.0), row(18.0), row(24.0), row(31.0)]
    watch = Guard(1, EQUATION)
    events, levels = play([*CALM, *climb], watch=watch)
    assert events[4:] == ["spike"] * 3 + [None] * 4 and watch.exempt.tolist() == [True]
    assert levels[6:] == pytest.approx([-1.5, -1.0, -0.5, 0.0, 0.0])
    higher, levels = play([row(33.0), row(60.0)], wish=1.0, watch=watch)
    assert higher == [None, "spike"] and levels == pytest.approx([0.5, 0.0])


def test_a_loss_that_stops_climbing_does_not() -> None:
    watch = Guard(1, EQUATION)
    events, levels = play([*CALM, row(4.0), row(6.0), row(9.0), *[row(8.9)] * 6], watch=watch)
    assert events[4:7] == ["spike"] * 3 and not watch.exempt.any()
    assert levels[6] == pytest.approx(-1.5) and levels[7] == pytest.approx(-1.25)


def test_recovery_gives_a_quarter_decade_per_decision_until_the_level_is_back() -> None:
    events, levels = play([*CALM, row(2.0, last=3.0), *CALM], wish=0.3, level=0.3)
    assert events == [None] * 4 + ["spike", "recovery", None, None, None]
    np.testing.assert_allclose(levels[3:], [0.3, -0.2, 0.05, 0.3, 0.3, 0.3])
    higher, levels = play([*CALM, row(2.0, last=3.0), *CALM], wish=2.0)
    assert higher[4:] == ["spike", "recovery", None, None, None]
    assert levels[-1] == 2.0


HELD = {"answer": 0.0}


@pytest.mark.parametrize(
    ("rows", "events", "levels"),
    [
        # a back-off is made up for, a quarter of a decade at a time
        ([row(2.0, last=3.0, **HELD), *[row(2.0, **HELD)] * 4], ["spike", "recovery", "recovery", None, None],
         [-0.5, -0.25, 0.0, 0.0, 0.0]),
        # a cut but for half a decade: what diverged there would again
        ([row(math.nan, **HELD), *[row(2.0, **HELD)] * 6], ["loss_nonfinite", *["recovery"] * 4, None, None],
         [-1.5, -1.25, -1.0, -0.75, -0.5, -0.5, -0.5]),
        # a move of the policy's own, up or down, is what it wants from there
        ([row(2.0, last=3.0, **HELD), row(2.0, answer=-0.1), *[row(2.0, **HELD)] * 3], ["spike", *[None] * 4],
         [-0.5, -0.65, -0.65, -0.65, -0.65]),
        # a second back-off on the way begins anew
        ([row(2.0, last=3.0, **HELD), row(2.0, **HELD), row(2.0, last=5.0, **HELD), *[row(2.0, **HELD)] * 5],
         ["spike", "recovery", "spike", *["recovery"] * 3, None, None],
         [-0.5, -0.25, -0.75, -0.5, -0.25, 0.0, 0.0, 0.0]),
    ],
)  # fmt: skip
def test_a_level_that_is_held_is_led_back(rows: list[Row], events: list[str | None], levels: list[float]) -> None:
    happened, reached = play([*CALM, *rows])
    assert happened[4:] == events
    assert reached[4:] == pytest.approx(levels)


def test_runaway_cuts_then_waits_while_the_loss_falls_then_takes_the_loss_for_what_it_is() -> None:
    events, levels = play([*CALM, *[row(100.0 - i) for i in range(8)]])
    assert events[4:8] == ["loss_runaway"] * 4
    assert levels[4:8] == [-1.5] * 4
    assert events[8:] == ["loss_runaway", "recovery", "recovery", "recovery"]  # the fifth accepts 96 as the scale
    assert levels[-1] == -0.75


@pytest.mark.parametrize("broken", [row(math.nan), row(2.0, grad=math.inf), row(math.inf, last=2.0)])
def test_what_no_rate_heals_does_not_lower_it_for_ever(broken: Row) -> None:
    events, levels = play([*CALM, *[broken] * 30], wish=1.0, level=1.0)
    assert None not in events[4:] and levels[-1] == levels[7] >= -2.5


@pytest.mark.parametrize(
    ("answer", "failed", "loss0", "want", "event"),
    [
        (0.3, False, 1.0, 0.3, None),
        (math.nan, False, 1.0, 0.4, "action_nonfinite"),
        (7.0, False, 1.0, 0.4, "action_out_of_bounds"),
        (0.3, True, 1.0, 0.4, "policy_failed"),
        (math.nan, False, math.nan, 0.0, "action_nonfinite"),  # no probe: the anchor
    ],
)
def test_first_decision(answer: float, failed: bool, loss0: float, want: float, event: str | None) -> None:
    action, events = Guard(1, EQUATION).check(
        np.array([answer]), level=np.zeros(1), anchor=np.zeros(1), interval=None, loss0=np.array([loss0]),
        missing=False, failed=failed,
    )  # fmt: skip
    assert events == [event] and action.tolist() == pytest.approx([want])


# invariants

worlds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def draw(rng: np.random.Generator, runs: int, decisions: int) -> list[Row]:
    """Random intervals: walks of the loss with jumps, and now and then nothing finite or nothing at all."""
    means = 5 * np.exp(np.cumsum(rng.normal(0, 0.4, (decisions, runs)), axis=0))
    rows = []
    for mean in means:
        mean = np.where(rng.random(runs) < 0.05, np.nan, mean)
        rows.append({
            "interval": {
                "loss_mean": mean, "loss_last": mean * rng.lognormal(0, 0.3, runs),
                "loss_noise": np.abs(mean) * rng.uniform(0, 0.2, runs),
                "grad_norm": np.where(rng.random(runs) < 0.05, np.inf, 1.0),
            },
            "answer": np.where(rng.random(runs) < 0.1, np.nan, rng.uniform(-1.1, 1.1, runs)),
            "missing": rng.random(runs) < 0.05,
        })  # fmt: skip
    return rows


def drive(watch: Guard, rows: list[Row], level: np.ndarray, which: slice = slice(None), scale: float = 1.0) -> Any:
    """Events and levels (decisions, runs) of the runs `which`; losses times `scale`."""
    seen, anchor = [], np.zeros(len(level))
    for r in rows:
        interval = {k: v[which] * (scale if k != "grad_norm" else 1.0) for k, v in r["interval"].items()}
        action, events = watch.check(
            r["answer"][which], level=level, anchor=anchor, interval=interval,
            loss0=np.full(len(level), 5.0 * scale), missing=r["missing"][which],
        )  # fmt: skip
        level = EQUATION.apply(level, anchor, action, False)
        seen.append((events, level.tolist()))
    return seen, level


@given(worlds)
@settings(max_examples=25, deadline=None)
def test_runs_do_not_see_each_other(rng: np.random.Generator) -> None:
    rows = draw(rng, 4, 20)
    together, _ = drive(Guard(4, EQUATION), rows, np.zeros(4))
    for i in range(4):
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


@given(worlds, st.integers(-20, 20))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_the_loss_does_not_matter(rng: np.random.Generator, power: int) -> None:
    rows = draw(rng, 3, 20)
    assert (
        drive(Guard(3, EQUATION), rows, np.zeros(3))[0]
        == drive(Guard(3, EQUATION), rows, np.zeros(3), scale=2.0**power)[0]
    )


@given(worlds)
@settings(max_examples=25, deadline=None)
def test_levels_stay_within_reach_and_actions_finite(rng: np.random.Generator) -> None:
    levels = np.array([z for _, z in drive(Guard(3, EQUATION), draw(rng, 3, 60), np.zeros(3))[0]])
    assert np.all(np.abs(levels) <= 2.5)


@given(st.lists(st.floats(0.0, 1.0), min_size=6, max_size=30), st.floats(-100.0, 100.0))
def test_a_loss_that_never_rises_raises_no_alarm(falls: list[float], start: float) -> None:
    means = start - np.cumsum(falls)
    events, _ = play([row(m, noise=0.0) for m in means], loss0=start)
    assert events == [None] * len(means)
