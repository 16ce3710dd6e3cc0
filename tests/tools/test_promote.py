"""From the registered candidate to the policy that lrpilot ships."""

import hashlib
import json

import numpy as np
import onnx
import pytest

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.decisions.features import NAMES
from pipeline.paths import Paths
from repository import TOP
from tools.promote import promote

REGRET = {"mean": 0.2, "iqm": 0.15, "low": 0.1, "high": 0.3, "worst": 0.9}
FIGURES = {
    "benchmark": "b" * 64,
    "tasks": 12,
    **{f"selection.policy.{key}": value for key, value in REGRET.items()},
    **{f"selection.policy_val.{key}": value - 0.01 for key, value in REGRET.items()},
    **{f"selection.baseline.cosine.{key}": value + 0.25 for key, value in REGRET.items()},
    **{f"selection.control.state_blind.{key}": value - 0.05 for key, value in REGRET.items()},
    "selection.control.random_init.mean": 0.75,
}


@pytest.fixture
def paths(tmp_path):
    paths = Paths(tmp_path)
    (tmp_path / "params.yaml").write_text((TOP / "params.yaml").read_text())
    write_bundle(paths.policy, weights={"progress": 1.0, "loss_slope": -2.0}, bias=0.25)
    paths.collect_metrics.parent.mkdir()
    paths.collect_metrics.write_text(
        json.dumps({"runs": 5760, "decisions": 250000, "divergent_share": 0.1, "wall_s": 3.0})
    )
    paths.evaluate_metrics.write_text(json.dumps(FIGURES))
    sha256 = hashlib.sha256(paths.policy.read_bytes()).hexdigest()
    paths.register_metrics.write_text(json.dumps({"sha256": sha256, "version": 1}))
    return paths


def test_the_promoted_policy_is_the_candidate_and_knows_its_worth(paths, tmp_path):
    path = promote(paths, tmp_path / "default")
    candidate, promoted = load_policy(paths.policy), load_policy(path)
    rows = np.random.default_rng(0).normal(size=(9, len(NAMES))).astype(np.float32)
    np.testing.assert_array_equal(promoted(rows), candidate(rows))
    assert onnx.load(path).graph == onnx.load(paths.policy).graph
    assert candidate.manifest.evaluation == {}
    assert promoted.manifest.evaluation == {key: value for key, value in FIGURES.items() if key != "tasks"}
    assert promoted.manifest.training == candidate.manifest.training
    assert {file.name for file in path.parent.iterdir()} == {"policy.onnx", "card.md"}


def test_promoting_twice_gives_the_same_bytes(paths, tmp_path):
    first, again = (promote(paths, tmp_path / name).parent for name in ("a", "b"))
    for name in ("policy.onnx", "card.md"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_the_card_says_what_it_is_worth(paths, tmp_path):
    path = promote(paths, tmp_path / "default")
    text = path.with_name("card.md").read_text()
    for expected in (
        "- runs: 5760",
        "- optimizers: adam, sgd",
        "- algorithm: iql",
        "- steps: 10\n",  # the bundle's own word counts, whatever params.yaml says by now
        f"- sha256 of policy.onnx: {hashlib.sha256(path.read_bytes()).hexdigest()}",
        f"- benchmark: {'b' * 64}",
        "| policy | 0.200 | 0.150 | 0.100 | 0.300 | 0.900 |",
        "| policy_val | 0.190 | 0.140 | 0.090 | 0.290 | 0.890 |",
        "| control.random_init | 0.750 | – | – | – | – |",
        "- baselines: the policy is ahead of all 1",
        "what the policy observes did not help: control.state_blind",
        "Apache-2.0",
    ):
        assert expected in text
    assert "wall_s" not in text


def test_the_card_names_families_that_were_recorded_only_as_extra_tasks(paths, tmp_path):
    params = paths.root / "params.yaml"
    params.write_text(params.read_text().replace("extra: {}", "extra: {raw_columns: 2}"))
    text = promote(paths, tmp_path / "default").with_name("card.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("- families: ")]
    assert {"raw_columns", "wide_mlp"} < set(line.removeprefix("- families: ").split(", "))


@pytest.mark.parametrize(
    "breaks, message",
    [
        (lambda p: p.policy.unlink(), "policy.onnx: no such file"),
        (lambda p: p.policy.write_bytes(b"?"), "not an ONNX model"),
        (lambda p: p.evaluate_metrics.unlink(), "evaluate.json: no such file; run `dvc repro evaluate`"),
        (lambda p: p.evaluate_metrics.write_text('{"benchmark": "b"}'), "selection.policy.mean is None"),
        (lambda p: p.register_metrics.unlink(), "register.json: no such file; run `dvc repro`"),
        (lambda p: write_bundle(p.policy, bias=9.0), "its evaluation is another policy's"),
    ],
)
def test_nothing_is_promoted_that_was_not_judged(paths, tmp_path, breaks, message):
    content = promote(paths, tmp_path / "default").read_bytes()
    breaks(paths)
    with pytest.raises(ValueError, match=message):
        promote(paths, tmp_path / "default")
    assert (tmp_path / "default" / "policy.onnx").read_bytes() == content
