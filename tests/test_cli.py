"""`lrpilot inspect` and `lrpilot verify`."""

import subprocess
import sys

import numpy as np
import pytest

from bundles import linear, manifest_json, write_bundle
from lrpilot.bundle import KEY
from lrpilot.cli import main
from lrpilot.features import NAMES

FINE = {"weights": {"progress": 1.0, "loss_slope": -0.5}}


def test_inspect_prints_the_manifest(tmp_path, capsys):
    path = write_bundle(tmp_path / "policy.onnx", **FINE, evaluation={"heldout.policy.mean": 0.125})
    assert main(["inspect", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for line in (
        ["file", str(path)],
        ["size", str(path.stat().st_size), "bytes"],
        ["optimizers", "adam,", "sgd"],
        ["loss_slope"],
        ["probe_fraction", "0.05"],
        ["algorithm", "iql"],
        ["heldout.policy.mean", "0.125"],
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
        ({"format": 2}, 1, "upgrade lrpilot"),
    ],
)
def test_verify(tmp_path, capsys, changes, status, message):
    path = write_bundle(tmp_path / "policy.onnx", **changes)
    assert main(["verify", str(path)]) == status
    shown = capsys.readouterr()
    assert message in (shown.err if status else shown.out)


def test_verify_finds_a_graph_of_another_width(tmp_path, capsys):
    path = write_bundle(tmp_path / "policy.onnx")

    path.write_bytes(linear(np.zeros((len(NAMES) - 1, 1), np.float32), 0.0, True, {KEY: manifest_json()}))
    assert main(["verify", str(path)]) == 1
    assert f"does not run on observations (n, {len(NAMES)})" in capsys.readouterr().err


def test_a_missing_file_is_one_line_and_status_1(tmp_path):
    command = [sys.executable, "-m", "lrpilot.cli", "verify", str(tmp_path / "none.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("lrpilot: ")
    assert "no such file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_heavy_library_is_loaded():
    code = (
        "import sys, lrpilot, lrpilot.cli, lrpilot.registry; "
        "print({'torch', 'mlflow', 'onnx', 'pandas', 'd3rlpy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
