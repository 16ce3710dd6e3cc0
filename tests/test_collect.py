"""A collection is decided by its parameters: interrupted, damaged or in another number of processes, equal bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bundles import write_bundle
from closure import TOP
from pipeline import collect
from pipeline.collect import Spec, plan
from pipeline.config import CollectConfig, load
from pipeline.paths import Paths
from policy import trajectories
from tiny import write_params

TASKS = 8


@pytest.fixture(autouse=True)
def from_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def config(folder: Path, **changes: Any) -> CollectConfig:
    return load(write_params(folder, **changes)).collect


def hashes(root: Path) -> dict[str, str]:
    """sha256 of every file of a collection."""
    folder = Paths(root).trajectories
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def run_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["collect", "--root", str(root)])
    collect.main()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an uninterrupted collection."""
    root = write_params(tmp_path_factory.mktemp("whole"), tasks=TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run_here(root, patch)
    return root


def test_plan_is_decided_by_the_seed(tmp_path: Path) -> None:
    one = plan(config(tmp_path))
    assert one == plan(config(tmp_path))
    assert one != plan(config(tmp_path, seed=6))
    assert len({spec.name() for spec in one}) == len(one)


@pytest.mark.parametrize("tasks", [1, 4, 7, 40])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_families_get_their_share(tmp_path: Path, tasks: int, seed: int) -> None:
    weights = {"spirals": 2.0, "illconditioned": 1.0, "regression": 1.0}
    counts = Counter(spec.family for spec in plan(config(tmp_path, families=weights, tasks=tasks, seed=seed)))
    assert counts.total() == tasks
    for name, weight in weights.items():
        assert abs(counts[name] - tasks * weight / 4) < 1


def test_an_unknown_family_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="workload family 'cifar' is unknown"):
        plan(config(tmp_path, families={"cifar": 1.0}))


SPEC = Spec("spirals", 1, 2, True, (("constant", 1.0),), (("a.onnx", "f" * 64),), (0.3, 0.9), 32, "cpu", "c" * 64)
CHANGES: dict[str, Any] = {
    "family": "tabular",
    "task_seed": 2,
    "runs": 3,
    "probed": False,
    "schedules": (("constant", 2.0),),
    "policies": (("a.onnx", "e" * 64),),
    "exploration": (0.3, 0.8),
    "val_examples": 64,
    "device": "cuda",
    "code": "d" * 64,
}


def test_every_field_is_tried() -> None:
    assert set(CHANGES) == {field.name for field in fields(Spec)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_name_stands_for_every_field(field: str) -> None:
    assert replace(SPEC, **{field: CHANGES[field]}).name() != SPEC.name()


def test_a_policy_counts_by_content_not_by_path(tmp_path: Path) -> None:
    paths = [write_bundle(tmp_path / name / "policy.onnx", bias=b) for name, b in (("a", 0.1), ("b", 0.1), ("c", 0.2))]
    one, moved, other = ([s.name() for s in plan(config(tmp_path, behaviour_policies=[str(p)]))] for p in paths)
    assert one == moved
    assert not set(one) & set(other)


def test_what_a_collection_leaves(whole: Path) -> None:
    params = load(whole).collect
    metrics = json.loads(Paths(whole).collect_metrics.read_text())
    assert metrics["runs"] == TASKS * params.runs_per_task
    assert metrics["families"] == len(params.families)
    assert 0 <= metrics["divergent_share"] <= 1
    tables = [trajectories.read(path) for path in trajectories.files(Paths(whole).trajectories)]
    assert len(tables) == TASKS
    assert metrics["decisions"] == sum(len(t) - trajectories.count_runs(t) for t in tables)
    for table in tables:
        assert trajectories.count_runs(table) == params.runs_per_task
    assert (whole / "mlflow.db").exists()


def test_only_what_is_missing_or_damaged_is_collected_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    found = trajectories.files(Paths(root).trajectories)
    stamps = {path: path.stat().st_mtime_ns for path in found}
    found[0].unlink()
    found[3].write_bytes(found[3].read_bytes()[:1000])
    old = Paths(root).trajectories / "old"
    strangers = [found[1].with_name("0123456789abcdef.parquet"), found[2].with_suffix(".partial"), old / "1.parquet"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of other parameters")

    run_here(root, monkeypatch)

    assert hashes(root) == hashes(whole)
    assert [p for p in found if p.stat().st_mtime_ns != stamps[p]] == [found[0], found[3]]
    assert not old.exists()
    told = capsys.readouterr().out
    assert f"collect: recollecting a damaged file: {found[3]}: not readable as Parquet" in told
    assert "removed 3 files of other parameters or code" in told


def test_killed_in_the_middle_and_run_again_equals_never_stopped(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{whole}/mlflow.db")  # a new one would take seconds
    root = write_params(tmp_path / "killed", tasks=TASKS, workers=2)
    command = [sys.executable, "-m", "pipeline.collect", "--root", str(root)]
    process = subprocess.Popen(command, cwd=TOP, start_new_session=True, stderr=subprocess.PIPE)
    try:
        while not list(root.glob("data/trajectories/*/*.parquet")):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert 0 < len(hashes(root)) < TASKS
    assert not Paths(root).collect_metrics.exists()

    write_params(root, tasks=TASKS, workers=1)
    run_here(root, monkeypatch)
    assert hashes(root) == hashes(whole)


def test_two_collections_do_not_write_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{whole}/mlflow.db")
    root = write_params(tmp_path)
    Paths(root).trajectories.mkdir(parents=True)
    with FileLock(Paths(root).trajectories.with_suffix(".lock")), pytest.raises(SystemExit, match="another collection"):
        run_here(root, monkeypatch)


def test_bad_parameters_end_the_stage_with_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_params(tmp_path, runs_per_task=0)
    with pytest.raises(ValueError, match=r"collect\.runs_per_task is 0, want an integer at least 1"):
        run_here(root, monkeypatch)
