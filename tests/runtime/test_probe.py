"""The probe's landmarks: the blow-up through noise and without, and what a curve says else."""

import math

import numpy as np
import pytest

from curves import STEPS, Z, bump, ends
from lrpilot import probe


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


def test_probes_side_by_side_end_one_by_one() -> None:
    curves = np.stack([bump(27), np.linspace(2, 1, STEPS)])
    probes, used = probe.Probes(2, STEPS), ends(bump(27))[0]
    for step in range(STEPS):
        ended = probes.record(step, curves[:, step], grad_norm=3.0)
        assert ended.tolist() == [step + 1 == used, step + 1 == STEPS]
    assert probes.steps.tolist() == [used, STEPS] and not probes.running.any()
    for curve in (probes.loss, probes.grad_norm):
        assert np.isnan(curve[0, used:]).all() and np.isfinite(curve[0, :used]).all() and np.isfinite(curve[1]).all()
    assert probes.landmarks().blown.tolist() == [True, False]


def test_a_step_without_a_loss_repeats_the_one_before() -> None:
    probes = probe.Probes(1, STEPS)
    for step, loss in enumerate((3.0, None, 2.0)):
        probes.record(step, loss, math.nan)
    assert probes.loss[0, :3].tolist() == [3.0, 3.0, 2.0]
