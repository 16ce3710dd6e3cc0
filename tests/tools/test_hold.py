"""The policy that lrpilot ships, with the later moves of trainings that tell little multiplied."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.actions import ActionEquation
from lrpilot.cli import main as command_line
from lrpilot.features import NAMES
from pipeline.evaluation.methods.ablated import Ablated, hold
from pipeline.evaluation.methods.learned import Learned
from pipeline.evaluation.splits import tasks
from pipeline.evaluation.trial import Run, execute
from policy.graph import example_observations
from policy.later_moves import FIRST, TOLD
from tools import hold as tool

PLACE = NAMES.index(*FIRST)


@pytest.fixture
def unscaled(tmp_path: Path) -> str:
    """A policy without a factor."""
    weights = dict(zip(NAMES, np.random.default_rng(0).normal(0, 0.3, len(NAMES)).tolist(), strict=True))
    return str(write_bundle(tmp_path / "unscaled.onnx", weights=weights, bias=0.1))


@pytest.fixture
def shipped(unscaled: str, tmp_path: Path) -> Path:
    """The folder of a copy of it, with a card."""
    folder, content = tmp_path / "default", Path(unscaled).read_bytes()
    folder.mkdir()
    (folder / "policy.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    card = f"- sha256 of policy.onnx: {digest}\n\n## Evaluation\n\n| policy | 0.2 |\n\n## Limits\n\nMany.\n"
    (folder / "card.md").write_text(card)
    return folder


@pytest.fixture
def observations() -> np.ndarray:
    """Of trainings that do not tell the size of their data; every other one is the first."""
    rows = example_observations(64)
    rows[:, [NAMES.index(name) for name in TOLD]] = 0.0
    rows[:, PLACE] = np.arange(64) % 2
    return rows


def test_held_the_graph_answers_as_the_control_does(shipped: Path, unscaled: str, observations: np.ndarray) -> None:
    tool.main(["--factor", "0", "--folder", str(shipped)])
    held, policy = load_policy(shipped / "policy.onnx"), load_policy(unscaled)
    np.testing.assert_array_equal(held(observations), hold(policy)(observations))
    assert np.ptp(held(observations)[observations[:, PLACE] > 0]) > 0.1
    assert held.manifest.training == policy.manifest.training | {"untold_moves": 0.0}
    assert held.manifest.evaluation == {} and held.protocol == policy.protocol
    assert held.manifest.graph != policy.manifest.graph
    assert command_line(["verify", str(shipped / "policy.onnx")]) == 0


def test_told_nothing_it_trains_as_the_control_does_and_else_as_before(shipped: Path, unscaled: str) -> None:
    tool.hold(shipped, 0.0)
    (task,) = tasks(("illconditioned",), 1)
    policy = str(shipped / "policy.onnx")
    pairs = (
        (Learned("policy", "", policy), Ablated("control", "hold", unscaled, "hold", epochs=False)),
        (Learned("policy", "", policy, epochs=True), Learned("policy", "", unscaled, epochs=True)),
    )
    for pair in pairs:
        (mine,), (other,) = (execute([Run(task, method, 0)]) for method in pair)
        for column in ("test_loss", "val_loss", "best_loss", "val_curve", "lr_curve"):
            assert mine[column] == other[column], (pair, column)


def test_halves_multiply(shipped: Path, unscaled: str, observations: np.ndarray) -> None:
    for _ in range(2):
        tool.hold(shipped, 0.5)
    quartered, answers = load_policy(shipped / "policy.onnx"), load_policy(unscaled)(observations)
    wanted = np.where(observations[:, PLACE] > 0, answers, 0.25 * answers)
    np.testing.assert_allclose(quartered(observations), wanted, atol=1e-6)
    assert quartered.manifest.training["untold_moves"] == 0.25


def test_the_card_says_so(shipped: Path) -> None:
    before = hashlib.sha256((shipped / "policy.onnx").read_bytes()).hexdigest()
    old = (shipped / "card.md").read_text()
    assert f"policy.onnx: {before}" in old and "| policy |" in old
    tool.hold(shipped, 0.0)
    after, card = hashlib.sha256((shipped / "policy.onnx").read_bytes()).hexdigest(), (shipped / "card.md").read_text()
    assert f"- sha256 of policy.onnx: {after}" in card
    assert (
        f"the policy of sha256 {before}\nwith a factor in its graph: not told" in card
        and "it holds its first level" in card
    )
    assert "| policy |" not in card and old.partition("## Limits")[2] == card.partition("## Limits")[2]


@pytest.mark.parametrize("factor", [-0.1, 1.0, float("nan")])
def test_a_factor_that_there_is_not(shipped: Path, factor: float) -> None:
    content = (shipped / "policy.onnx").read_bytes()
    with pytest.raises(SystemExit, match=r"hold: factor: .*, want a number from 0 to below 1"):
        tool.main([f"--factor={factor}", "--folder", str(shipped)])
    assert (shipped / "policy.onnx").read_bytes() == content


def test_actions_that_name_levels_cannot_be_held(tmp_path: Path) -> None:
    """An action of 0 would be the anchor there."""
    write_bundle(tmp_path / "policy.onnx", action=ActionEquation(moves=False))
    with pytest.raises(ValueError, match="later actions name levels"):
        tool.hold(tmp_path, 0.0)
