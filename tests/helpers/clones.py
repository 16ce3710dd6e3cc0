"""A committed copy of the working tree, in which a profile's `dvc repro` runs as it does in a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from repository import TOP

AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def copy(folder: Path) -> None:
    """Copy the working tree: what git knows of it, and what it does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=TOP, capture_output=True, text=True, check=True).stdout.splitlines():
        if (TOP / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, folder / name)


def repro(folder: Path, profile: str) -> str:
    """Copy and commit the working tree, run the profile there; what DVC and the stages said."""
    copy(folder)
    sh(folder, "git", "init", "-q")
    sh(folder, "git", "add", "-A")
    sh(folder, "git", *AUTHOR, "commit", "-qm", "all")
    sh(folder, sys.executable, "-m", "tools.profile", profile)
    return sh(folder, "dvc", "repro", f"profiles/{profile}/dvc.yaml")


def environment(clone: Path) -> dict[str, str]:
    """The variables by which a process uses this Python, and the clone's own packages."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(clone / "runtime"), str(clone)]),
    }


def sh(clone: Path, *command: str, scm: bool = False) -> str:
    """Output of a command in the clone, run with this Python and the clone's own packages; it must succeed.

    DVC works as for a profile, which git does not know; `scm`: as for what git knows.
    """
    variables = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | environment(clone)
    variables["DVC_NO_ANALYTICS"] = "1"
    if not scm:
        variables["DVC_SYSTEM_CONFIG_DIR"] = ".dvc/profile"
    done = subprocess.run(command, cwd=clone, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
