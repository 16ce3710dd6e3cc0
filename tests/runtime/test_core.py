"""The framework-free core's parts: cadence, actions, probe, telemetry."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curves import STEPS, Z, bump, ends
from lrpilot import probe, telemetry
from lrpilot.actions import ActionEquation, envelope, reference
from lrpilot.cadence import Cadence, CadenceSpec

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
        kept = [s for s in range(begin + 1, end + 1) if (end - s) % c.stride(i) == 0]
        assert begin < kept[0] and kept[-1] == end and len(kept) <= c.spec.losses
        assert len(kept) > min(end - begin, c.spec.losses) // 2


def test_ten_million_steps_cost_no_more_decisions_than_thousands() -> None:
    decisions = {n: Cadence(CadenceSpec(), n, True).decisions for n in (2_000, 10_000, 10_000_000)}
    assert len(set(decisions.values())) == 1


# actions

level = st.floats(-6, 6)


equations = st.sampled_from([ActionEquation(moves=True), ActionEquation(moves=False)])
within = st.floats(-2.5, 2.5)  # of a level from its anchor


def _one(*values: float) -> list[np.ndarray]:
    return [np.array([v]) for v in values]


@given(equations, within, st.floats(-1.5, 0.5), st.floats(-1, 1), st.booleans())
def test_inverted_actions_come_back(
    equation: ActionEquation, at: float, anchor: float, action: float, first: bool
) -> None:
    z, a, u = _one(anchor + at, anchor, action)
    new = equation.apply(z, a, u, first)
    assert equation.low <= new[0] <= equation.high and abs(new[0] - anchor) <= equation.span + 1e-9
    np.testing.assert_allclose(equation.apply(z, a, equation.invert(z, a, new, first), first), new, atol=1e-9)
    free = equation.apply(z, a, u + 1e-3, first) > new > equation.apply(z, a, u - 1e-3, first)  # no limit is met
    if free and abs(action) < 0.99:
        np.testing.assert_allclose(equation.invert(z, a, new, first), u, atol=1e-9)


@given(equations, within, st.floats(-1.5, 0.5), level, st.booleans())
def test_inverse_comes_as_close_as_an_action_can(
    equation: ActionEquation, at: float, anchor: float, wanted: float, first: bool
) -> None:
    z, a, w = _one(anchor + at, anchor, wanted)
    best = equation.apply(z, a, equation.invert(z, a, w, first), first)[0]
    others = [equation.apply(z, a, np.array([u]), first)[0] for u in np.linspace(-1, 1, 21)]
    assert abs(best - wanted) <= min(abs(o - wanted) for o in others) + 1e-9


@given(within)
def test_an_action_of_zero_holds_the_level_where_actions_move_it(at: float) -> None:
    z, zero = _one(at, 0.0)
    assert ActionEquation().apply(z, zero, zero, first=False) == z


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


# probe


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
    assert np.array_equal(telemetry.sketch_coordinates(telemetry.WHOLE), np.arange(telemetry.WHOLE))
    assert len(telemetry.sketch_coordinates(telemetry.WHOLE + 1)) <= telemetry.SKETCH
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
