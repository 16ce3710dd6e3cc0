"""The wheel holds lrpilot and its policy, nothing else, is small, and runs the README beside torch alone."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from repository import TOP

LIMIT = 320_000  # bytes, of which the policy takes most


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    shutil.copytree(TOP / "runtime", source / "runtime", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def closure(names: Iterable[str]) -> list[Distribution]:
    """The installed distributions that those named need, themselves included, optional ones left out."""
    needed: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        held = distribution(todo.pop())
        if held.name not in needed:
            needed[held.name] = held
            needs = map(Requirement, held.requires or ())
            todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return list(needed.values())


def link(held: Distribution, folder: Path) -> None:
    """Link what a distribution installed into `folder`; of a package that several share (nvidia), its part alone."""
    files = {Path(str(file)) for file in held.files or ()}
    for file in files:
        top = file.parts[0]
        if top not in ("..", "__pycache__"):
            own = len(file.parts) == 1 or Path(top, "__init__.py") in files or top.endswith("-info")
            entry = Path(*file.parts[: 1 if own else 2])
            (folder / entry).parent.mkdir(exist_ok=True)
            if not (folder / entry).is_symlink():
                (folder / entry).symlink_to(Path(str(held.locate_file(str(entry)))))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What a clean environment has: the wheel; torch, numpy and onnxruntime with all that they need."""
    folders = [tmp_path_factory.mktemp(name) for name in ("wheel", "others")]
    zipfile.ZipFile(wheel).extractall(folders[0])
    for held in closure(("torch", "numpy", "onnxruntime")):
        link(held, folders[1])
    return folders


def test_it_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"lrpilot"}
    assert {"lrpilot/models/default/policy.onnx", "lrpilot/models/default/card.md", "lrpilot/py.typed"} <= set(names)


def test_it_holds_every_module(wheel: Path) -> None:
    modules = {str(path.relative_to(TOP / "runtime")) for path in (TOP / "runtime" / "lrpilot").rglob("*.py")}
    assert {n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".py")} == modules


def test_it_needs_numpy_and_onnxruntime_alone(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    needs = [n for n in lines if n.startswith("Requires-Dist:") and "extra ==" not in n]
    assert sorted(n.split()[1].partition(">")[0] for n in needs) == ["numpy", "onnxruntime"]


def test_it_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= LIMIT


# Neither site-packages nor PYTHONPATH (-I, -S): what can be imported is the standard library and the two folders.
RUN = """
import importlib.util, json, sys
folders, script = json.loads(sys.argv[1]), sys.stdin.read()
sys.path += folders
exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
assert importlib.util.find_spec("pytest") is None
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


def test_the_readme_runs_beside_torch_alone(clean: list[Path], tmp_path: Path) -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block and "PilotLR" in block[1]
    command = [sys.executable, "-I", "-S", "-c", RUN, json.dumps([*map(str, clean)])]
    done = subprocess.run(command, input=block[1], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert Path(loaded["lrpilot.torch"]).is_relative_to(clean[0])
    assert {"torch", "numpy", "onnxruntime"} <= loaded.keys()
    # Whatever else was loaded is torch's, numpy's or onnxruntime's: lrpilot itself asks for no optional package.
    assert not loaded.keys() & {"mlflow", "pandas", "matplotlib", "lightning", "transformers", "accelerate", "onnx"}
    assert list(tmp_path.iterdir()) == []
