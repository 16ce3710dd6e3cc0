"""The replay buffer draws and picks what d3rlpy's own would, and first decisions more often."""

import numpy as np
import pytest
import scipy.stats

from policy.buffer import GRID, Runs, Transitions, d3rlpy, to_grid
from policy.store import Masks, View
from random_runs import drawn, pick_difference


def view(lengths: tuple[int, ...] = (5, 3, 6, 4), seed: int = 0) -> View:
    """Random runs: what an agent is fed, worth nothing."""
    return drawn(lengths, seed).masked(Masks(0.5, 0.5), seed)


DATA = view()
EPISODES = Runs(DATA, discrete=False).episodes


@pytest.mark.parametrize("n_step", [6, 50])
def test_long_steps_without_discount_pick_the_return_to_go(n_step: int) -> None:
    """Episodes have at most 6 decisions, so nothing is left to bootstrap."""
    batch = Transitions(DATA, n_step, 1.0).pick(np.arange(18))
    wanted = np.concatenate([np.cumsum(e.rewards[::-1])[::-1] for e in EPISODES])
    np.testing.assert_allclose(batch.rewards[:, 0], wanted, atol=1e-5)
    assert batch.intervals[:, 0].tolist() == [left for e in EPISODES for left in range(len(e.actions), 0, -1)]
    assert (batch.terminals == 1).all()


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(("n_step", "gamma"), [(1, 0.9), (2, 0.9), (3, 1.0), (6, 0.5), (50, 1.0)])
def test_every_pick_is_that_of_d3rlpy(n_step: int, gamma: float, discrete: bool) -> None:
    buffer = Transitions(DATA, n_step, gamma, discrete)
    assert buffer.transition_count == 18
    assert pick_difference(buffer) < 1e-6  # of rewards, which are sums
    single = buffer.sample_transition()
    assert single.observation_signature == buffer.dataset_info.observation_signature
    assert single.action_signature == buffer.dataset_info.action_signature


def test_one_step_is_d3rlpys_basic_one() -> None:
    batch = Transitions(DATA, 1, 0.9).pick(np.arange(18))
    basic = d3rlpy.dataset.BasicTransitionPicker()
    picked = [basic(e, i) for e in EPISODES for i in range(e.transition_count)]
    for name in ("observation", "action", "reward", "next_observation", "next_action"):
        np.testing.assert_array_equal(getattr(batch, f"{name}s"), [getattr(p, name) for p in picked])
    assert batch.terminals[:, 0].tolist() == [p.terminal for p in picked]


def test_the_scale_of_observations_is_the_one_that_d3rlpy_computes() -> None:
    buffer = Transitions(DATA, 2, 0.9)
    scaler = d3rlpy.preprocessing.StandardObservationScaler()
    scaler.fit_with_transition_picker(buffer.episodes, buffer.transition_picker)
    mean, std = DATA.moments()
    np.testing.assert_array_equal(mean, scaler.mean)
    np.testing.assert_array_equal(std, scaler.std)


def test_without_preference_all_decisions_are_drawn_alike() -> None:
    d3rlpy.seed(0)
    batch = Transitions(DATA, 2, 0.9, first_share=0).sample_transition_batch(36_000)
    _, counts = np.unique(batch.observations, axis=0, return_counts=True)
    assert len(counts) == 18
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_first_decisions_are_drawn_with_their_share() -> None:
    long = view((40, 60), seed=3)
    d3rlpy.seed(0)
    batch = Transitions(long, 2, 0.9).sample_transition_batch(20_000)
    heads = {np.asarray(e.observations)[0].tobytes() for e in Runs(long, discrete=False).episodes}
    share = np.mean([o.tobytes() in heads for o in batch.observations])
    wanted = 0.15 + 0.85 * 2 / 100
    assert share == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 20_000) ** 0.5)


@pytest.mark.parametrize(("action", "nearest"), [(-1.0, -1.0), (0.04, 0.0), (0.06, 0.1), (0.99, 1.0)])
def test_a_discrete_agent_sees_the_nearest_action_of_the_grid(action: float, nearest: float) -> None:
    assert GRID[to_grid(np.array([[action]]))] == pytest.approx(nearest)
