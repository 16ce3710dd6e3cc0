"""The wheel holds lrpilot and its policy, nothing else, and is small."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
LIMIT = 300_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    shutil.copytree(TOP / "runtime", source / "runtime", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (source / "dist").glob("*.whl")
    return found


def test_it_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"lrpilot"}
    assert {"lrpilot/models/default/policy.onnx", "lrpilot/models/default/card.md", "lrpilot/py.typed"} <= set(names)


def test_it_needs_numpy_and_onnxruntime_alone(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    needs = [n for n in lines if n.startswith("Requires-Dist:") and "extra ==" not in n]
    assert sorted(n.split()[1].partition(">")[0] for n in needs) == ["numpy", "onnxruntime"]


def test_it_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= LIMIT
