"""Schedules against torch's own classes, tables worked by hand, and the invariants of the random ones."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as lrs

from pipeline.simulation.schedules import REACH, SCHEDULES, epsilon, explore, multipliers

DETERMINISTIC = [name for name, schedule in SCHEDULES.items() if not schedule.random]
RANDOM = [name for name, schedule in SCHEDULES.items() if schedule.random]
STEPS = st.integers(10, 1000)
SEEDS = st.integers(0, 2**32 - 1)


def ceil_share(n: int, percent: int) -> int:
    return -(-n * percent // 100)


def after_warm_up(opt, n, percent, decay):
    warm = ceil_share(n, percent)
    ramp = lrs.LinearLR(opt, start_factor=1 / (warm + 1), end_factor=1.0, total_iters=warm)
    return lrs.SequentialLR(opt, [ramp, decay(opt, n - warm)], milestones=[warm])


def cosine(opt, n):
    return lrs.CosineAnnealingLR(opt, T_max=n)


def linear(opt, n):
    return lrs.LinearLR(opt, start_factor=1.0, end_factor=0.0, total_iters=n)


def constant(opt, n):
    return lrs.ConstantLR(opt, factor=1.0)


def wsd(opt, n):
    warm, decay = ceil_share(n, 5), ceil_share(n, 20)
    ramp = lrs.LinearLR(opt, start_factor=1 / (warm + 1), end_factor=1.0, total_iters=warm)
    return lrs.SequentialLR(opt, [ramp, constant(opt, n), linear(opt, decay)], milestones=[warm, n - decay])


TORCH = {
    "constant": constant,
    "step": lambda opt, n: lrs.StepLR(opt, step_size=-(-n // 3), gamma=0.1),
    "exponential": lambda opt, n: lrs.ExponentialLR(opt, gamma=0.01 ** (1 / n)),
    "cosine": cosine,
    "onecycle": lambda opt, n: lrs.OneCycleLR(opt, max_lr=1.0, total_steps=n),
    "linear": linear,
    "warmup_cosine": lambda opt, n: after_warm_up(opt, n, 5, cosine),
    "warmup_linear": lambda opt, n: after_warm_up(opt, n, 5, linear),
    "warmup_constant": lambda opt, n: after_warm_up(opt, n, 5, constant),
    "wsd": wsd,
    "cyclic": lambda opt, n: lrs.CyclicLR(
        opt, base_lr=0.1, max_lr=1.0, step_size_up=n / 8, mode="triangular2", cycle_momentum=False
    ),
}


def torch_rates(build, n_steps: int) -> np.ndarray:
    """The learning rate that each of `n_steps` optimizer steps sees, from a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own epoch argument; no optimizer step before the scheduler's
        scheduler = build(optimizer, n_steps)
        rates = []
        for _ in range(n_steps):
            rates.append(optimizer.param_groups[0]["lr"])
            if len(rates) < n_steps:
                scheduler.step()
    return np.array(rates)


def test_every_deterministic_schedule_has_a_torch_twin():
    assert set(TORCH) == set(DETERMINISTIC)


@pytest.mark.parametrize("name", DETERMINISTIC)
@settings(max_examples=15, deadline=None)
@given(n_steps=STEPS)
def test_equals_torch_step_by_step(name, n_steps):
    np.testing.assert_allclose(multipliers(name, n_steps), torch_rates(TORCH[name], n_steps), rtol=1e-9, atol=1e-12)


