"""Whatever dies, fails or fills up during a collection: no file is lost that was there, none is written twice, and
those that can be collected are, byte for byte as if nothing had happened. Processes, signals and disks are real."""

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling.soak import workers
from pipeline import collect
from pipeline.collect import plan
from pipeline.config import load
from pipeline.paths import Paths
from pipeline.simulation.recording import record
from pipeline.tracking import open_store
from policy import trajectories
from repository import MODULES, TOP
from tiny import write_params

TASKS = 8


@pytest.fixture(autouse=True, scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MLflow's, one for all: a new one would take seconds. Everything runs from the top, as a stage does."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("PYTHONPATH", MODULES)
        yield folder


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the collection, recorded here one after the other."""
    params = load(write_params(tmp_path_factory.mktemp("params"), tasks=TASKS))
    specs = plan(params.collect, params.regimes.shares)
    return {spec.file(): record(spec) for spec in specs}


@pytest.fixture(scope="module")
def wanted(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below the folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def metrics(root: Path) -> dict[str, Any]:
    return json.loads(Paths(root).collect_metrics.read_text())


def status(root: Path) -> str:
    """How MLflow says that the last run ended."""
    runs = open_store(root)
    (run,) = runs.client.search_runs([runs.experiment], order_by=["attributes.start_time DESC"], max_results=1)
    return run.info.status


def run_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["collect", "--root", str(root)])
    collect.main()


@contextmanager
def started(root: Path, module: str = "pipeline.collect") -> Iterator[subprocess.Popen[str]]:
    """A collection in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", module, "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(pattern: str, root: Path, process: subprocess.Popen[str], count: int = 1) -> None:
    """Until so many files match, while the process runs."""
    while len(list(root.glob(pattern))) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.005)


