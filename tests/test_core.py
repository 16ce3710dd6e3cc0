"""The framework-free core: cadence, actions, probe, telemetry, features, guard, pilot."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrpilot import features, probe, telemetry
from lrpilot.actions import ActionEquation, envelope, reference
from lrpilot.cadence import Cadence, CadenceSpec
from lrpilot.features import CLIP, NAMES, Observer
from lrpilot.guard import RUNAWAY, guard
from lrpilot.pilot import Pilot, Protocol

LG = math.log10
steps = st.one_of(st.integers(1, 300), st.integers(1, 10_000_000))


# cadence


@given(n=steps, probed=st.booleans())
def test_grid_increases_strictly_and_covers(n: int, probed: bool) -> None:
    c = Cadence(CadenceSpec(), n, probed)
    assert np.all(np.diff(c.bounds) > 0)
    assert c.bounds[0] == c.probe_steps and c.bounds[-1] == n
    assert 1 <= c.decisions <= c.spec.early + c.spec.late + 1
    assert (c.probe_steps == 0) == (not probed or n < c.spec.probe_from)
    if c.probe_steps:
        assert c.spec.probe_min <= c.probe_steps <= min(c.spec.probe_max, n - 1)


@given(n=st.integers(1, 3000), probed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_windows_and_kept_losses_lie_in_their_interval(n: int, probed: bool) -> None:
    c = Cadence(CadenceSpec(), n, probed)
    for i, (begin, end) in enumerate(zip(c.bounds[:-1], c.bounds[1:], strict=True)):
        assert max(begin, end - c.spec.window) == c.window_start(i) < end
        kept = [s for s in range(begin - 3, end + 1) if c.keeps_loss(i, s)]
        assert begin < kept[0] and kept[-1] == end and len(kept) <= c.spec.losses
        assert len(kept) > min(end - begin, c.spec.losses) // 2


def test_ten_million_steps_cost_no_more_decisions_than_thousands() -> None:
    decisions = {n: Cadence(CadenceSpec(), n, True).decisions for n in (2_000, 10_000, 10_000_000)}
    assert len(set(decisions.values())) == 1


# actions

level = st.floats(-6, 6)


@given(level, level, st.floats(-1, 1), st.booleans())
def test_inverted_actions_come_back(at: float, anchor: float, action: float, first: bool) -> None:
    equation = ActionEquation()
    z, a, u = (np.array([v]) for v in (at, anchor, action))
    new = equation.apply(z, a, u, first)
    assert equation.low <= new[0] <= equation.high
    if abs(new[0] - anchor) <= equation.span:
        np.testing.assert_allclose(equation.apply(z, a, equation.invert(a, new), first), new, atol=1e-9)
    if new[0] == pytest.approx(anchor + equation.span * action, abs=1e-12):
        np.testing.assert_allclose(equation.invert(a, new), u, atol=1e-9)


@given(level, level, level, st.booleans())
def test_inverse_comes_as_close_as_an_action_can(at: float, anchor: float, wanted: float, first: bool) -> None:
    equation = ActionEquation()
    z, a = np.array([at]), np.array([anchor])
    best = equation.apply(z, a, equation.invert(a, np.array([wanted])), first)[0]
    others = [equation.apply(z, a, np.array([u]), first)[0] for u in np.linspace(-1, 1, 21)]
    assert abs(best - wanted) <= min(abs(o - wanted) for o in others) + 1e-9


def test_levels_rise_slowly_and_fall_fast_after_the_first_action() -> None:
    equation, zero = ActionEquation(), np.zeros(2)
    ends = np.array([1.0, -1.0])
    assert equation.apply(zero, zero, ends, first=True).tolist() == [equation.span, -equation.span]
    assert equation.apply(zero, zero, ends, first=False).tolist() == [equation.rise, -equation.fall]


def test_envelope_falls_linearly_to_half_a_step_and_stays() -> None:
    np.testing.assert_allclose(
        [envelope(s, 4) for s in (0, 1, 2, 3, 4, 99)], [7 / 8, 5 / 8, 3 / 8, 1 / 8, 1 / 8, 1 / 8]
    )


def test_unknown_optimizer_kind() -> None:
    with pytest.raises(ValueError, match="optimizer: 'lion', want one of"):
        reference("lion")


# probe: curves of 40 steps over 5.5 decades, written by hand

STEPS = 40
Z = probe.levels(STEPS)


def ends(curve: np.ndarray) -> tuple[int, probe.Landmarks]:
    """Feed one curve step by step, as a pilot does: steps used and landmarks."""
    loss = np.full((1, STEPS), np.nan)
    for done in range(1, STEPS + 1):
        loss[0, done - 1] = curve[done - 1]
        if probe.has_ended(loss, done)[0]:
            return done, probe.landmarks(loss, np.array([done]))
    raise AssertionError("a probe ends with its last step at the latest")


def bump(at: int, descent: float = 0.8) -> np.ndarray:
    """Flat at 2, a straight fall by `descent` over steps 15..25, then an explosion from step `at` on."""
    curve = 2 - descent * np.clip((np.arange(STEPS) - 15) / 10, 0, 1)
    curve[at:] *= 10.0 ** np.arange(1, STEPS - at + 1)
    return curve


@pytest.mark.parametrize("at", [27, 30, 36])
def test_blowup_is_found_where_it_is(at: int) -> None:
    used, marks = ends(bump(at))
    assert at < used <= at + 2
    assert marks.blown[0] and abs(marks.blowup[0] - Z[at - 1]) <= 2 * (Z[1] - Z[0])
    assert marks.loss0[0] == pytest.approx(2.0)
    assert marks.noise[0] == pytest.approx(0.0, abs=1e-9)
    assert Z[15] <= marks.steepest[0] <= Z[26]
    assert Z[22] <= marks.lowest[0] <= marks.blowup[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 3, 20])
def test_a_loss_that_is_not_finite_ends_the_probe_at_once(at: int, bad: float) -> None:
    curve = np.ones(STEPS)
    curve[at] = bad
    used, marks = ends(curve)
    assert used == at + 1 and marks.blown[0] and marks.blowup[0] == Z[max(at - 1, 0)]


@pytest.mark.parametrize("curve", [np.ones(STEPS), np.linspace(2, 1, STEPS), 1 + 0.3 * (np.arange(STEPS) % 2)])
def test_a_calm_curve_is_probed_to_its_end(curve: np.ndarray) -> None:
    used, marks = ends(curve)
    assert used == STEPS and not marks.blown[0] and marks.blowup[0] == probe.HIGH


@pytest.mark.parametrize(("deviation", "at_most"), [(0.1, 0.01), (0.2, 0.02), (0.3, 0.1), (0.5, 0.2)])
@pytest.mark.parametrize("n", [16, 40, 120])
def test_noise_alone_seldom_ends_a_probe(n: int, deviation: float, at_most: float) -> None:
    """Share of 300 probes of gamma-distributed losses without any trend that end early."""
    shape = deviation**-2
    loss = np.random.default_rng(0).gamma(shape, 1 / shape, (300, n))
    early = np.any([probe.has_ended(loss, done) for done in range(1, n)], axis=0)
    assert early.mean() <= at_most


@pytest.mark.parametrize("seed", range(10))
def test_a_blowup_is_found_through_noise(seed: int) -> None:
    noise = np.random.default_rng(seed).gamma(25, 1 / 25, STEPS)  # a deviation of 0.2
    used, marks = ends(bump(30) * noise)
    assert 30 <= used <= 33 and marks.blown[0]


def test_loss_of_a_step_judges_the_rate_before_it() -> None:
    curve = np.linspace(2.0, 1.0, STEPS)
    _, marks = ends(curve)
    keep = probe.smoothing(STEPS)
    np.testing.assert_allclose(marks.smooth[0, :-1], probe.smooth_curve(curve[None], keep)[0, 1:])
    assert np.isnan(marks.smooth[0, -1])


def test_smoothing_by_hand() -> None:
    np.testing.assert_allclose(
        probe.smooth_curve(np.array([[1.0, 3.0, np.nan, 1.0]]), 0.5), [[1.0, 7 / 3, np.nan, np.nan]]
    )


# telemetry


def test_sketch_covers_small_nets_and_samples_large_ones() -> None:
    assert np.array_equal(telemetry.sketch_coordinates(telemetry.SKETCH), np.arange(telemetry.SKETCH))
    large = telemetry.sketch_coordinates(10**9)
    assert 0.99 * telemetry.SKETCH < len(large) <= telemetry.SKETCH and np.all(np.diff(large) > 0)
    assert np.array_equal(large, telemetry.sketch_coordinates(10**9))


def test_losses_by_hand() -> None:
    told = telemetry.summarise_losses(np.array([[1.0], [3.0], [2.0]]))
    assert {k: v.item() for k, v in told.items()} == pytest.approx(
        {"loss_mean": 2.0, "loss_last": 2.0, "loss_noise": math.sqrt((4 + 1) / 2 / 2)}
    )
    assert telemetry.summarise_losses(np.array([[5.0]]))["loss_noise"] == 0.0


def test_window_by_hand() -> None:
    sketch = telemetry.Sketch(scale=2.0)
    sketch.open(np.array([0.0, 0.0]))
    sketch.gradient(np.array([3.0, 4.0]))
    sketch.gradient(np.array([4.0, 3.0]))
    first = sketch.close(np.array([3.0, 4.0]))
    assert first == pytest.approx(
        {"grad_norm": 10.0, "grad_cos": 24 / 25, "update_norm": 5.0, "update_cos": 0.0, "weight_norm": 10.0}
    )
    sketch.open(np.array([3.0, 4.0]))
    sketch.gradient(np.array([3.0, 4.0]), measured=6.0)
    second = sketch.close(np.array([0.0, 0.0]))
    assert second == pytest.approx(
        {"grad_norm": 6.0, "grad_cos": 0.0, "update_norm": 10.0, "update_cos": -1.0, "weight_norm": 0.0}
    )


# features


def told(**changes: float) -> dict[str, np.ndarray]:
    fields = dict(loss_mean=1.0, loss_last=1.0, loss_noise=0.0, grad_norm=1.0, grad_cos=0.0, update_norm=1.0,
                  update_cos=0.0, weight_norm=1.0, val_loss=math.nan)  # fmt: skip
    return {k: np.array([v]) for k, v in (fields | changes).items()}


def seen(
    observer: Observer, interval: dict[str, Any] | None, step: int, z: float = 0.0, **kw: float
) -> dict[str, float]:
    column = {k: np.array([kw.get(k, 0.0)]) for k in ("anchor", "highest", "last_move")}
    row = observer.observation(step, np.array([z]), **column, interval=interval, interval_steps=50)
    assert row.shape == (1, len(NAMES)) and row.dtype == np.float32
    return dict(zip(NAMES, row[0].tolist(), strict=True))


def test_first_observation_by_hand() -> None:
    row = seen(Observer(1, 1000, is_sgd=True, steps_per_epoch=10.0), None, 0, z=1.5)
    want = dict.fromkeys(NAMES, 0.0) | {
        "progress": -1.0, "log_progress": -3 / 1.5 + 1, "first": 1.0, "is_sgd": 1.0, "has_epochs": 1.0,
        "log_epochs": 1.0,
    }  # fmt: skip
    assert row == pytest.approx(want, abs=1e-6)


def test_later_observation_by_hand() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    intervals = [
        told(loss_mean=2.0, grad_norm=4.0, weight_norm=10.0, val_loss=3.0),
        told(loss_mean=1.0),
        told(loss_mean=1.25, loss_last=1.5, loss_noise=0.25, grad_norm=0.4, grad_cos=0.5, update_norm=0.2,
             update_cos=-0.25, weight_norm=20.0, val_loss=1.5),
    ]  # fmt: skip
    for interval in intervals:
        observer.see_interval(interval)
    row = seen(observer, intervals[-1], 250, z=-1.0, anchor=-2.0, highest=-0.5, last_move=0.25)
    want = dict.fromkeys(NAMES, 0.0) | {
        "progress": -0.5, "log_progress": LG(0.251) / 1.5 + 1, "level": -0.5, "level_to_anchor": 1.0,
        "level_to_highest": -0.5, "last_move": 0.5, "interval": LG(0.05) + 2, "log_steps": 0.0, "is_sgd": -1.0,
        "loss_total": 2 * LG(1.25 / 2), "loss_last": 10 * LG(1.5 / 1.25), "loss_slope": 10 * LG(1.25),
        "loss_slope_4": 0.0, "loss_to_best": 5 * LG(1.25), "since_best": 0.1, "loss_noise": 0.4,
        "grad_norm": -1.0, "grad_cos": 1.5, "update_ratio": LG(0.01) / 2 + 1.5, "update_cos": -0.5,
        "weight_norm": 3 * LG(2.0), "has_val": 1.0, "val_total": 2 * LG(0.5), "val_slope": CLIP * -1,
        "val_slope_4": 0.0, "val_to_best": 0.0, "val_gap": 2 * LG(1.5 / 1.25),
    }  # fmt: skip
    assert row == pytest.approx(want, abs=1e-6)


def test_probe_columns_by_hand() -> None:
    loss = bump(30)[None]
    used = np.array([ends(loss[0])[0]])
    marks = probe.landmarks(loss, used)
    observer = Observer(1, 1000, is_sgd=False)
    grad = np.where(np.arange(STEPS) < used, 10.0 ** (Z - Z[0]) / 10, np.nan)[None]
    observer.see_probe(marks, grad, np.array([True]))
    row = seen(observer, None, 40)
    edge = marks.blowup[0]
    assert row["probed"] == 1.0 and row["probe_blown"] == 1.0
    assert row["probe_blowup"] == pytest.approx(edge / 2)
    assert row["probe_lowest"] == pytest.approx(marks.lowest[0] - edge)
    assert row["probe_steepest"] == pytest.approx(marks.steepest[0] - edge)
    # Three decades below the edge the curve is flat; the gradient norm grows like the rate, up to the clip.
    assert row["probe_loss_-3"] == pytest.approx(0.0, abs=1e-6)
    assert row["probe_loss_-0.5"] < -0.2
    assert row["probe_grad_-2"] == pytest.approx(edge - 2 - Z[0], abs=1e-5)
    assert observer.loss0[0] == pytest.approx(2.0)


wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
ROWS = 5  # decisions


@given(
    arrays(np.float64, (ROWS, 3, len(telemetry.INTERVAL)), elements=wild),
    arrays(np.float64, (2, 3, 16), elements=wild),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_observations_are_finite_clipped_and_independent(told_: np.ndarray, probes: np.ndarray, probed: bool) -> None:
    """Whatever is told, every feature is within the clip; and a batch of runs equals single runs bit for bit."""

    def run(which: slice) -> np.ndarray:
        intervals = told_[:, which]
        k = intervals.shape[1]
        epochs = np.array([5.0, np.nan, 7.0])[which]
        observer = Observer(k, 100, is_sgd=False, steps_per_epoch=epochs)
        if probed:
            loss, used = probes[0, which], np.array([16, 9, 1])[which]
            observer.see_probe(probe.landmarks(loss, used), probes[1, which], np.array([True, False, True])[which])
        rows, z = [], np.array([-1.0, 0.5, 2.0])[which]
        for d in range(ROWS):
            interval = {name: intervals[d, :, i] for i, name in enumerate(telemetry.INTERVAL)}
            observer.see_interval(interval)
            rows.append(observer.observation(20 * d, z, z - 0.3, z + 0.1, z / 9, interval, 20))
        return np.stack(rows)

    together = run(slice(0, 3))
    assert np.isfinite(together).all() and np.abs(together).max() <= CLIP
    for i in range(3):
        np.testing.assert_array_equal(run(slice(i, i + 1))[:, 0], together[:, i])


def test_validation_that_is_masked_leaves_the_rest_alone() -> None:
    a, b = Observer(1, 1000, is_sgd=False), Observer(1, 1000, is_sgd=False)
    for observer, val in ((a, math.nan), (b, 3.0)):
        observer.see_interval(told(loss_mean=2.0, val_loss=val))
    one, two = (seen(o, told(loss_mean=2.0), 100) for o in (a, b))
    assert {k for k in NAMES if one[k] != two[k]} <= {k for k in NAMES if "val" in k.split("_")}
    assert all(one[k] == 0.0 for k in NAMES if k.startswith(("has_val", "val_")))


# guard


@pytest.mark.parametrize(
    ("action", "loss", "missing", "want", "event"),
    [
        (0.3, None, False, 0.3, None),
        (0.3, 2.0, False, 0.3, None),
        (math.nan, 2.0, False, 0.1, "action_nonfinite"),
        (-math.inf, None, False, 0.1, "action_nonfinite"),
        (0.3, math.nan, False, -0.9, "loss_nonfinite"),
        (math.nan, math.inf, False, -0.9, "loss_nonfinite"),
        (0.3, 1.01 * RUNAWAY, False, -0.9, "loss_runaway"),
        (0.3, 0.99 * RUNAWAY, False, 0.3, None),
        (0.3, math.nan, True, 0.1, "loss_missing"),
    ],
)
def test_guard(action: float, loss: float | None, missing: bool, want: float, event: str | None) -> None:
    given_loss = None if loss is None else np.array([loss])
    hold, cut = np.array([0.1]), np.array([-0.9])
    safe, events = guard(np.array([action]), hold, cut, given_loss, np.array([1.0]), missing)
    assert safe.tolist() == [want] and events == [event]


# pilot


def quadratic(pilot: Pilot, answer: Any, n: int, at: int = 0, stop: int | None = None, state: Any = None) -> list:
    """Gradient descent of `pilot.runs` one-weight problems under a pilot: rates (steps, runs) from step `at` on."""
    curvature = np.array([0.5, 30.0, 2.0])[: pilot.runs]
    w, start, sketch = state or (np.ones(pilot.runs), np.ones(pilot.runs), telemetry.Sketch(1.0))
    rates = []
    if at == 0 and not pilot.cadence.probe_steps:
        pilot.decide(answer)
    for _ in range(at, n if stop is None else stop):
        if pilot.window_opens:
            sketch.open(w[:, None].copy())
        wanted, gradient = pilot.wants_gradient, curvature * w
        rates.append(pilot.learning_rates())
        loss = curvature * w**2 / 2
        w = w - rates[-1] * gradient
        ended = pilot.advance(loss, np.abs(gradient))
        assert wanted or not pilot.in_window
        if ended.any():
            w = np.where(ended, start, w)
            pilot.decide(answer, ended)
        if pilot.in_window:
            sketch.gradient(gradient[:, None].copy())
        if pilot.due:
            pilot.see(sketch.close(w[:, None].copy()))
            if pilot.step < n:
                pilot.decide(answer)
    return [rates, (w, start, sketch)]


def wavy(seen: np.ndarray) -> np.ndarray:
    return np.sin(seen.astype(np.float64).sum(1))


@pytest.mark.parametrize("probed", [True, False])
def test_runs_in_lock_step_equal_single_runs(probed: bool) -> None:
    """Their probes end at different steps, and neither sees the other."""
    n = 200
    together = Pilot(Protocol(), n, "sgd", runs=2, probed=probed)
    rates, _ = quadratic(together, wavy, n)
    if probed:
        assert together.probe_used[0] != together.probe_used[1]
    solo = Pilot(Protocol(), n, "sgd", probed=probed)
    alone, _ = quadratic(solo, wavy, n)
    np.testing.assert_array_equal(np.stack(rates)[:, 0], np.stack(alone)[:, 0])
    assert solo.history[0].step == solo.probe_used[0]
    assert [d.step for d in solo.history[1:]] == solo.cadence.bounds[1:-1].tolist()


@given(kill=st.integers(0, 120), probed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_pilot_resumes_bit_for_bit(kill: int, probed: bool) -> None:
    def make() -> Pilot:
        return Pilot(Protocol(), 120, "sgd", runs=3, probed=probed)

    whole, first, second = make(), make(), make()
    expected, _ = quadratic(whole, wavy, 120)
    before, state = quadratic(first, wavy, 120, stop=kill)
    second.load_state_dict(first.state_dict())
    if kill == 0 and not probed:
        second = make()
    after, _ = quadratic(second, wavy, 120, at=kill, state=state)
    np.testing.assert_array_equal(np.stack(before + after), np.stack(expected))
    np.testing.assert_equal(
        [dataclasses.asdict(d) for d in second.history], [dataclasses.asdict(d) for d in whole.history]
    )


def test_state_of_another_protocol_is_refused() -> None:
    state = Pilot(Protocol(), 100, "adam").state_dict()
    other = Pilot(Protocol(CadenceSpec(late=8)), 100, "adam")
    with pytest.raises(ValueError, match="protocol: the saved state has"):
        other.load_state_dict(state)


def test_nothing_moves_beyond_the_end() -> None:
    pilot = Pilot(Protocol(), 30, "sgd")
    quadratic(pilot, wavy, 30)
    last, decisions = pilot.learning_rates(), len(pilot.history)
    for _ in range(20):
        pilot.advance(1.0)
        assert not (pilot.due or pilot.in_window or pilot.window_opens or pilot.wants_gradient)
    assert pilot.learning_rates() == last and len(pilot.history) == decisions


def test_a_policy_that_fails_holds_the_level() -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("disk gone")

    pilot = Pilot(Protocol(), 40, "sgd")
    with pytest.warns(UserWarning, match="the policy failed \\(disk gone\\)"):
        quadratic(pilot, broken, 40)
    assert {d.event for d in pilot.history} == {"action_nonfinite"}
    assert {d.level for d in pilot.history} == {Protocol().action.anchor}
    with pytest.raises(RuntimeError, match="disk gone"):
        quadratic(Pilot(Protocol(), 40, "sgd", strict=True), broken, 40)


def test_feature_names_are_unique_and_versioned() -> None:
    assert len(set(NAMES)) == len(NAMES) and features.VERSION >= 1
