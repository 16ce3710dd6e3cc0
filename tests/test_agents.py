"""Agents train, are repeatable, survive export, and learn what the data says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bundles import MANIFEST
from lrpilot import load_policy
from lrpilot.features import NAMES
from policy import agents, export
from policy.agents import ALGORITHMS, FIRST_SHARE, GRID, Settings
from policy.dataset import CLOCK, Episode, blinded
from tiny import episodes

SETTINGS = Settings(
    algorithm="td3bc", steps=30, batch_size=16, learning_rate=1e-3, gamma=0.9, n_step=2, alpha=1.0, hidden=(8,)
)
DATA = episodes()
GOLDEN = DATA[0].observations[:4]


def trained(algorithm: str, seed: int = 0) -> Any:
    return agents.train(DATA, replace(SETTINGS, algorithm=algorithm), seed)


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Any]]:
    """Two agents of one seed and one of another, by algorithm."""
    return {name: [trained(name, seed) for seed in (1, 1, 2)] for name in ALGORITHMS}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_equal_seeds_give_equal_agents(name: str, pairs: dict[str, list[Any]]) -> None:
    seen = export.example_observations(65)
    one, again, other = (agents.predict(a, seen) for a in pairs[name])
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == (65,)
    assert (np.abs(one) <= 1).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_export_answers_as_the_agent_does(name: str, pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    several = [pairs[name][0], pairs[name][2]]
    path = tmp_path / "policy.onnx"
    export.write(export.Mean([agents.Network(a) for a in several]), MANIFEST, GOLDEN, path)
    bundle = load_policy(path)
    for rows in (1, 2, 257):
        seen = export.example_observations(257)[:rows]
        wanted = np.mean([agents.predict(a, seen) for a in several], axis=0)
        np.testing.assert_allclose(bundle(seen), wanted, atol=1e-5)
    again = tmp_path / "again.onnx"
    export.write(export.Mean([agents.Network(a) for a in several]), MANIFEST, GOLDEN, again)
    assert again.read_bytes() == path.read_bytes()
    assert list(tmp_path.iterdir()) in ([path, again], [again, path])  # no second file with the weights


def test_an_export_holds_no_path_of_the_machine(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    export.write(agents.Network(pairs["bc"][0]), MANIFEST, GOLDEN, path)
    assert b"site-packages" not in path.read_bytes()
    assert b".py" not in path.read_bytes()
    assert [p.key for p in onnx.load(path).metadata_props] == ["lrpilot"]


def test_the_blind_export_answers_to_the_clock_alone(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    network, path = agents.Network(pairs["td3bc"][0]), tmp_path / "blind.onnx"
    export.write(export.Blind(network), MANIFEST, GOLDEN, path)
    blind, seen = load_policy(path), export.example_observations(33)
    clock = np.isin(NAMES, CLOCK)
    elsewhere = np.where(clock, seen, seen[::-1])
    later = np.where(clock, seen[::-1], seen)
    np.testing.assert_array_equal(blind(seen), blind(elsewhere))
    assert not np.allclose(blind(seen), blind(later))
    (episode,) = blinded([Episode(seen, seen[:, :1], seen[:, :1])])
    np.testing.assert_allclose(blind(seen), agents.predict(pairs["td3bc"][0], episode.observations), atol=1e-5)


def test_a_saved_agent_answers_as_before(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    seen = export.example_observations(9)
    for name, (agent, *_) in pairs.items():
        agents.save(agent, tmp_path / f"{name}.d3")
        np.testing.assert_array_equal(
            agents.predict(agents.load(tmp_path / f"{name}.d3"), seen), agents.predict(agent, seen)
        )


def test_training_takes_its_steps_and_tells_its_losses() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    agent = agents.train(DATA, replace(SETTINGS, steps=40), 0, lambda step, losses: told.append((step, losses)))
    assert agent.grad_step == 40
    assert [step for step, _ in told] == list(range(2, 41, 2))  # 20 epochs
    assert all(losses and np.isfinite(list(losses.values())).all() for _, losses in told)


@pytest.mark.parametrize("n_step", [6, 50])
def test_long_steps_without_discount_pick_the_return_to_go(n_step: int) -> None:
    """Episodes have at most 6 decisions, so nothing is left to bootstrap."""
    buffer = agents.buffer(DATA, replace(SETTINGS, n_step=n_step, gamma=1.0))
    batch = buffer.sample_transition_batch(400)
    to_go = {
        e.observations[t].tobytes(): (e.rewards[t:].sum(), len(e.rewards) - t)
        for e in DATA
        for t in range(len(e.rewards))
    }
    for observation, reward, interval in zip(batch.observations, batch.rewards, batch.intervals, strict=True):
        wanted, left = to_go[observation.tobytes()]
        assert reward[0] == pytest.approx(wanted, abs=1e-5)
        assert interval[0] == left
    assert (batch.terminals == 1).all()


def test_one_step_picks_rewards_and_ends_with_the_episode() -> None:
    batch = agents.buffer(DATA, replace(SETTINGS, n_step=1)).sample_transition_batch(400)
    where = {e.observations[t].tobytes(): (e, t) for e in DATA for t in range(len(e.rewards))}
    assert {o.tobytes() for o in batch.observations} == set(where)  # the last transition among them
    for i, observation in enumerate(batch.observations):
        e, t = where[observation.tobytes()]
        last = t == len(e.rewards) - 1
        assert batch.rewards[i] == e.rewards[t]
        assert batch.actions[i] == e.actions[t]
        assert batch.terminals[i] == last
        np.testing.assert_array_equal(
            batch.next_observations[i], 0 * e.observations[t] if last else e.observations[t + 1]
        )


def test_first_decisions_are_drawn_with_their_share() -> None:
    long = episodes((40, 60), seed=3)
    agents.d3rlpy.seed(0)
    batch = agents.buffer(long, SETTINGS).sample_transition_batch(20_000)
    heads = {e.observations[0].tobytes() for e in long}
    drawn = np.mean([o.tobytes() in heads for o in batch.observations])
    wanted = FIRST_SHARE + (1 - FIRST_SHARE) * 2 / 100
    assert drawn == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 20_000) ** 0.5)


@pytest.mark.parametrize(("action", "nearest"), [(-1.0, -1.0), (0.1, 0.0), (0.13, 0.25), (0.99, 1.0)])
def test_a_discrete_agent_sees_the_nearest_action_of_the_grid(action: float, nearest: float) -> None:
    assert GRID[agents.to_grid(np.array([[action]]))] == nearest


def test_td3bc_finds_the_better_action() -> None:
    """The better action is .5 where a feature is positive and -.5 where it is not; the data acts at random."""
    rng = np.random.default_rng(0)
    data = []
    for _ in range(200):
        seen = np.zeros((2, len(NAMES)), np.float32)
        seen[:, 0] = rng.choice([-1.0, 1.0], 2)
        action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        data.append(Episode(seen, action, -np.square(action - 0.5 * seen[:, :1]) * 4))
    settings = Settings("td3bc", 600, 64, 3e-3, 1.0, 2, 3.0, (32,))
    agent = agents.train(data, settings, 0)
    probe = np.zeros((2, len(NAMES)), np.float32)
    probe[:, 0] = (-1, 1)
    low, high = agents.predict(agent, probe)
    assert low == pytest.approx(-0.5, abs=0.3)
    assert high == pytest.approx(0.5, abs=0.3)
