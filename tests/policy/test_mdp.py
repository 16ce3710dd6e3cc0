"""Rewards telescope to what a run achieved; a divergence is the worst of its task."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.mdp import best_loss, initial_loss, potential, regret, rewards
from policy.settings import Reward

REWARD = Reward(loss_weight=1.0, regret_weight=1.0, knee=0.03, floor=-3.0)
LOSS_ALONE = replace(REWARD, regret_weight=0.0)
nan, LG = np.nan, math.log10
# the machine may be busy: nothing here is about time
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def test_rewards_worked_by_hand() -> None:
    """Three runs from loss 1, baseline 10 (so L0 = 1), loss term alone: phi(V) = -lg V.

    run 0: 1 -> .1 -> .01         phi 0, 1, 2    gains 1, 1     return 2
    run 1: 1 -> 10 -> diverged    phi 0, -1, -3  gains -1, -2   return -3
    run 2: 1 -> .01, then over    phi 0, 2       gains 2, -     return 2
    mean return 1/3, off the last reward of each run
    """
    val_loss = np.array([[1, 1, 1], [0.1, 10, 0.01], [0.01, nan, nan]])
    gains = rewards(val_loss, np.array([2, 2, 1]), np.array([False, True, False]), 10.0, LOSS_ALONE)
    np.testing.assert_allclose(gains, [[1, -1, 2 - 1 / 3], [1 - 1 / 3, -2 - 1 / 3, 0]], atol=1e-12)


def test_regret_term_worked_by_hand() -> None:
    """L0 = 1, Lbest = .2, regret term alone: phi(V) = -lg((V - .2) / .8 + .03).

    The best run ends at regret 0: -lg .03; one that ends at .6 at regret .5: -lg .53; the start is regret 1: -lg 1.03.
    """
    only = replace(REWARD, loss_weight=0.0)
    val_loss = np.array([[1.0, 1.0], [0.2, 0.6]])
    gains = np.log10([1.03 / 0.03, 1.03 / 0.53])
    row = rewards(val_loss, np.array([1, 1]), np.zeros(2, bool), 5.0, only)
    np.testing.assert_allclose(row, [gains - gains.mean()], rtol=1e-12)


def test_both_terms_and_a_lower_floor_worked_by_hand() -> None:
    """L0 = 1, Lbest = .5: phi(1) = -3 lg 1.1, phi(.5) = 2 lg 2 + 3, phi(.75) = 2 lg (4/3) - 3 lg .6.

    The last run diverges at the start of its second interval, at a loss that is better than any: no best loss is
    counted of it, and its end is the floor.
    """
    reward = Reward(loss_weight=2.0, regret_weight=3.0, knee=0.1, floor=-4.0)
    val_loss = np.array([[1.0, 1.0, 1.0], [0.75, 0.5, 0.75], [0.5, nan, 0.1]])
    gains = rewards(val_loss, np.array([2, 1, 2]), np.array([False, False, True]), 1.0, reward)
    start, middle, best = -3 * LG(1.1), 2 * LG(4 / 3) - 3 * LG(0.6), 2 * LG(2) + 3
    mean = (best - start + best - start - 4 - start) / 3
    np.testing.assert_allclose(
        gains,
        [[middle - start, best - start - mean, middle - start], [best - middle - mean, 0, -4 - middle - mean]],
        rtol=1e-12,
    )


# V; lg(L0 / V) within -1 and 3; (V - Lbest) / (L0 - Lbest) within 0 and 1.5; of L0 = 1, Lbest = .2
POTENTIALS = [
    (1.0, 0.0, 1.0),
    (0.1, 1.0, 0.0),
    (0.2, LG(5), 0.0),
    (0.6, LG(1 / 0.6), 0.5),
    (1.2, LG(1 / 1.2), 1.25),
    (1.5, LG(1 / 1.5), 1.5),
    (9.0, LG(1 / 9), 1.5),
    (100.0, -1.0, 1.5),
    (2e-3, LG(500), 0.0),
    (1e-4, 3.0, 0.0),
    (0.0, 3.0, 0.0),
    (-5.0, 3.0, 0.0),
]


@pytest.mark.parametrize(("val_loss", "gain", "missing"), POTENTIALS)
def test_potentials_by_hand(val_loss: float, gain: float, missing: float) -> None:
    array = np.array([val_loss])
    assert regret(array, 1.0, 0.2) == pytest.approx(missing)
    for loss_weight, regret_weight, knee in ((1.0, 0.0, 0.03), (0.0, 1.0, 0.03), (2.0, 0.5, 0.1)):
        reward = Reward(loss_weight, regret_weight, knee, floor=-9.0)
        phi = loss_weight * gain - regret_weight * LG(missing + knee)
        assert potential(array, 1.0, 0.2, reward) == pytest.approx(phi, abs=1e-12)
    assert potential(array, 1.0, 0.2, replace(LOSS_ALONE, floor=-0.5)) == pytest.approx(max(gain, -0.5))


def test_a_loss_that_vanishes_counts_as_a_trillionth() -> None:
    assert potential(np.array([0.0]), 1e-10, 0.0, LOSS_ALONE) == pytest.approx(2.0)


def test_losses_of_another_unit_have_the_same_potential() -> None:
    losses = np.array([row[0] for row in POTENTIALS[:-2]])
    np.testing.assert_allclose(potential(4 * losses, 4.0, 0.8, REWARD), potential(losses, 1.0, 0.2, REWARD), atol=1e-12)


@pytest.mark.parametrize(
    ("val_loss", "best", "want"),
    [(2.0, 1.999, 0.05), (1.999, 1.999, 0.0), (1.0, 2.0, 0.0), (2.01, 2.0, 0.5), (nan, 1.0, nan), (1.99, 1.98, 0.5)],
    ids=["little room", "the best", "better than the best", "no room", "unknown", "room of a hundredth"],
)
def test_regret_where_there_is_hardly_room(val_loss: float, best: float, want: float) -> None:
    """L0 = 2: what counts is at least .02."""
    np.testing.assert_allclose(regret(np.array([val_loss]), 2.0, best), [want], atol=1e-9)


@pytest.mark.parametrize(
    ("val_loss", "baseline", "want"),
    [([2.0, 4.0], 9.0, 3.0), ([200.0, 400.0], 1.1, 1.1), ([2.0, nan], 9.0, 2.0), ([np.inf, 2.0], 1.5, 1.5)],
    ids=["mean of the runs", "odd initial scale", "one unknown", "one infinite"],
)
def test_initial_loss(val_loss: list[float], baseline: float, want: float) -> None:
    assert initial_loss(np.array(val_loss), baseline) == want


@pytest.mark.parametrize(
    ("final", "want"),
    [([0.5, 0.2], 0.2), ([nan, 0.4, np.inf], 0.4), ([nan, nan], 1.0), ([3.0, 2.0], 1.0)],
    ids=["least", "finite alone", "none finished", "none improved"],
)
def test_best_loss(final: list[float], want: float) -> None:
    assert best_loss(np.array(final), 1.0) == want


@pytest.mark.parametrize("broken", [nan, np.inf])
def test_what_is_not_finite_has_the_floor(broken: float) -> None:
    assert potential(np.array([broken]), 1.0, 0.5, REWARD) == [REWARD.floor]


def test_potential_falls_with_the_loss() -> None:
    losses = np.geomspace(1e-4, 1e4, 50)
    phi = potential(losses, 1.0, 0.01, REWARD)
    assert (np.diff(phi) <= 1e-12).all()
    assert (phi >= REWARD.floor).all()


@st.composite
def tasks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(val_loss, ends, diverged) of a task whose runs start at the same loss."""
    runs, decisions = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    loss = st.floats(1e-6, 1e6)
    val_loss = np.array([[draw(loss) for _ in range(runs)] for _ in range(decisions + 1)])
    val_loss[0] = draw(loss)
    ends = np.array([draw(st.integers(1, decisions)) for _ in range(runs)])
    val_loss[np.arange(decisions + 1)[:, None] > ends] = nan
    diverged = np.array([draw(st.booleans()) for _ in range(runs)])
    return val_loss, ends, diverged


