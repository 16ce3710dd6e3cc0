"""`lrpilot inspect` and `lrpilot verify`."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lrpilot
from bundles import MANIFEST, linear, save, write_bundle
from lrpilot import load_policy
from lrpilot.cli import TOLERANCE, main
from lrpilot.decisions.features import NAMES
from lrpilot.policy_file.manifest import FORMAT, Golden
from repository import TOP

FINE = {"weights": {"progress": 1.0, "loss_slope": -0.5}}


def test_inspect_prints_the_manifest(tmp_path, capsys):
    path = write_bundle(tmp_path / "policy.onnx", **FINE, evaluation={"selection.policy.mean": 0.125})
    assert main(["inspect", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for line in (
        ["file", str(path)],
        ["size", str(path.stat().st_size), "bytes"],
        ["optimizers", "adam,", "sgd"],
        ["loss_slope"],
        ["probe_fraction", "0.05"],
        ["algorithm", "iql"],
        ["golden", "3", "answers"],
        ["selection.policy.mean", "0.125"],
    ):
        assert line in lines
    assert any(line[:1] == ["sha256"] and len(line[1]) == 64 for line in lines)


def test_inspect_says_that_there_is_no_evaluation(tmp_path, capsys):
    assert main(["inspect", str(write_bundle(tmp_path / "policy.onnx"))]) == 0
    assert "evaluation: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, status, message",
    [
        (FINE, 0, "fine"),
        ({"bias": float("nan")}, 1, "answers nan, want finite actions"),
        ({"bias": 1.5, "squash": False}, 1, r"answers an action of size 1.5, want [-1, 1]"),
        ({"format": FORMAT + 1}, 1, "upgrade lrpilot"),
    ],
)
def test_verify(tmp_path, capsys, changes, status, message):
    path = write_bundle(tmp_path / "policy.onnx", **changes)
    assert main(["verify", str(path)]) == status
    shown = capsys.readouterr()
    assert message in (shown.err if status else shown.out)


@pytest.mark.parametrize("policy", ["default", "policy/behaviour/initial.onnx"])
def test_the_policies_of_the_repository_keep_their_golden_answers(policy, capsys, monkeypatch):
    monkeypatch.chdir(TOP)
    assert main(["verify", policy]) == 0
    assert "from 8 golden answers" in capsys.readouterr().out


@pytest.mark.parametrize("off, status", [(0.0, 0), (TOLERANCE / 2, 0), (TOLERANCE * 3, 1), (-0.4, 1)])
def test_verify_compares_with_the_golden_answers(tmp_path, capsys, off, status):
    column = np.full((len(NAMES), 1), 0.05, np.float32)
    observations = np.random.default_rng(1).normal(size=(4, len(NAMES))).astype(np.float32)
    answers = np.tanh(observations @ column)[:, 0]
    answers[2] += off
    path = save(linear(column), replace(MANIFEST, golden=Golden.of(observations, answers)), tmp_path / "policy.onnx")
    assert main(["verify", str(path)]) == status
    shown = capsys.readouterr()
    if status:
        assert f"to golden observation 2, where the trained networks answered {answers[2]:.6g}" in shown.err
        assert "at most 5e-05 apart is allowed" in shown.err
    else:
        assert "differs from 4 golden answers by" in shown.out


def test_golden_numbers_survive_the_file_exactly(tmp_path):
    observations = np.random.default_rng(2).normal(size=(50, len(NAMES))).astype(np.float32)
    golden = Golden.of(observations, observations[:, 0])
    manifest = replace(MANIFEST, golden=golden)
    path = save(linear(np.zeros((len(NAMES), 1), np.float32)), manifest, tmp_path / "policy.onnx")
    loaded = load_policy(path).manifest.golden
    assert loaded == golden
    np.testing.assert_array_equal(loaded.arrays()[0], observations)
    np.testing.assert_array_equal(loaded.arrays()[1], observations[:, 0])


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["drive", "default"], ["verify", "a", "b"]])
def test_a_wrong_command_line_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: lrpilot" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"lrpilot {lrpilot.__version__}\n")


def test_a_missing_file_is_one_line_and_status_1(tmp_path):
    command = [sys.executable, "-m", "lrpilot.cli", "verify", str(tmp_path / "none.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("lrpilot: ")
    assert "no such file" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_closed_pipe_ends_it_quietly(command):
    """As `| head` closes it; here before the first line, so that no output fits into the pipe unnoticed."""
    words = [sys.executable, "-m", "lrpilot.cli", command, "default"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")


def test_no_heavy_library_is_loaded():
    code = (
        "import sys, lrpilot, lrpilot.cli, lrpilot.policy_file.registry; "
        "print({'torch', 'mlflow', 'onnx', 'pandas', 'd3rlpy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
