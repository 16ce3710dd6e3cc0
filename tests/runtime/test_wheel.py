"""The wheel holds lrpilot and its policy, nothing else, is small, and runs beside numpy and onnxruntime alone.

With torch, too, it runs the README. Other Pythons than this one get numpy and onnxruntime from the package index; those
that are not installed here, or get none, are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clones import AUTHOR
from repository import TOP

LIMIT = 400_000  # bytes, of which the policy takes most
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["tool"]["setuptools_scm"]["fallback_version"]
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
THIS = sysconfig.get_python_version()
PYTHONS = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)


def copy(folder: Path) -> Path:
    """What builds the package, without git."""
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(TOP / name, folder)
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(TOP / "runtime", folder / "runtime", ignore=ignored)
    return folder


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that finds nothing by PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def call(*command: str | Path, cwd: Path | None = None) -> str:
    """Output of a command that succeeds."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = copy(tmp_path_factory.mktemp("source"))
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", cwd=source)
    (path,) = (source / "dist").glob("*.whl")
    return path


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


def linked(names: Iterable[str], folder: Path) -> Path:
    """A folder with what is installed here under these names, and with all that it needs."""
    folder.mkdir(exist_ok=True)
    for held in closure(names):
        link(held, folder)
    return folder


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    runtime = TOP / "runtime"
    paths = (path for path in (runtime / "lrpilot").rglob("*") if path.suffix in (".py", ".onnx", ".md"))
    files = {str(path.relative_to(runtime)) for path in paths}
    about = {f"lrpilot-{VERSION}.dist-info/{name}" for name in ABOUT}
    assert set(zipfile.ZipFile(wheel).namelist()) == files | about | {"lrpilot/py.typed"}
    assert {"lrpilot/models/default/policy.onnx", "lrpilot/models/default/card.md"} <= files


def test_its_metadata_are_fit_for_an_index(wheel: Path) -> None:
    assert "PASSED" in call(sys.executable, "-m", "twine", "check", "--strict", wheel)


def test_it_needs_numpy_and_onnxruntime_alone(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    needs = [n for n in lines if n.startswith("Requires-Dist:") and "extra ==" not in n]
    assert sorted(n.split()[1].partition(">")[0] for n in needs) == ["numpy", "onnxruntime"]


def test_it_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= LIMIT


@pytest.mark.parametrize(("tag", "version"), [(None, r"\d+\.\d+\.\d+\.dev1\+g[0-9a-f]+"), ("v0.3.0", r"0\.3\.0")])
def test_its_version_is_that_of_the_tag(tag: str | None, version: str, tmp_path: Path) -> None:
    """One without git has the last release's, as `wheel` has; one of a clone without tags says which commit it is."""
    source = copy(tmp_path)
    call("git", "init", "-q", cwd=source)
    call("git", "add", ".", cwd=source)
    call("git", *AUTHOR, "commit", "-qm", "all", cwd=source)
    if tag is not None:
        call("git", *AUTHOR, "tag", "-a", tag, "-m", tag, cwd=source)
    assert re.fullmatch(version, call(sys.executable, "-m", "setuptools_scm", cwd=source).strip())


def interpreter(version: str) -> Path | None:
    """A Python of this version, among those of the PATH and of pyenv."""
    named = shutil.which(f"python{version}")
    others = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    for path in ([Path(named)] if named else []) + sorted(others):
        done = run(path, "-c", "import sysconfig; print(sysconfig.get_python_version())")
        if done.returncode == 0 and done.stdout.strip() == version:  # pyenv's shims are none of all versions
            return path
    return None


USE = """
import sys
from importlib.metadata import distributions
import lrpilot
policy = lrpilot.load_policy("default")
pilot = lrpilot.Pilot(policy.manifest.protocol, 40, "adam", probed=False)
pilot.decide(policy)
assert 0 < pilot.learning_rate() < 1
assert "torch" not in {held.name for held in distributions()}
print(lrpilot.__version__)
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_it_runs_beside_numpy_and_onnxruntime_alone(version: str, wheel: Path, tmp_path: Path) -> None:
    python = Path(sys.executable) if version == THIS else interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    call(python, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-compile")
    if version == THIS:
        place = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (place / "linked.pth").write_text(str(linked(("numpy", "onnxruntime"), tmp_path / "linked")), encoding="utf-8")
    else:
        fetch = (*pip, "--retries", "0", "--only-binary", ":all:", "-c", TOP / "constraints.txt")
        done = run(*fetch, "numpy", "onnxruntime")
        if done.returncode:
            pytest.skip(f"Python {version}: {done.stderr.strip().splitlines()[-1]}")
    call(*pip, "--no-index", wheel)  # fails where the wheel needs anything else
    assert call(python, "-I", "-c", USE, cwd=tmp_path).strip() == VERSION
    verified = call(tmp_path / "env/bin/lrpilot", "verify", "default", cwd=tmp_path)
    assert f"default: fine ({tmp_path / 'env'}" in verified


# Neither site-packages nor PYTHONPATH (-I, -S): what can be imported is the standard library and the two folders.
RUN = """
import importlib.util, json, sys
folders, script = json.loads(sys.argv[1]), sys.stdin.read()
sys.path += folders
exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
assert importlib.util.find_spec("pytest") is None
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


def test_the_readme_runs_beside_torch_alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp(name) for name in ("wheel", "others", "run")]
    zipfile.ZipFile(wheel).extractall(folders[0])
    linked(("torch", "numpy", "onnxruntime"), folders[1])
    text = (TOP / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block and "PilotLR" in block[1]
    command = [sys.executable, "-I", "-S", "-c", RUN, json.dumps([*map(str, folders[:2])])]
    done = subprocess.run(command, input=block[1], cwd=folders[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert Path(loaded["lrpilot.torch"]).is_relative_to(folders[0])
    assert {"torch", "numpy", "onnxruntime"} <= loaded.keys()
    # Whatever else was loaded is torch's, numpy's or onnxruntime's: lrpilot itself asks for no optional package.
    assert not loaded.keys() & {"mlflow", "pandas", "matplotlib", "lightning", "transformers", "accelerate", "onnx"}
    assert list(folders[2].iterdir()) == []
