"""Agents train, are repeatable, survive export, and learn what the data says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.stats
import torch

from benchmarks.scaling.replay_buffers import drawn, pick_difference
from bundles import MANIFEST
from lrpilot import load_policy
from lrpilot.features import NAMES
from policy import agents, graph
from policy.agents import ALGORITHMS, FIRST_SHARE, GRID, Runs, Settings, Transitions
from policy.observations import BLIND, mask
from policy.store import LAYOUT, Masks, View

SETTINGS = Settings(
    algorithm="td3bc", steps=30, batch_size=16, learning_rate=1e-3, gamma=0.9, n_step=2, alpha=1.0, hidden=(8,)
)


def view(lengths: tuple[int, ...] = (5, 3, 6, 4), seed: int = 0) -> View:
    """Random runs: what an agent is fed, worth nothing."""
    return drawn(lengths, seed).masked(Masks(0.5, 0.5), seed)


DATA = view()
EPISODES = Runs(DATA, discrete=False).episodes
GOLDEN = np.asarray(EPISODES[0].observations)[:4]


def trained(algorithm: str, seed: int = 0) -> Any:
    return agents.train(DATA, replace(SETTINGS, algorithm=algorithm), seed)


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Any]]:
    """Two agents of one seed and one of another, by algorithm."""
    return {name: [trained(name, seed) for seed in (1, 1, 2)] for name in ALGORITHMS}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_equal_seeds_give_equal_agents(name: str, pairs: dict[str, list[Any]]) -> None:
    seen = graph.example_observations(65)
    one, again, other = (agents.predict(a, seen) for a in pairs[name])
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == (65,)
    assert (np.abs(one) <= 1).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_export_answers_as_the_agent_does(name: str, pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    several = [pairs[name][0], pairs[name][2]]
    path = tmp_path / "policy.onnx"
    graph.write(graph.Mean([agents.Network(a) for a in several]), MANIFEST, GOLDEN, path)
    bundle = load_policy(path)
    for rows in (1, 2, 257):
        seen = graph.example_observations(257)[:rows]
        wanted = np.mean([agents.predict(a, seen) for a in several], axis=0)
        np.testing.assert_allclose(bundle(seen), wanted, atol=1e-5)
    again = tmp_path / "again.onnx"
    graph.write(graph.Mean([agents.Network(a) for a in several]), MANIFEST, GOLDEN, again)
    assert again.read_bytes() == path.read_bytes()
    assert list(tmp_path.iterdir()) in ([path, again], [again, path])  # no second file with the weights


def test_an_export_holds_no_path_of_the_machine(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    graph.write(agents.Network(pairs["bc"][0]), MANIFEST, GOLDEN, path)
    assert b"site-packages" not in path.read_bytes()
    assert b".py" not in path.read_bytes()
    assert [p.key for p in onnx.load(path).metadata_props] == ["lrpilot"]


def test_the_blind_export_answers_to_the_clock_alone(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    network, path = agents.Network(pairs["td3bc"][0]), tmp_path / "blind.onnx"
    graph.write(graph.Masked(network, mask(BLIND)), MANIFEST, GOLDEN, path)
    blind, seen = load_policy(path), graph.example_observations(33)
    clock = mask(BLIND) == 1
    elsewhere = np.where(clock, seen, seen[::-1])
    later = np.where(clock, seen[::-1], seen)
    np.testing.assert_array_equal(blind(seen), blind(elsewhere))
    assert not np.allclose(blind(seen), blind(later))
    np.testing.assert_allclose(blind(seen), agents.predict(pairs["td3bc"][0], seen * mask(BLIND)), atol=1e-5)


def test_a_saved_agent_answers_as_before(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    seen = graph.example_observations(9)
    for name, (agent, *_) in pairs.items():
        agents.save(agent, tmp_path / f"{name}.d3")
        np.testing.assert_array_equal(
            agents.predict(agents.load(tmp_path / f"{name}.d3"), seen), agents.predict(agent, seen)
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_units_are_dropped_in_training_alone(algorithm: str, tmp_path: Path) -> None:
    plain, dropping = (agents.train(DATA, replace(SETTINGS, algorithm=algorithm, dropout=d), 0) for d in (0.0, 0.5))
    seen = graph.example_observations(9)
    answers = agents.predict(dropping, seen)
    np.testing.assert_array_equal(agents.predict(dropping, seen), answers)
    agents.save(dropping, tmp_path / "agent.d3")
    graph.write(agents.Network(agents.load(tmp_path / "agent.d3")), MANIFEST, GOLDEN, tmp_path / "policy.onnx")
    np.testing.assert_allclose(load_policy(tmp_path / "policy.onnx")(seen), answers, atol=2e-3)  # halved weights
    weights = [next(iter(a.impl.modules.get_torch_modules().values())).state_dict() for a in (plain, dropping)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_takes_its_steps_and_tells_its_losses() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    agent = agents.train(DATA, replace(SETTINGS, steps=40), 0, lambda step, losses: told.append((step, losses)))
    assert agent.grad_step == 40
    assert [step for step, _ in told] == list(range(2, 41, 2))  # 20 epochs
    assert all(losses and np.isfinite(list(losses.values())).all() for _, losses in told)


@pytest.mark.parametrize("n_step", [6, 50])
def test_long_steps_without_discount_pick_the_return_to_go(n_step: int) -> None:
    """Episodes have at most 6 decisions, so nothing is left to bootstrap."""
    batch = Transitions(DATA, replace(SETTINGS, n_step=n_step, gamma=1.0)).pick(np.arange(18))
    wanted = np.concatenate([np.cumsum(e.rewards[::-1])[::-1] for e in EPISODES])
    np.testing.assert_allclose(batch.rewards[:, 0], wanted, atol=1e-5)
    assert batch.intervals[:, 0].tolist() == [left for e in EPISODES for left in range(len(e.actions), 0, -1)]
    assert (batch.terminals == 1).all()


@pytest.mark.parametrize("algorithm", ["td3bc", "discretecql"])
@pytest.mark.parametrize(("n_step", "gamma"), [(1, 0.9), (2, 0.9), (3, 1.0), (6, 0.5), (50, 1.0)])
def test_every_pick_is_that_of_d3rlpy(n_step: int, gamma: float, algorithm: str) -> None:
    buffer = Transitions(DATA, replace(SETTINGS, algorithm=algorithm, n_step=n_step, gamma=gamma))
    assert buffer.transition_count == 18
    assert pick_difference(buffer) < 1e-6  # of rewards, which are sums
    single = buffer.sample_transition()
    assert single.observation_signature == buffer.dataset_info.observation_signature
    assert single.action_signature == buffer.dataset_info.action_signature


def test_one_step_is_d3rlpys_basic_one() -> None:
    batch = Transitions(DATA, replace(SETTINGS, n_step=1)).pick(np.arange(18))
    basic = agents.d3rlpy.dataset.BasicTransitionPicker()
    picked = [basic(e, i) for e in EPISODES for i in range(e.transition_count)]
    for name in ("observation", "action", "reward", "next_observation", "next_action"):
        np.testing.assert_array_equal(getattr(batch, f"{name}s"), [getattr(p, name) for p in picked])
    assert batch.terminals[:, 0].tolist() == [p.terminal for p in picked]


def test_the_scale_of_observations_is_the_one_that_d3rlpy_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Transitions(DATA, SETTINGS)
    scaler = agents.d3rlpy.preprocessing.StandardObservationScaler()
    scaler.fit_with_transition_picker(buffer.episodes, buffer.transition_picker)
    found = agents.create(DATA, SETTINGS, "cpu").config.observation_scaler
    assert found.mean.tolist() == scaler.mean.tolist() and found.std.tolist() == scaler.std.tolist()
    monkeypatch.setattr("policy.store.BLOCK", 3)  # runs at a time: more than one block
    mean, std = DATA.moments()
    np.testing.assert_allclose(mean, scaler.mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(std, scaler.std, rtol=1e-12)


def test_without_preference_all_decisions_are_drawn_alike() -> None:
    agents.d3rlpy.seed(0)
    batch = Transitions(DATA, SETTINGS, first_share=0).sample_transition_batch(36_000)
    _, counts = np.unique(batch.observations, axis=0, return_counts=True)
    assert len(counts) == 18
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_first_decisions_are_drawn_with_their_share() -> None:
    long = view((40, 60), seed=3)
    agents.d3rlpy.seed(0)
    batch = Transitions(long, SETTINGS).sample_transition_batch(20_000)
    heads = {np.asarray(e.observations)[0].tobytes() for e in Runs(long, discrete=False).episodes}
    drawn = np.mean([o.tobytes() in heads for o in batch.observations])
    wanted = FIRST_SHARE + (1 - FIRST_SHARE) * 2 / 100
    assert drawn == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 20_000) ** 0.5)


@pytest.mark.parametrize(("action", "nearest"), [(-1.0, -1.0), (0.1, 0.0), (0.13, 0.25), (0.99, 1.0)])
def test_a_discrete_agent_sees_the_nearest_action_of_the_grid(action: float, nearest: float) -> None:
    assert GRID[agents.to_grid(np.array([[action]]))] == nearest


def test_td3bc_finds_the_better_action() -> None:
    """The better action is .5 where a feature is positive and -.5 where it is not; the data acts at random."""
    store = drawn([2] * 200, 0)
    rows, _ = (data := store.masked(Masks(0, 0), 0)).rows_of(np.arange(200))
    store.decisions[:], store.kept[:] = 0, 0
    sign = np.random.default_rng(0).choice([-1.0, 1.0], len(rows))
    store.decisions[rows, LAYOUT.index((NAMES[0], 0))] = sign
    store.rewards[rows] = -4 * np.square(store.actions[rows] - 0.5 * sign)
    settings = Settings("td3bc", 600, 64, 3e-3, 1.0, 2, 3.0, (32,))
    agent = agents.train(data, settings, 0)
    probe = np.zeros((2, len(NAMES)), np.float32)
    probe[:, 0] = (-1, 1)
    low, high = agents.predict(agent, probe)
    assert low == pytest.approx(-0.5, abs=0.3)
    assert high == pytest.approx(0.5, abs=0.3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_agent_trained_on_a_gpu_answers_on_a_cpu(name: str, tmp_path: Path) -> None:
    agent = agents.train(DATA, replace(SETTINGS, algorithm=name), 0, device="auto")
    seen = graph.example_observations(9)
    modules = agent.impl.modules.get_torch_modules().values()
    assert all(p.is_cuda for module in modules for p in module.parameters())
    agents.save(agent, tmp_path / "agent.d3")
    again = agents.load(tmp_path / "agent.d3")
    np.testing.assert_allclose(agents.predict(again, seen), agents.predict(agent, seen), atol=1e-5)
