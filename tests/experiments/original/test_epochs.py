"""The original plan's decision process and its agents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from experiments.original.agents import epoch_agents, epochs
from experiments.original.agents.epoch_policy import EpochPolicy
from experiments.original.agents.epochs import FEATURES, Telemetry
from experiments.original.plan.catalogue import AGENTS
from experiments.original.plan.config import AgentsConfig

NOW = Telemetry(progress=0.5, lr=1e-3, grad_norm=10.0, train_loss=0.1, val_loss=1.0, val_error=0.25)
BEFORE = Telemetry(progress=0.4, lr=1e-3, grad_norm=1.0, train_loss=1.0, val_loss=10.0, val_error=0.5)


def test_an_observation_by_hand() -> None:
    by_name = dict(zip(FEATURES, epochs.observation(NOW, BEFORE), strict=True))
    assert by_name == pytest.approx(
        {"progress": 0.5, "learning_rate": -3, "gradient_norm": 1, "train_loss": -1, "val_loss": 0, "val_error": 0.25,
         "train_gain": 1, "val_gain": 1}
    )  # fmt: skip


def test_the_first_and_a_broken_observation_are_finite() -> None:
    assert epochs.observation(NOW, NOW)[-2:].tolist() == [0, 0]
    broken = Telemetry(0.5, 1e-3, float("nan"), float("inf"), float("nan"), 0.9)
    assert broken.broken and not NOW.broken
    assert np.isfinite(epochs.observation(broken, NOW)).all()


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ([2.0, 1.5, 1.75], [0.5, -0.25]),
        ([2.0, float("nan")], [-8.0]),
        ([2.0, 1e9], [-8.0]),
        ([2.0, float("inf")], [-8]),
    ],
)
def test_rewards_are_what_the_validation_loss_fell(losses: list[float], wanted: list[float]) -> None:
    assert epochs.rewards(losses).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("kind", "factor", "action", "nearest"),
    [
        ("discrete", 0.5, 0, 0.9), ("discrete", 0.96, 1, 1.0), ("discrete", 3.0, 2, 1.1),
        ("continuous", 0.25, -1, 0.5), ("continuous", 1.0, 0, 1.0), ("continuous", 2**0.5, 0.5, 2**0.5),
    ],
)  # fmt: skip
def test_the_action_that_comes_nearest(kind: str, factor: float, action: float, nearest: float) -> None:
    assert epochs.nearest(kind, factor) == pytest.approx(action)
    assert epochs.factor(kind, epochs.nearest(kind, factor)) == pytest.approx(nearest)


def test_rates_stay_within_bounds() -> None:
    assert (epochs.moved(1e-3, 1.1), epochs.moved(0.9, 2.0), epochs.moved(1e-8, 0.5)) == pytest.approx(
        (1.1e-3, 1, 1e-8)
    )


@pytest.mark.parametrize("kind", AGENTS)
def test_an_agent_learns_what_was_rewarded_and_its_file_answers_alike(kind: str, tmp_path: Path) -> None:
    rng, episodes = np.random.default_rng(0), []
    for _ in range(30):
        actions = np.array([epochs.drawn(kind, rng) for _ in range(8)])
        gains = -np.log([epochs.factor(kind, a) for a in actions]).astype(np.float32) * 10  # lower rates are better
        observations = rng.normal(size=(8, len(FEATURES))).astype(np.float32)
        episodes.append(epoch_agents.Episode(observations, actions, gains))
    config = AgentsConfig(400, 32, 3e-3, 0.5, 2.5, (16,), "discretecql", "td3bc", 3)
    losses: dict[str, float] = {}
    first, second = (epoch_agents.train(episodes, kind, config, lambda step, new: losses.update(new)) for _ in range(2))
    assert losses
    wanted = epoch_agents.write(first, {"kind": kind}, tmp_path / "a.onnx")
    epoch_agents.write(second, {"kind": kind}, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    policy = EpochPolicy(tmp_path / "a.onnx")
    assert policy.about == {"features": list(FEATURES), "kind": kind}
    np.testing.assert_allclose(policy(epoch_agents.examples()), wanted[:, 0], atol=1e-5)
    np.testing.assert_allclose(policy(epoch_agents.examples()[:1]), wanted[:1, 0], atol=1e-5)
    assert np.median(policy(np.concatenate([e.observations for e in episodes]))) <= 0.9


def test_a_file_with_other_features_is_refused(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Identity", ["observation"], ["factor"])]
    values = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None, 1]) for n in ("observation", "factor")
    ]
    graph = onnx.helper.make_graph(nodes, "other", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other\.onnx: sees None, want \['progress', .*run the learn stage"):
        EpochPolicy(tmp_path / "other.onnx")
