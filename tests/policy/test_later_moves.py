"""A factor inside the graph: first actions, and those of trainings that tell of their data, stay as they are."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bundles import MANIFEST, linear, save
from lrpilot import load_policy
from lrpilot.cli import main
from lrpilot.decisions.features import NAMES
from policy import graph
from policy.later_moves import FIRST as FIRST_ALONE
from policy.later_moves import Factor

FLAGS = [NAMES.index(name) for name in ("first", "has_epochs")]


def asked(rows: int = 40) -> np.ndarray:
    """Observations of all four kinds: first or not, told or not."""
    observations = graph.example_observations(rows)
    for i, place in enumerate(FLAGS):
        observations[:, place] = np.arange(rows) // 2**i % 2
    return observations


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_of_four_kinds_of_action_one_is_multiplied(factor: float, tmp_path: Path) -> None:
    model = linear(np.zeros((len(NAMES), 1), np.float32), 0.8, squash=False)
    Factor(factor).put_behind(model)
    observations = asked(4)
    wanted = [0.8 * factor, *[0.8] * 3]
    answers = load_policy(save(model, MANIFEST, tmp_path / "policy.onnx"))(observations)
    assert answers == pytest.approx(wanted)
    assert Factor(factor).of(observations, np.full(4, 0.8)) == pytest.approx(wanted)


def test_factors_multiply_and_one_changes_no_byte(tmp_path: Path) -> None:
    column = np.random.default_rng(0).normal(size=(len(NAMES), 1)).astype(np.float32)
    model, same = linear(column), linear(column)
    for _ in range(2):
        Factor(0.5).put_behind(model)
        Factor(1.0).put_behind(same)
    assert same.SerializeToString(deterministic=True) == linear(column).SerializeToString(deterministic=True)
    onnx.checker.check_model(model, full_check=True)
    plain, quartered = (load_policy(save(m, MANIFEST, tmp_path / f"{len(m.graph.node)}.onnx")) for m in (same, model))
    np.testing.assert_allclose(quartered(asked()), Factor(0.25).of(asked(), plain(asked())), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_an_export_answers_as_the_network_with_the_factor(factor: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    path = tmp_path / "policy.onnx"
    graph.write(network, MANIFEST, asked()[:4], path, Factor(factor))
    with torch.no_grad():
        answers = network(torch.from_numpy(asked())).numpy()[:, 0]
    np.testing.assert_allclose(load_policy(path)(asked()), Factor(factor).of(asked(), answers), atol=1e-5)
    free = Factor(factor).leaves(asked())
    assert free.sum() == 30
    np.testing.assert_allclose(load_policy(path)(asked())[free], answers[free], atol=1e-5)
    assert load_policy(path).manifest.golden.arrays()[1] == pytest.approx(
        Factor(factor).of(asked()[:4], answers[:4]), abs=1e-6
    )


def test_a_bundle_with_the_factor_verifies(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 1), torch.nn.Tanh())
    graph.write(network, MANIFEST, asked()[:4], tmp_path / "policy.onnx", Factor(0.0))
    assert main(["verify", str(tmp_path / "policy.onnx")]) == 0


def test_what_is_told_may_count_for_nothing() -> None:
    """The experiments damp every later move."""
    later = Factor(0.5, FIRST_ALONE)
    assert later.of(asked(8), np.full(8, 0.8)) == pytest.approx([0.4, 0.8] * 4)
