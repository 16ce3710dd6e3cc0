"""Regret, oracle, aggregates and intervals: worked by hand, against scipy, and invariants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from pipeline.evaluation.stats import (
    difference_estimate,
    iqm,
    iqm_estimate,
    mean_estimate,
    normalised_regret,
    regime_weights,
    sensitivity,
    share_won,
    steps_to_threshold,
    summary,
)

NAN, INF = np.nan, np.inf
REGRETS = arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-1, 2, width=32))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


REGRET_CASES = [
    ("the oracle's loss", 0.5, 0.0),
    ("the loss at initialisation", 2.5, 1.0),
    ("half-way", 1.5, 0.5),
    ("beats the oracle", 0.1, -0.2),
    ("far below: capped", -50.0, -1.0),
    ("far above: capped", 1e30, 1.0),
    ("above the loss at initialisation", 2.6, 1.0),
    ("nan: diverged", NAN, 1.0),
    ("infinite: diverged", INF, 1.0),
    ("minus infinity: diverged too", -INF, 1.0),
]


@pytest.mark.parametrize("loss, expected", [case[1:] for case in REGRET_CASES], ids=[c[0] for c in REGRET_CASES])
def test_regret_worked_by_hand(loss, expected):
    assert normalised_regret(loss, oracle=0.5, initial=2.5) == pytest.approx(expected)


def test_regret_where_there_is_little_room_worked_by_hand():
    assert normalised_regret(0.75, oracle=0.5, initial=1.0) == 0.5


def test_regret_broadcasts_over_tasks_and_seeds():
    losses = np.array([[1.0, 2.0, NAN], [10.0, 30.0, 20.0]])
    got = normalised_regret(losses, oracle=np.array([[1.0], [10.0]]), initial=np.array([[3.0], [20.0]]))
    np.testing.assert_allclose(got, [[0, 0.5, 1], [0, 1, 1]])


@given(loss=st.floats(-5, 5), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_regret_does_not_depend_on_the_units_of_the_loss(loss, scale, shift):
    plain = normalised_regret(loss, 0.5, 2.5)
    moved = normalised_regret(loss * scale + shift, 0.5 * scale + shift, 2.5 * scale + shift)
    assert moved == pytest.approx(plain, abs=1e-9)


def test_iqm_worked_by_hand():
    assert iqm([[100.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, -100.0]]) == (2 + 3 + 4 + 5) / 4
    assert iqm([[0.0, 1.0, 2.0], [3.0, 4.0, 50.0]]) == (1 + 2 + 3 + 4) / 4  # floor(6 / 4) = 1 value at each end


@given(values=REGRETS)
def test_iqm_is_the_mean_of_the_middle_half(values):
    cut = values.size // 4
    middle = np.sort(values, axis=None)[cut : values.size - cut]
    assert iqm(values) == pytest.approx(middle.mean(), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(values=REGRETS)
def test_interval_contains_the_mean_and_stays_within_the_tasks_extremes(values):
    estimate = mean_estimate(values, n_resamples=300, rng=rng())
    assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
    assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9
    # Stratified: every resample draws from every task.
    assert values.min(axis=1).mean() - 1e-9 <= estimate.low
    assert estimate.high <= values.max(axis=1).mean() + 1e-9


def test_tasks_that_do_not_vary_leave_no_interval():
    """Spread between tasks is no uncertainty of the seeds; an unstratified bootstrap would report plenty."""
    values = np.array([[0.0] * 4, [1.0] * 4])
    for estimate_of in (mean_estimate, iqm_estimate):
        got = estimate_of(values, n_resamples=200, rng=rng())
        assert (got.low, got.value, got.high) == (0.5, 0.5, 0.5)


def test_interval_of_one_task_is_scipys_own():
    values = np.random.default_rng(2).normal(size=(1, 8))
    ours = mean_estimate(values, n_resamples=999, rng=rng())
    theirs = scipy_stats.bootstrap((values[0],), np.mean, n_resamples=999, method="percentile", rng=rng())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval))


def test_interval_of_the_mean_worked_by_hand():
    """Of six seeds three are 1: a resample has k of them with probability C(6, k) / 64.

    At most none: .016, one: .109, ... at least five: .109, six: .016. So one and five are the 2.5 % and 97.5 % points.
    A second task that does not vary halves the interval.
    """
    coins = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    one = mean_estimate([coins], n_resamples=5000, rng=rng())
    assert dataclasses.astuple(one) == pytest.approx((0.5, 1 / 6, 5 / 6))
    two = mean_estimate([coins, [0.0] * 6], n_resamples=5000, rng=rng())
    assert dataclasses.astuple(two) == pytest.approx((0.25, 1 / 12, 5 / 12))


def test_interval_of_the_iqm_worked_by_hand():
    """One of eight seeds is 8: a resample has it three times or more with probability .067, four or more with .011.

    Two values go at each end, so of three eights one is among the four that are left: a mean of 2.
    """
    estimate = iqm_estimate([[0.0] * 7 + [8.0]], n_resamples=5000, rng=rng())
    assert dataclasses.astuple(estimate) == (0.0, 0.0, 2.0)


def test_difference_worked_by_hand():
    """Pairs differ by -1 or 0, three of each; see the interval of the mean."""
    estimate = difference_estimate([[0, 0, 0, 5, 6, 7]], [[1, 1, 1, 5, 6, 7]], n_resamples=5000, rng=rng())
    assert dataclasses.astuple(estimate) == pytest.approx((-0.5, -5 / 6, -1 / 6))


def test_interval_approaches_the_normal_one():
    """Standard error of the mean of T tasks: sqrt(sum of within-task variances / S) / T."""
    values = np.random.default_rng(4).normal(scale=[[0.1], [1.0], [3.0]], size=(3, 60))
    error = np.sqrt(values.var(axis=1).sum() / 60) / 3
    got = mean_estimate(values, n_resamples=9000, rng=rng())
    assert [got.low, got.high] == pytest.approx(values.mean() + 1.96 * error * np.array([-1, 1]), abs=0.08 * error)


def test_intervals_cover_about_as_often_as_they_say():
    """300 worlds of two tasks, 20 seeds each, true mean 0; percentile intervals cover a bit under 95 %."""
    worlds = np.random.default_rng(5).normal(size=(300, 2, 20))
    hits = [e.low <= 0 <= e.high for e in (mean_estimate(w, n_resamples=300, rng=rng()) for w in worlds)]
    assert 0.89 <= np.mean(hits) <= 0.98


def test_iqm_interval_ignores_an_outlier():
    values = np.random.default_rng(6).uniform(0, 0.1, (4, 6))
    values[0, 0] = 2.0
    estimate = iqm_estimate(values, n_resamples=500, rng=rng())
    assert estimate.value == iqm(values)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 0.1


def test_pairing_removes_what_both_share():
    shared = np.random.default_rng(7).normal(size=(3, 5))
    estimate = difference_estimate(shared + 0.25, shared, n_resamples=200, rng=rng())
    assert dataclasses.astuple(estimate) == pytest.approx((0.25, 0.25, 0.25))


@settings(max_examples=30, deadline=None)
@given(values=REGRETS, seed=st.integers(0, 99))
def test_difference_changes_sign_when_swapped(values, seed):
    other = np.random.default_rng(seed).permuted(values, axis=1)
    forth = difference_estimate(values, other, n_resamples=200, rng=rng())
    back = difference_estimate(other, values, n_resamples=200, rng=rng())
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low), abs=1e-9)


def test_share_won_worked_by_hand():
    assert share_won([[0.1, 0.2], [0.3, 0.4]], [[0.2, 0.2], [0.1, 0.5]]) == (1 + 0.5 + 0 + 1) / 4
    assert share_won([[0.1, 0.2], [0.3, 0.4]], [[0.2, 0.2], [0.1, 0.5]], weights=[0.9, 0.1]) == pytest.approx(0.725)


@given(values=REGRETS, seed=st.integers(0, 99))
def test_shares_of_the_two_add_up_to_one(values, seed):
    other = np.random.default_rng(seed).permuted(values, axis=None)
    assert share_won(values, other) + share_won(other, values) == pytest.approx(1)
    assert share_won(values, values) == 0.5


def test_steps_to_threshold_worked_by_hand():
    curves = [[3.0, 2.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0], [NAN, 1.0, NAN, 0.0], [1.0, NAN, INF, INF]]
    got = steps_to_threshold([0, 10, 20, 40], curves, 1.0)
    np.testing.assert_array_equal(got, [20, NAN, 10, 0])


def test_steps_to_threshold_takes_one_threshold_per_task():
    curves = np.array([[[3.0, 2.0, 1.0]] * 2, [[30.0, 20.0, 10.0]] * 2])  # (tasks, seeds, T)
    got = steps_to_threshold([1, 2, 3], curves, np.array([[2.0], [10.0]]))
    np.testing.assert_array_equal(got, [[2, 2], [3, 3]])


def test_sensitivity_worked_by_hand():
    regret = [[0.1, 0.5, 0.2], [0.3, 0.3, 0.3]]  # (tasks, initial learning rates)
    np.testing.assert_allclose(sensitivity(regret), [0.4, 0.0])
    np.testing.assert_allclose(sensitivity([regret, regret]), [[0.4, 0.0]] * 2)  # (schedules, tasks, rates)


def test_summary_worked_by_hand():
    got = summary([[0.0, 0.2, 0.1], [0.5, 0.5, 0.8]], n_resamples=500, rng=rng())
    assert list(got) == ["mean", "iqm", "low", "high", "iqm_low", "iqm_high", "worst"]
    assert all(type(value) is float for value in got.values())
    assert (got["mean"], got["iqm"], got["worst"]) == pytest.approx((0.35, (0.1 + 0.2 + 0.5 + 0.5) / 4, 0.6))
    assert 0.25 <= got["low"] < 0.35 < got["high"] <= 0.5
    assert got["iqm_low"] <= got["iqm"] <= got["iqm_high"]


SHARES = {"ordinary": 0.6, "finetuning": 0.2, "odd": 0.2}


@pytest.mark.parametrize(
    "regimes, expected",
    [
        (["ordinary", "odd", "ordinary", "finetuning"], [0.3, 0.2, 0.3, 0.2]),
        (["ordinary", "odd", "odd"], [0.75, 0.125, 0.125]),  # shares of .6 and .2 become .75 and .25
        (["odd", "odd"], [0.5, 0.5]),
    ],
)
def test_weights_of_regimes_worked_by_hand(regimes, expected):
    np.testing.assert_allclose(regime_weights(regimes, SHARES), expected)


def test_a_weighted_summary_worked_by_hand():
    """Coins as above, .25 of the weight; a task without spread has the rest: the mean's interval shrinks to a quarter.

    The interquartile mean and the worst task know no weights.
    """
    coins = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    got = summary([coins, [0.0] * 6], weights=[0.25, 0.75], n_resamples=5000, rng=rng())
    assert (got["mean"], got["low"], got["high"]) == pytest.approx((0.125, 1 / 24, 5 / 24))
    plain = summary([coins, [0.0] * 6], n_resamples=5000, rng=rng())
    assert (got["iqm"], got["worst"]) == (plain["iqm"], plain["worst"]) == (pytest.approx(0.0), 0.5)


def test_a_weighted_difference_worked_by_hand():
    a, b = np.array([[0.1, 0.3], [0.5, 0.5]]), np.array([[0.2, 0.4], [0.1, 0.1]])  # a - b: -.1 and .4
    estimate = difference_estimate(a, b, weights=[0.8, 0.2], n_resamples=50, rng=rng())
    assert dataclasses.astuple(estimate) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_summary_of_coins_worked_by_hand():
    """See the intervals of the mean and of the iqm: of eight seeds with one 8, at most three in 97.5 % of resamples."""
    got = summary([[0.0] * 7 + [8.0]], n_resamples=5000, rng=rng())
    wanted = {"mean": 1.0, "low": 0.0, "high": 3.0, "iqm": 0.0, "iqm_low": 0.0, "iqm_high": 2.0, "worst": 1.0}
    assert got == wanted


@settings(max_examples=30, deadline=None)
@given(values=arrays(float, (4, 5), elements=st.floats(-1, 2, width=32)), order=st.permutations(range(4)))
def test_summary_does_not_depend_on_the_order_of_tasks(values, order):
    here = summary(values, n_resamples=50, rng=rng())
    there = summary(values[list(order)], n_resamples=50, rng=rng())
    for key in ("mean", "iqm", "worst"):
        assert here[key] == pytest.approx(there[key], abs=1e-12)


def test_interval_depends_on_the_order_of_tasks_by_resampling_noise_alone():
    values = np.random.default_rng(9).normal(size=(4, 5))
    here, there = (mean_estimate(v, n_resamples=9000, rng=rng()) for v in (values, values[::-1]))
    assert (here.low, here.high) == pytest.approx((there.low, there.high), abs=0.1 * (here.high - here.low))


def test_same_generator_same_interval():
    values = np.random.default_rng(8).normal(size=(3, 5))
    assert mean_estimate(values, n_resamples=200, rng=rng()) == mean_estimate(values, n_resamples=200, rng=rng())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: normalised_regret(1.0, 2.0, 2.0), r"oracle 2.0 and initial 2.0 \(entry 0\)"),
        (lambda: normalised_regret([1.0, 1.0], [0.0, NAN], 2.0), r"oracle nan .*\(entry 1\)"),
        (lambda: normalised_regret(1.0, [1.5, 3.0, 4.0], 2.0), r"oracle 3.0 and initial 2.0 \(entry 1\)"),
        (lambda: normalised_regret(1.0, 0.0, [2.0, INF]), r"initial inf \(entry 1\)"),
        (lambda: mean_estimate([[1.0], [2.0]], n_resamples=10, rng=rng()), r"shape \(2, 1\)"),
        (lambda: mean_estimate(np.zeros((0, 3)), n_resamples=10, rng=rng()), r"shape \(0, 3\)"),
        (lambda: mean_estimate([1.0, 2.0], n_resamples=10, rng=rng()), r"shape \(2,\)"),
        (lambda: mean_estimate(np.zeros((2, 2, 2)), n_resamples=10, rng=rng()), r"shape \(2, 2, 2\)"),
        (lambda: mean_estimate([[1.0, NAN]], n_resamples=10, rng=rng()), "use regrets"),
        (
            lambda: difference_estimate([[1.0, 2.0]], [[1.0]], n_resamples=10, rng=rng()),
            r"\(1, 2\) and \(1, 1\)",
        ),
        (lambda: share_won([[1.0, NAN]], [[1.0, 1.0]]), "compare regrets"),
        (lambda: regime_weights(["odd"], {"odd": 0.0, "ordinary": 1.0}), r"regimes \['odd'\] have no share"),
        (lambda: steps_to_threshold([0, 1], [1.0, 2.0, 3.0], 0.0), r"steps \(2,\), curves \(3,\)"),
        (lambda: steps_to_threshold([1, 0], [1.0, 2.0], 0.0), "want rising steps"),
        (lambda: steps_to_threshold([1, 1], [1.0, 2.0], 0.0), "want rising steps"),
        (lambda: steps_to_threshold([[1, 2]], [[1.0, 2.0]], 0.0), r"steps \(1, 2\)"),
    ],
)
def test_errors_name_the_value_and_the_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()