BY_HAND = [
    ("constant", 3, [1, 1, 1]),
    ("step", 7, [1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
    ("exponential", 4, [1, 10**-0.5, 0.1, 10**-1.5]),
    ("cosine", 4, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
    ("linear", 4, [1, 0.75, 0.5, 0.25]),
    ("warmup_linear", 10, [0.5, *(1 - np.arange(9) / 9)]),
    ("warmup_constant", 40, [1 / 3, 2 / 3, *[1] * 38]),
    ("wsd", 10, [0.5, *[1] * 7, 1, 0.5]),
    (
        "cyclic",
        16,
        [
            0.1,
            0.55,
            1,
            0.55,
            0.1,
            0.325,
            0.55,
            0.325,
            0.1,
            0.2125,
            0.325,
            0.2125,
            0.1,
            0.15625,
            0.2125,
            0.15625,
        ],
    ),
]


@pytest.mark.parametrize("name, n_steps, expected", BY_HAND, ids=[case[0] for case in BY_HAND])
def test_worked_by_hand(name, n_steps, expected):
    np.testing.assert_allclose(multipliers(name, n_steps), expected, rtol=1e-12)


def test_onecycle_landmarks():
    """N = 100: starts at 1/25, peaks at step 29, ends at 1/(25 * 1e4) in step 99."""
    curve = multipliers("onecycle", 100)
    np.testing.assert_allclose(curve[[0, 29, 99]], [0.04, 1.0, 4e-6], rtol=1e-9)
    assert curve.argmax() == 29


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=25, deadline=None)
@given(n_steps=st.integers(2, 1000), seed=SEEDS)
def test_shape_type_and_range(name, n_steps, seed):
    curve = multipliers(name, n_steps, np.random.default_rng(seed))
    assert curve.shape == (n_steps,) and curve.dtype == np.float64
    assert (curve > 0).all()
    if SCHEDULES[name].random:
        assert curve[0] == 1
        assert np.abs(np.log10(curve)).max() <= REACH + 1e-9
    else:
        assert curve.max() <= 1


@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_repeat_with_the_seed_and_differ_without(name):
    first, again, other = (multipliers(name, 200, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_ones_leave_the_generator_alone(name):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(multipliers(name, 50, rng), multipliers(name, 50))
    assert rng.random() == np.random.default_rng(0).random()


@settings(max_examples=50, deadline=None)
@given(n_steps=STEPS, seed=SEEDS)
def test_kicks_are_deliberate(n_steps, seed):
    moves = np.diff(np.log10(multipliers("kicks", n_steps, np.random.default_rng(seed))))
    jumps = np.abs(moves[np.abs(moves) > 1e-12])
    assert 1 <= len(jumps) <= 4
    assert jumps.min() > 0.3 - 1e-9 and jumps.max() < 1.5 + 1e-9


@settings(max_examples=50, deadline=None)
@given(n_steps=STEPS, seed=SEEDS)
def test_drift_is_steady(n_steps, seed):
    slope = np.diff(np.log10(multipliers("drift", n_steps, np.random.default_rng(seed)))) * n_steps
    np.testing.assert_allclose(slope, slope[0], atol=1e-8)
    assert 0.3 - 1e-8 <= abs(slope[0]) <= REACH + 1e-8


@settings(max_examples=50, deadline=None)
@given(n_steps=STEPS, seed=SEEDS)
def test_piecewise_has_three_to_eight_plateaus(n_steps, seed):
    decades = np.log10(multipliers("piecewise", n_steps, np.random.default_rng(seed)))
    assert 3 <= len(np.unique(decades)) <= 8
    assert np.abs(decades).max() <= 0.8 + 1e-9


@pytest.mark.parametrize("n_steps", [100, 1000])
def test_random_walk_looks_alike_whatever_the_length(n_steps):
    """Half-way, the deviation over walks is about the root mean square of U(.2, .8), whatever N."""
    rng = np.random.default_rng(1)
    middle = np.log10([multipliers("random_walk", n_steps, rng)[n_steps // 2] for _ in range(1500)])
    assert abs(middle.mean()) < 0.06
    assert 0.42 < middle.std() < 0.56


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: multipliers("cosin", 10), "'cosin' is unknown, want one of constant, step"),
        (lambda: multipliers("cosine", 1), "n_steps: 1, want at least 2"),
        (lambda: multipliers("kicks", 10), "'kicks' is random, pass a numpy Generator"),
        (lambda: epsilon(1.5, 0.9, 0), "start: 1.5"),
        (lambda: epsilon(0.5, -0.1, 0), "decay: -0.1"),
        (lambda: epsilon(0.5, 0.9, -1), "decisions count from 0"),
        (
            lambda: explore(np.array([0.0, 1.5]), 0.1, np.random.default_rng(0)),
            r"actions: \[1.5\] out of range",
        ),
        (lambda: explore(np.array([0.0, np.nan]), 0.1, np.random.default_rng(0)), "actions: .*nan"),
        (lambda: explore(np.zeros(2), 1.1, np.random.default_rng(0)), "probability: 1.1"),
    ],
)
def test_errors_name_the_value_and_the_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_epsilon_decays_geometrically():
    np.testing.assert_allclose(epsilon(0.4, 0.5, [0, 1, 2, 3]), [0.4, 0.2, 0.1, 0.05])
    assert float(epsilon(0.4, 0.0, 0)) == 0.4  # 0**0 = 1: the first decision only
    assert float(epsilon(0.4, 0.0, 1)) == 0.0


@pytest.mark.parametrize("shape", [(4000,), (4000, 2)])
def test_explore_replaces_whole_actions_at_the_rate_asked_for(shape):
    actions = np.full(shape, 0.25, np.float32)
    out = explore(actions, 0.3, np.random.default_rng(0))
    changed = (out != actions).reshape(len(out), -1)
    assert out.dtype == np.float32 and out.shape == shape
    assert (changed.all(axis=1) == changed.any(axis=1)).all()
    assert changed[:, 0].mean() == pytest.approx(0.3, abs=0.03)
    drawn = out[changed.all(axis=1)]
    assert drawn.min() >= -1 and drawn.max() <= 1
    assert drawn.mean() == pytest.approx(0, abs=0.06) and drawn.std() == pytest.approx(3**-0.5, abs=0.03)
    assert (actions == 0.25).all()


def test_explore_takes_one_probability_per_run():
    out = explore(np.zeros(6), np.array([0, 1, 0, 1, 0, 1]), np.random.default_rng(0))
    np.testing.assert_array_equal(out != 0, [False, True] * 3)


@given(probability=st.floats(0, 1), seed=SEEDS)
def test_explore_draws_as_much_whatever_the_probability(probability, seed):
    one, two = np.random.default_rng(seed), np.random.default_rng(seed)
    explore(np.zeros(5), probability, one)
    explore(np.zeros(5), 0.5, two)
    assert one.random() == two.random()