def test_killed_workers_and_a_second_collection(
    tmp_path: Path, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kills: no task can meet three, after which it would be given up."""
    root, moments = write_params(tmp_path, tasks=TASKS, workers=2), random.Random(0)
    folder = Paths(root).trajectories
    with started(root) as process:
        wait_for("data/trajectories.owner", root, process)
        told = f"another collection .process {process.pid} on .*. writes {folder}; wait for it, or end it"
        with pytest.raises(SystemExit, match=told):
            run_here(root, monkeypatch)
        for files in (1, 2):
            wait_for("data/trajectories/*/*.parquet", root, process, files)
            time.sleep(moments.uniform(0, 0.2))
            moments.choice(workers(process.pid)).kill()
        _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert hashes(folder) == wanted
    assert metrics(root)["runs"] == 3 * TASKS
    assert metrics(root)["failed"] == 0 and "failures" not in metrics(root)
    assert not folder.with_suffix(".owner").exists()


def test_a_killed_driver_is_run_again(tmp_path: Path, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_params(tmp_path, tasks=TASKS, workers=2)
    folder = Paths(root).trajectories
    with started(root) as process:
        wait_for("data/trajectories/*/*.parquet", root, process, 2)
        process.kill()
        process.wait()
    before, kept = stamps(folder), {name: h for name, h in hashes(folder).items() if not name.endswith(".partial")}
    assert 2 <= len(kept) < TASKS and kept.items() <= wanted.items()
    assert not Paths(root).collect_metrics.exists()

    write_params(root, tasks=TASKS, workers=1)
    run_here(root, monkeypatch)
    assert hashes(folder) == wanted
    assert before.items() <= stamps(folder).items()
    assert (metrics(root)["runs"], metrics(root)["failed"]) == (3 * TASKS, 0)


SMALL_DISK = """
mount -t tmpfs -o size="$4k" tmpfs "$2" && cp "$1"/* "$2" || exit
"$3" -m pipeline.collect --root "$2"
status=$?
cp -r "$2"/* "$1"
exit $status
"""


def test_a_full_disk(store: Path, tmp_path: Path, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a collection writes lies on it, as it does by default: MLflow's database, too."""
    root, disk = write_params(tmp_path / "root", tasks=TASKS), tmp_path / "disk"
    open_store(root)  # there is one by now
    shutil.copy(store / "mlflow.db", root)
    disk.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: cannot mount a small disk")
    size = sum(path.stat().st_size for path in root.iterdir()) // 1024 + 80
    arguments = [*map(str, (root, disk)), sys.executable, str(size)]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", *arguments]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    folder = Paths(root).trajectories
    if not folder.exists():
        pytest.skip(f"cannot mount a small disk: {done.stderr}")

    kept = hashes(folder)
    assert done.returncode == 1
    assert 0 < len(kept) < TASKS and kept.items() <= wanted.items()
    ((name, failure),) = metrics(root)["failures"].items()
    path = next(path for path in wanted if name in path)
    assert path not in kept
    assert failure["kind"] == "unwritten"
    assert failure["told"] == f"{Paths(disk).trajectories / path}: No space left on device"
    assert f"unwritten, {failure['told']}; make room" in done.stderr
    assert f"{TASKS - len(kept)} of {TASKS} tasks have no file; a new run collects these alone" in done.stderr
    assert "Traceback" not in done.stderr
    assert (metrics(root)["runs"], metrics(root)["failed"]) == (3 * len(kept), 1)

    before = stamps(folder)
    run_here(root, monkeypatch)
    assert hashes(folder) == wanted
    assert before.items() <= stamps(folder).items()
    assert (metrics(root)["runs"], metrics(root)["failed"]) == (3 * TASKS, 0)
    assert status(root) == "FINISHED"


def test_families_that_raise_hang_or_die(tmp_path: Path) -> None:
    families = {"illconditioned": 2.0, "raises": 1.0, "hangs": 1.0, "dies": 1.0}
    root = write_params(tmp_path, families=families, tasks=5, workers=2, time_limit=30)
    with started(root, "faulty") as process:
        _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "3 of 5 tasks have no file; a new run collects these alone" in told
    found = metrics(root)
    assert (found["runs"], found["families"], found["failed"]) == (6, 1, 3)
    assert len(trajectories.files(Paths(root).trajectories)) == 2
    failures = {failure["family"]: failure for failure in found["failures"].values()}
    assert {family: failure["kind"] for family, failure in failures.items()} == {
        "raises": "raised", "hangs": "timeout", "dies": "lost"
    }  # fmt: skip
    assert failures["raises"]["told"] == "OSError: no such data set: cifar"
    for family, failure in failures.items():
        line = f"collect: no file of family {family}, task seed {failure['task_seed']}: {failure['kind']}"
        assert f"{line}, {failure['told']}; " in told
    assert status(root) == "FAILED"


def test_nothing_at_all_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_params(tmp_path, tasks=1, time_limit=0.01)
    with pytest.raises(SystemExit, match="1 of 1 tasks have no file"):
        run_here(root, monkeypatch)
    assert (metrics(root)["runs"], metrics(root)["divergent_share"], metrics(root)["failed"]) == (0, 0, 1)


def test_only_what_is_missing_or_damaged_is_collected_again(
    contents: dict[str, bytes],
    wanted: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_params(tmp_path, tasks=TASKS)
    folder = Paths(root).trajectories
    for name, content in contents.items():
        trajectories.store(content, folder / name)
    found = trajectories.files(folder)
    before = stamps(folder)
    found[0].unlink()
    found[3].write_bytes(found[3].read_bytes()[:1000])
    old = folder / "old"
    strangers = [found[1].with_name("0123456789abcdef.parquet"), found[2].with_suffix(".partial"), old / "1.parquet"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of other parameters")

    run_here(root, monkeypatch)

    assert hashes(folder) == wanted
    after = stamps(folder)
    assert [path for path in found if after[path] != before[path]] == [found[0], found[3]]
    assert not old.exists()
    told = capsys.readouterr().out
    assert f"collect: recollecting a damaged file: {found[3]}: not readable as Parquet" in told
    assert "removed 3 files of other parameters or code" in told


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_collects_the_same_bytes(tmp_path: Path, wanted: dict[str, str]) -> None:
    root = write_params(tmp_path, tasks=TASKS, engine="ray", workers=2)
    with started(root) as process:
        _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert hashes(Paths(root).trajectories) == wanted
