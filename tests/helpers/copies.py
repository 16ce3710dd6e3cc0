"""A copy of the packages with some lines added, as somebody adds them who follows CONTRIBUTING.md."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from repository import TOP

COPIED = ("runtime/lrpilot", "policy", "pipeline", "tests/helpers", "tests/trainings", "params.yaml")


def with_lines(top: Path, additions: Iterable[tuple[str, str, str]]) -> Path:
    """Copy the packages to `top`, and add lines. Each addition is a file, the beginning of the line before, the text.
    Returns `top`.
    """
    for name in COPIED:
        source, target = TOP / name, top / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for file, before, added in additions:
        lines = (top / file).read_text(encoding="utf-8").splitlines()
        (at,) = (i for i, line in enumerate(lines) if line.startswith(before))
        (top / file).write_text("\n".join([*lines[: at + 1], added, *lines[at + 1 :], ""]), encoding="utf-8")
    return top


def run(top: Path, *arguments: str) -> str:
    """What Python prints there, in a process of its own."""
    folders = (".", "runtime", "tests/helpers", "tests/trainings")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(top / folder) for folder in folders)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=top, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
