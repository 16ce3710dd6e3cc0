"""The spread of best learning rates, by hand and by its own command line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import spread
from closure import TOP
from pipeline import marked
from pipeline.benchmark import Task
from pipeline.evaluate import tasks

FIGURES = {"tasks", "lowest", "highest", "decades", "schedule", "lr", "mean", "worst"}


def rows() -> pd.DataFrame:
    """Two tasks of SGD that like constant rates three decades apart; one of Adam."""
    regrets = {
        ("a", "sgd"): {("constant", 1e-3): 0.0, ("constant", 1.0): 0.8, ("linear", 1.0): 0.2},
        ("b", "sgd"): {("constant", 1e-3): 0.6, ("constant", 1.0): 0.1, ("linear", 1.0): 0.3},
        ("c", "adam"): {("constant", 1e-3): 0.5, ("linear", 1e-2): 0.4},
    }
    return pd.DataFrame([
        {"split": "heldout", "task": task, "optimizer": optimizer, "seed": seed, "method": name, "lr0": lr0,
         "regret": regret + (0.02 if seed else -0.02)}
        for (task, optimizer), found in regrets.items() for (name, lr0), regret in found.items() for seed in (0, 1)
    ])  # fmt: skip


def test_by_hand() -> None:
    found = spread.figures(rows())
    sgd = {key: found[f"heldout.sgd.{key}"] for key in FIGURES}
    assert sgd == {
        "tasks": 2, "lowest": 1e-3, "highest": 1.0, "decades": pytest.approx(3.0), "schedule": "linear", "lr": 1.0,
        "mean": pytest.approx(0.25), "worst": pytest.approx(0.3),
    }  # fmt: skip
    assert found["heldout.adam.decades"] == 0.0
    assert found["heldout.mean"] == pytest.approx((0.2 + 0.3 + 0.4) / 3)
    assert found["heldout.worst"] == pytest.approx(0.4)
    assert spread.missed(found) == ["heldout.adam.decades: 0, want at least 2"]
    assert spread.missed(found | {"heldout.worst": 0.1})[-1] == "heldout.worst: 0.1, want at least 0.12"


def test_the_plan_is_the_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    planned = spread.plan(quick=False)
    assert len(planned) == spread.PER_FAMILY * len({task.family for task in planned})
    assert planned[0].split == "train" and planned[-1].split == "heldout"
    drawn = tasks(["mnist_cnn"], spread.PER_FAMILY, 2)
    assert [task for task in planned if task.family == "mnist_cnn"] == drawn
    assert drawn[0] == Task("heldout", "mnist_cnn", drawn[0].seed)


def test_it_writes_the_documented_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.setattr(spread, "QUICK", {"train": ("illconditioned",), "selection": (), "heldout": ()})
    monkeypatch.setattr(spread, "tasks", lambda families, count, seed: tasks(families, 1, seed) if families else [])
    out = tmp_path / "spread.json"
    monkeypatch.setattr(spread, "HELD_OUT", {})
    assert spread.main(["--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    (optimizer,) = {key.split(".")[1] for key in found if key.endswith(".decades")}
    common = {"quick", "seeds", "left_out", "torch", "train.mean", "train.worst"}
    assert set(found) == common | {f"train.{optimizer}.{key}" for key in FIGURES}
    documented = spread.__doc__ or ""
    assert all(key in documented for key in FIGURES | {"seeds", "left_out", "quick"})


def test_the_table_has_a_row_for_every_optimizer_and_split() -> None:
    result: dict[str, Any] = spread.figures(rows()) | {"seeds": 2, "left_out": 0, "torch": "2"}
    lines = spread.render(result).splitlines()
    assert lines[2].startswith("| heldout | adam | 1 | 0.001 to 0.001 | 0.0 | linear, 0.01 | 0.400 |")
    assert lines[3].startswith("| heldout | sgd | 2 | 0.001 to 1 | 3.0 | linear, 1 | 0.250 | 0.300 |")
    assert lines[4].startswith("| **heldout** | all |")
    assert {line.count("|") for line in lines[:5]} == {9}


def test_the_page_has_a_place_for_the_table() -> None:
    assert "new rows" in marked.fill((TOP / spread.PAGE).read_text(encoding="utf-8"), "spread", "new rows")
