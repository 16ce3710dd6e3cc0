"""Parameters that cannot be used stop every stage, and a profile, before anything runs: by the commands themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repository import TOP

GOOD = (TOP / "params.yaml").read_text()


def command(*words: str, cwd: Path = TOP) -> str:
    """What a command says on stderr before it fails; it must be one line."""
    environment = os.environ | {"PYTHONPATH": str(TOP)}  # of this checkout, whatever the directory
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("stage", "old", "new", "message"),
    [
        ("collect", "  seed: 1\n", "  seed: [1\n", "params.yaml: line 11, column 11: expected"),
        ("collect", "    photos_cnn:", "    photo_cnn:", "collect.families is 'photo_cnn', want a text that is one of"),
        ("collect", "initial.onnx]", "first.onnx]", "collect.behaviour_policies: policy/behaviour/first.onnx: no"),
        ("train", "    - prose_lm\n", "    - prose\n", "evaluate.families[1] is 'prose', want a text that is one of"),
        ("evaluate", "  bootstrap:", "  boostrap:", "evaluate.boostrap is an unknown key (value 2000), want one of"),
        ("register", "  model:", "  model", "params.yaml: parameter register is 'model lr-policy', want a mapping of"),
    ],
)  # fmt: skip
def test_a_stage_names_the_fault_and_writes_nothing(
    stage: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert GOOD.count(old) >= 1
    (tmp_path / "params.yaml").write_text(GOOD.replace(old, new, 1))
    assert message in command(f"pipeline.{stage}", "--root", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {steps: 5\n", "profile odd: params/odd.yaml: line 2, column 1: "),
        ("", "profile odd: params/odd.yaml: holds None, want a mapping of sections to values"),
        ("train: {setps: 5}\n", "profile odd: params/odd.yaml: parameter train.setps is an unknown key"),
        (
            "evaluate: {families: [diabetis]}\n",
            "profile odd: params/odd.yaml: parameter evaluate.families[0] is 'diabetis', want a text that",
        ),
    ],
)
def test_a_profile_names_the_fault_and_writes_nothing(content: str, message: str, tmp_path: Path) -> None:
    for path in [TOP / "params.yaml", TOP / "dvc.yaml", TOP / "experiments/original/stages.yaml"]:
        copy = tmp_path / path.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "params").mkdir()
    (tmp_path / "params/odd.yaml").write_text(content)
    assert message in command("tools.profile", "odd", cwd=tmp_path)
    assert not (tmp_path / "profiles").exists()
