"""A factor on later moves inside the graph: the first action stays, every other one is multiplied."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bundles import MANIFEST, linear, save
from lrpilot import load_policy
from lrpilot.cli import main
from lrpilot.features import NAMES
from policy import graph, later_moves

FIRST = NAMES.index("first")


def asked(rows: int = 40) -> np.ndarray:
    """Observations, every other one a first one."""
    observations = graph.example_observations(rows)
    observations[:, FIRST] = np.arange(rows) % 2
    return observations


@pytest.mark.parametrize(("factor", "wanted"), [(0.0, [0.8, 0.0]), (0.5, [0.8, 0.4]), (1.0, [0.8, 0.8])])
def test_the_first_action_stays_and_later_ones_count_in_part(
    factor: float, wanted: list[float], tmp_path: Path
) -> None:
    model = linear(np.zeros((len(NAMES), 1), np.float32), 0.8, squash=False)
    later_moves.scale(model, factor)
    observations = np.zeros((2, len(NAMES)), np.float32)
    observations[0, FIRST] = 1.0
    answers = load_policy(save(model, MANIFEST, tmp_path / "policy.onnx"))(observations)
    assert answers == pytest.approx(wanted)
    assert later_moves.scaled(observations, np.array([0.8, 0.8]), factor) == pytest.approx(wanted)


def test_factors_multiply_and_one_changes_no_byte(tmp_path: Path) -> None:
    column = np.random.default_rng(0).normal(size=(len(NAMES), 1)).astype(np.float32)
    model, same = linear(column), linear(column)
    for _ in range(2):
        later_moves.scale(model, 0.5)
        later_moves.scale(same, 1.0)
    assert same.SerializeToString(deterministic=True) == linear(column).SerializeToString(deterministic=True)
    onnx.checker.check_model(model, full_check=True)
    plain, quartered = (load_policy(save(m, MANIFEST, tmp_path / f"{len(m.graph.node)}.onnx")) for m in (same, model))
    np.testing.assert_allclose(quartered(asked()), later_moves.scaled(asked(), plain(asked()), 0.25), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_an_export_answers_as_the_network_with_the_factor(factor: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    path = tmp_path / "policy.onnx"
    graph.write(network, MANIFEST, asked()[:4], path, factor)
    with torch.no_grad():
        answers = network(torch.from_numpy(asked())).numpy()[:, 0]
    np.testing.assert_allclose(load_policy(path)(asked()), later_moves.scaled(asked(), answers, factor), atol=1e-5)
    first = asked()[:, FIRST] > 0
    np.testing.assert_allclose(load_policy(path)(asked())[first], answers[first], atol=1e-5)
    assert load_policy(path).manifest.golden.arrays()[1] == pytest.approx(
        later_moves.scaled(asked()[:4], answers[:4], factor), abs=1e-6
    )


def test_a_bundle_with_the_factor_verifies(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 1), torch.nn.Tanh())
    graph.write(network, MANIFEST, asked()[:4], tmp_path / "policy.onnx", 0.0)
    assert main(["verify", str(tmp_path / "policy.onnx")]) == 0
