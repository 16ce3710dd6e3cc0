"""Two policies in one file: each decides on networks of its size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bundles import MANIFEST, linear, save
from lrpilot import load_policy
from lrpilot.cli import main
from lrpilot.decisions.features import BY_NAME, NAMES
from policy import graph
from policy.by_size import Small

SIZE = NAMES.index("log_weights")


def answering(action: float) -> onnx.ModelProto:
    return linear(np.zeros((len(NAMES), 1), np.float32), action, squash=False)


def of_networks(*weights: float) -> np.ndarray:
    """Observations of trainings of networks with so many weights."""
    rows = graph.example_observations(8)[: len(weights)]
    rows[:, SIZE] = [BY_NAME["log_weights"].scaled(np.float64(each)) for each in weights]
    return rows


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(load_policy(save(answering(-0.4), MANIFEST, tmp_path / "small.onnx")))


@pytest.mark.parametrize(
    ("weights", "action"),
    [(100, -0.4), (140_000, -0.4), (140_000 * 2**0.5, 0.2), (280_000, 0.8), (7e6, 0.8)],  # by hand
)
def test_the_size_says_who_answers(weights: float, action: float, small: Small, tmp_path: Path) -> None:
    both = answering(0.8)
    small.put_beside(both)
    onnx.checker.check_model(both, full_check=True)
    asked = of_networks(weights)
    assert load_policy(save(both, MANIFEST, tmp_path / "both.onnx"))(asked) == pytest.approx([action])
    assert small.of(asked, np.array([0.8])) == pytest.approx([action])


def test_of_an_unknown_size_the_small_one_answers(small: Small) -> None:
    asked = np.zeros((1, len(NAMES)), np.float32)  # a feature that is not known is 0
    assert small.of(asked, np.array([0.8])) == pytest.approx([-0.4])


def test_an_export_leaves_small_networks_to_the_shipped_policy_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    shipped, path = load_policy("default"), tmp_path / "policy.onnx"
    asked = of_networks(10, 1e3, 1e5, 2e5, 1e6, 1e7)
    graph.write(network, MANIFEST, asked, path, small=Small(shipped))
    both = load_policy(path)
    np.testing.assert_array_equal(both(asked)[:3], shipped(asked)[:3])
    with torch.no_grad():
        np.testing.assert_allclose(both(asked)[4:], network(torch.from_numpy(asked)).numpy()[4:, 0], atol=1e-5)
    assert main(["verify", str(path)]) == 0


def test_a_policy_of_another_opset_is_refused(small: Small) -> None:
    other = answering(0.0)
    other.opset_import[0].version = 17
    with pytest.raises(ValueError, match=r"small\.onnx: made for opset 18, want 17; export it again"):
        small.put_beside(other)
