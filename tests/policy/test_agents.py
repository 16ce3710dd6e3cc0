"""Agents train, are repeatable, survive export, and learn what the data says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bundles import MANIFEST
from lrpilot import load_policy
from lrpilot.decisions.features import NAMES
from policy import agents, graph
from policy.algorithms import ALGORITHMS
from policy.buffer import Runs
from policy.observations import BLIND, mask
from policy.store import LAYOUT, Masks
from random_runs import drawn
from tiny import learner

SETTINGS = learner("td3bc", gamma=0.9, n_step=2, alpha=1.0)


DATA = drawn((5, 3, 6, 4), 0).masked(Masks(0.5, 0.5), 0)  # random runs: what an agent is fed, worth nothing
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
    examples = graph.example_observations(65)
    one, again, other = (agents.predict(a, examples) for a in pairs[name])
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
        examples = graph.example_observations(257)[:rows]
        wanted = np.mean([agents.predict(a, examples) for a in several], axis=0)
        np.testing.assert_allclose(bundle(examples), wanted, atol=1e-5)
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
    blind, examples = load_policy(path), graph.example_observations(33)
    clock = mask(BLIND) == 1
    elsewhere = np.where(clock, examples, examples[::-1])
    later = np.where(clock, examples[::-1], examples)
    np.testing.assert_array_equal(blind(examples), blind(elsewhere))
    assert not np.allclose(blind(examples), blind(later))
    np.testing.assert_allclose(blind(examples), agents.predict(pairs["td3bc"][0], examples * mask(BLIND)), atol=1e-5)


def test_a_saved_agent_answers_as_before(pairs: dict[str, list[Any]], tmp_path: Path) -> None:
    examples = graph.example_observations(9)
    for name, (agent, *_) in pairs.items():
        agents.save(agent, tmp_path / f"{name}.d3")
        np.testing.assert_array_equal(
            agents.predict(agents.load(tmp_path / f"{name}.d3"), examples), agents.predict(agent, examples)
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_units_are_dropped_in_training_alone(algorithm: str, tmp_path: Path) -> None:
    plain, dropping = (agents.train(DATA, replace(SETTINGS, algorithm=algorithm, dropout=d), 0) for d in (0.0, 0.5))
    examples = graph.example_observations(9)
    answers = agents.predict(dropping, examples)
    np.testing.assert_array_equal(agents.predict(dropping, examples), answers)
    agents.save(dropping, tmp_path / "agent.d3")
    graph.write(agents.Network(agents.load(tmp_path / "agent.d3")), MANIFEST, GOLDEN, tmp_path / "policy.onnx")
    np.testing.assert_allclose(load_policy(tmp_path / "policy.onnx")(examples), answers, atol=2e-3)  # halved weights
    weights = [next(iter(a.impl.modules.get_torch_modules().values())).state_dict() for a in (plain, dropping)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_takes_its_steps_and_tells_its_losses() -> None:
    notes: list[tuple[int, dict[str, float]]] = []
    agent = agents.train(DATA, replace(SETTINGS, steps=40), 0, lambda step, losses: notes.append((step, losses)))
    assert agent.grad_step == 40
    assert [step for step, _ in notes] == list(range(2, 41, 2))  # 20 epochs
    assert all(losses and np.isfinite(list(losses.values())).all() for _, losses in notes)


def test_the_scale_of_observations_is_that_of_the_data() -> None:
    scaler = agents.create(DATA, SETTINGS, "cpu").config.observation_scaler
    mean, std = DATA.moments()
    assert scaler.mean.tolist() == mean.tolist() and scaler.std.tolist() == std.tolist()


def test_td3bc_finds_the_better_action() -> None:
    """The better action is .5 where a feature is positive and -.5 where it is not; the data acts at random."""
    store = drawn([2] * 200, 0)
    rows, _ = (data := store.masked(Masks(0, 0), 0)).rows_of(np.arange(200))
    store.decisions[:], store.constants[:] = 0, 0
    sign = np.random.default_rng(0).choice([-1.0, 1.0], len(rows))
    store.decisions[rows, LAYOUT.index((NAMES[0], 0))] = sign
    store.rewards[rows] = -4 * np.square(store.actions[rows] - 0.5 * sign)
    settings = learner("td3bc", steps=600, batch_size=64, learning_rate=3e-3, n_step=2, alpha=3.0, hidden=(32,))
    agent = agents.train(data, settings, 0)
    probe = np.zeros((2, len(NAMES)), np.float32)
    probe[:, 0] = (-1, 1)
    low, high = agents.predict(agent, probe)
    assert low == pytest.approx(-0.5, abs=0.3)
    assert high == pytest.approx(0.5, abs=0.3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_agent_trained_on_a_gpu_answers_on_a_cpu(name: str, tmp_path: Path) -> None:
    agent = agents.train(DATA, replace(SETTINGS, algorithm=name), 0, device="cuda")
    examples = graph.example_observations(9)
    modules = agent.impl.modules.get_torch_modules().values()
    assert all(p.is_cuda for module in modules for p in module.parameters())
    agents.save(agent, tmp_path / "agent.d3")
    again = agents.load(tmp_path / "agent.d3")
    np.testing.assert_allclose(agents.predict(again, examples), agents.predict(agent, examples), atol=1e-5)