@unhurried
@given(tasks(), st.floats(1e-3, 1e3))
def test_rewards_telescope_and_are_centred(task: tuple[np.ndarray, np.ndarray, np.ndarray], baseline: float) -> None:
    val_loss, ends, diverged = task
    columns = np.arange(len(ends))
    loss0 = initial_loss(val_loss[0], baseline)
    final = np.where(diverged, nan, val_loss[ends, columns])
    start, end = (potential(v, loss0, best_loss(final, loss0), REWARD) for v in (val_loss[0], final))
    achieved = end - start
    returns = rewards(val_loss, ends, diverged, baseline, REWARD).sum(axis=0)
    np.testing.assert_allclose(returns, achieved - achieved.mean(), atol=1e-9)
    assert abs(returns.mean()) < 1e-9


@unhurried
@given(tasks(), st.floats(1e-3, 1e3))
def test_a_divergence_is_the_worst_of_its_task(
    task: tuple[np.ndarray, np.ndarray, np.ndarray], baseline: float
) -> None:
    val_loss, ends, diverged = task
    returns = rewards(val_loss, ends, diverged, baseline, REWARD).sum(axis=0)
    if diverged.any() and not diverged.all():
        assert returns[diverged].max() < returns[~diverged].min()
        np.testing.assert_allclose(returns[diverged], returns.min(), atol=1e-9)


@unhurried
@given(tasks(), st.floats(1e-3, 1e3))
def test_past_its_end_a_run_earns_nothing(task: tuple[np.ndarray, np.ndarray, np.ndarray], baseline: float) -> None:
    val_loss, ends, diverged = task
    gains = rewards(val_loss, ends, diverged, baseline, REWARD)
    assert gains.shape == (len(val_loss) - 1, len(ends))
    assert (gains[np.arange(len(gains))[:, None] >= ends] == 0).all()
    assert np.isfinite(gains).all()


@unhurried
@given(tasks(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_the_unit_of_the_loss_does_not_matter(
    task: tuple[np.ndarray, np.ndarray, np.ndarray], baseline: float, unit: float
) -> None:
    val_loss, ends, diverged = task
    diverged[0], val_loss[ends[0], 0] = False, 0.5 * initial_loss(val_loss[0], baseline)  # else there is no room
    here = rewards(val_loss, ends, diverged, baseline, REWARD)
    there = rewards(unit * val_loss, ends, diverged, unit * baseline, REWARD)
    np.testing.assert_allclose(there, here, atol=1e-5)
