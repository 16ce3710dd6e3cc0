"""The spread of best learning rates, by hand and by its own command line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import spread
from pipeline.evaluation import oracle
from pipeline.evaluation.rivals import CALIBRATED, NADAMW, nadamw_settings
from pipeline.evaluation.splits import SPLITS, full
from pipeline.workloads.families import names
from repository import TOP

FIGURES = {"tasks", "lowest", "highest", "decades", "schedule", "lr", "mean", "worst"}
EVEN = {"ordinary": 0.5, "odd": 0.5}
SIZES = {"n_steps", "epochs", "batch_size", "parameters", "families", "seeds"}


def rows() -> pd.DataFrame:
    """Two tasks of SGD that like constant rates three decades apart; two of Adam; runs that are not of the grid."""
    regrets = {
        ("a", "sgd"): {("constant", 1e-3): 0.0, ("constant", 1.0): 0.8, ("linear", 1.0): 0.2},
        ("b", "sgd"): {("constant", 1e-3): 0.6, ("constant", 1.0): 0.1, ("linear", 1.0): 0.3},
        ("c", "adam"): {("constant", 1e-3): 0.5, ("constant", 1e-5): 0.9, ("linear", 1e-2): 0.4},
        ("d", "adam"): {("constant", 1e-3): 1.2, ("constant", 1e-5): 1.0, ("linear", 1e-2): 0.4},  # none suits it
    }
    return pd.DataFrame([
        {"split": "heldout", "task": task, "regime": "ordinary" if task in "ac" else "odd", "optimizer": optimizer,
         "seed": seed, "method": name, "lr0": lr0, "kind": kind,
         "regret": -9.0 if kind == "oracle" else regret + (0.02 if seed else -0.02)}
        for (task, optimizer), cells in regrets.items() for (name, lr0), regret in cells.items() for seed in (0, 1)
        for kind in ("grid", "oracle")
    ])  # fmt: skip


def test_by_hand() -> None:
    figures = spread.figures(rows(), EVEN)
    sgd = {key: figures[f"heldout.sgd.{key}"] for key in FIGURES}
    assert sgd == {
        "tasks": 2, "lowest": 1e-3, "highest": 1.0, "decades": pytest.approx(3.0), "schedule": "linear", "lr": 1.0,
        "mean": pytest.approx(0.25), "worst": pytest.approx(0.3),
    }  # fmt: skip
    assert figures["heldout.adam.decades"] == 0.0
    assert figures["heldout.mean"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.4) / 4)
    assert figures["heldout.worst"] == pytest.approx(0.4)
    missed = ["heldout.adam.decades: 0, want at least 2", "heldout.ordinary.decades: 0, want at least 1.5"]
    assert spread.missed(figures) == missed
    assert spread.missed(figures | {"heldout.worst": 0.1})[-1] == "heldout.worst: 0.1, want at least 0.12"


def test_rates_of_a_regime_are_those_under_adam_and_adamw() -> None:
    """Task c is ordinary, .5 at 1e-3 its best; d is odd, and no constant rate suits it; a and b are of SGD."""
    figures = spread.figures(rows(), EVEN)
    of = {regime: [figures[f"heldout.{regime}.{key}"] for key in ("tasks", "lowest", "highest", "decades")]
          for regime in ("ordinary", "odd")}  # fmt: skip
    assert of == {"ordinary": [1, 1e-3, 1e-3, 0.0], "odd": [1, None, None, 0.0]}


def test_the_single_best_weighs_regimes_by_their_shares() -> None:
    """Constant at 1e-3 has 0 on the ordinary task and .6 on the odd one; linear has .2 and .3."""
    figures = spread.figures(rows(), {"ordinary": 0.9, "odd": 0.1})
    assert (figures["heldout.sgd.schedule"], figures["heldout.sgd.lr"]) == ("constant", 1e-3)
    assert figures["heldout.sgd.mean"] == pytest.approx(0.06)


def test_the_calibrated_schedule_is_the_training_splits_single_best() -> None:
    figures = {f"train.{o}.schedule": "step" for o in ("adam", "adamw", "sgd")}
    figures |= {f"train.{o}.lr": lr for o, lr in (("adam", 0.1), ("adamw", 0.2), ("sgd", 0.3))}
    assert spread.calibrated(figures)["sgd"] == {"schedule": "step", "lr0": 0.3}
    shipped = json.loads((TOP / spread.OUT).read_text())
    assert json.loads(CALIBRATED.read_text()) == spread.calibrated(shipped) | {NADAMW: nadamw_settings()}


def test_it_trains_on_every_task() -> None:
    for split in SPLITS:
        chosen = spread.bench(split, quick=False).tasks
        count = {name: sum(task.family == name for task in chosen) for name in names(split)}
        assert count == {name: full(name) for name in names(split)} and sum(count.values()) == len(chosen)
        assert all(task.split == split for task in chosen)


def test_it_writes_the_documented_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.setattr(spread, "QUICK", {"train": ("illconditioned",), "selection": (), "heldout": ()})
    monkeypatch.setattr(spread, "HELD_OUT", {})
    monkeypatch.setattr(spread, "SPLITS", ("train",))
    monkeypatch.setattr(spread, "BENCHMARK_CACHE", tmp_path / "cache")
    monkeypatch.setattr("pipeline.evaluation.oracle.SCHEDULES", ("constant", "cosine"))
    files = (CALIBRATED, oracle.ORACLES)
    before, out = [path.read_bytes() for path in files], tmp_path / "spread.json"
    assert spread.main(["--quick", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    (optimizer,) = {key.split(".")[1] for key in figures if key.endswith(".schedule")}
    constants = {key for key in figures if key.startswith("train.odd.")}  # of Adam and AdamW alone
    assert constants <= {f"train.odd.{key}" for key in ("tasks", "lowest", "highest", "decades")}
    common = constants | {"quick", "left_out", "torch", "train.mean", "train.worst"}
    assert set(figures) == common | {f"train.{optimizer}.{key}" for key in FIGURES} | {f"train.{key}" for key in SIZES}
    documented = spread.__doc__ or ""
    assert all(key in documented for key in FIGURES | SIZES | {"left_out", "quick"})
    assert [path.read_bytes() for path in files] == before


def test_the_table_has_a_row_for_every_optimizer_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "SPLITS", ("heldout",))
    sizes = {f"heldout.{key}": [1, 2000] for key in SIZES} | {"heldout.families": 3, "heldout.seeds": 2}
    result: dict[str, Any] = spread.figures(rows(), EVEN) | sizes | {"left_out": 0, "torch": "2"}
    lines = spread.render(result).splitlines()
    assert lines[2] == "| heldout | 3 | 1 to 2,000 | 1 to 2,000 | 1 to 2,000 | 1 to 2,000 | 2 |"
    assert lines[6].startswith("| heldout | adam | 2 | 0.001 to 0.001 | 0.0 | linear, 0.01 | 0.400 |")
    assert lines[7].startswith("| heldout | sgd | 2 | 0.001 to 1 | 3.0 | linear, 1 | 0.250 | 0.300 |")
    assert lines[8] == "| heldout | ordinary, adam and adamw | 1 | 0.001 to 0.001 | 0.0 |  |  |  |"
    assert lines[9] == "| heldout | odd, adam and adamw | 1 | – | 0.0 |  |  |  |"
    assert lines[10].startswith("| **heldout** | all |")
    assert {line.count("|") for line in lines[4:11]} == {9}
