"""Agents are cached under all that decides them: the train stage trains none twice, and leaves the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import collect, train
from pipeline.agent_training import AgentSpec
from pipeline.config import load, overlay, read
from pipeline.paths import Paths
from pipeline.result_cache import open_cache
from policy.allowed import device
from policy.settings import Inferred, TrainConfig
from repository import TOP
from tiny import write_params

PARAMS = load(TOP)
SPEC = AgentSpec("data", PARAMS.reward, PARAMS.train, 0, "cpu")
TWINS = {
    "branches": {"share": 1.0, "levels": 1, "moves": 1, "twins": 3, "dear": 3, "base": "hold", "rolled_in": 0.0},
    "behaviour_policies": [str(TOP / "policy/behaviour/initial.onnx")],
}
TRAIN: dict[str, Any] = {
    "learns_from": "runs",
    "algorithm": "iql",
    "steps": 1,
    "batch_size": 1,
    "learning_rate": 1.0,
    "gamma": 0.5,
    "n_step": 2,
    "alpha": 0.1,
    "hidden": (1,),
    "dropout": 0.1,
    "features": ("clock",),
    "mask_validation": 0.1,
    "mask_epochs": 0.1,
    "inferred": Inferred(stops=1, corrections=3),
}
CHANGES: dict[str, AgentSpec] = {
    "data": replace(SPEC, data="other data"),
    "reward": replace(SPEC, reward=replace(SPEC.reward, knee=0.1)),
    "seed": replace(SPEC, seed=1),
    "device": replace(SPEC, device="cuda"),
    "selection": replace(SPEC, selection="half"),
} | {name: replace(SPEC, config=replace(SPEC.config, **{name: value})) for name, value in TRAIN.items()}


def test_a_key_stands_for_all_that_decides_an_agent() -> None:
    assert {f.name for f in fields(AgentSpec)} | {f.name for f in fields(TrainConfig)} == {*CHANGES, "config", "seeds"}
    assert len({SPEC.key(), *(spec.key() for spec in CHANGES.values())}) == len(CHANGES) + 1
    for alike in (replace(SPEC.config, seeds=(8, 9)), replace(SPEC.config, device="cuda")):
        assert replace(SPEC, config=alike).key() == SPEC.key()


def test_the_control_sees_less_and_has_the_same_seeds() -> None:
    specs, seeds = train.plan(PARAMS, "data"), PARAMS.train.seeds
    assert [*specs] == [f"{name}{seed}" for name in ("seed", "blind") for seed in seeds]
    for seed in seeds:
        assert replace(specs[f"blind{seed}"], config=PARAMS.train) == specs[f"seed{seed}"]
        assert specs[f"blind{seed}"].config.features == ("clock",)


def parameters(root: Path, seeds: list[int], **changes: Any) -> None:
    small = {"steps": 40, "batch_size": 16, "hidden": [8], "seeds": seeds, "device": "cpu"} | changes
    content = overlay(read(root / "params.yaml"), {"train": small})
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a collection and MLflow's database."""
    root = write_params(tmp_path_factory.mktemp("root"), **TWINS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["collect", "--root", str(root)])
        collect.main()
    return root


@pytest.fixture
def root(collected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["train", "--root", str(collected)])
    return collected


def left(root: Path) -> dict[str, bytes]:
    """All that the stage writes."""
    paths = Paths(root)
    files = [*paths.agent.iterdir(), paths.train_metrics, paths.train_curve]
    return {path.name: path.read_bytes() for path in files}


def cached(folder: Path) -> set[str]:
    """The keys of the agents that were trained in `folder` so far."""
    if not (folder / ".agent_cache" / "cache.db").exists():
        return set()
    with open_cache(folder / ".agent_cache") as cache:
        return {str(key) for key in cache}


def test_what_is_cached_is_not_trained_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters(root, [0])
    train.main()
    first = left(root)
    assert {"seed0.d3", "blind0.d3", "training.json", "train.json", "train.csv"} == {*first}
    assert len(cached(tmp_path)) == 2

    with monkeypatch.context() as patch:
        patch.setattr(train, "build", None)  # a store that nobody needs
        train.main()
    assert left(root) == first

    capsys.readouterr()
    parameters(root, [0, 1])
    train.main()
    assert "train: 2/2 agents" in capsys.readouterr().out and len(cached(tmp_path)) == 4
    second = left(root)
    assert all(second[name] == first[name] for name in ("seed0.d3", "blind0.d3"))


def test_a_kill_loses_what_is_in_training(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed once one of eight agents is there; the next run trains the others."""
    parameters(root, [0, 1, 2, 3], steps=400)
    command = [sys.executable, "-m", "pipeline.train", "--root", str(root)]
    path = {"PYTHONPATH": f"{TOP}:{TOP / 'runtime'}"}
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | path) as process:
        while not cached(tmp_path):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    survived = cached(tmp_path)
    assert 1 <= len(survived) < 8
    train.main()
    left_over = 8 - len(survived)
    assert f"train: {left_over}/{left_over} agents" in capsys.readouterr().out
    assert sorted(path.name for path in Paths(root).agent.glob("*.d3")) == [
        f"{name}{i}.d3" for name in ("blind", "seed") for i in range(4)
    ]


def test_auto_is_a_device_that_there_is() -> None:
    assert [device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert device("auto") in ("cpu", "cuda")
