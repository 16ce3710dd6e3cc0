"""The table of peers: its figures by hand, and its command line on two small tasks."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import peers
from closure import TOP
from pipeline import marked
from pipeline.benchmark import Task
from pipeline.config import load
from pipeline.paths import Paths
from tiny import write_params

TASKS = {"illconditioned-3": 0.5, "spirals-1": 0.2}  # and their oracles
SEEDS = (0, 1)
FIGURES = {"mean", "iqm", "low", "high", "worst"}
PAIRED = {"minus", "minus_low", "minus_high", "wins"}


def evaluation() -> pd.DataFrame:
    """What the evaluate stage leaves: a grid of five configurations, the policy, its rivals."""
    regrets = {("baseline", "constant", 0.1): 0.2, ("baseline", "constant", 1.0): 0.4, ("baseline", "linear", 0.1): 0.0}
    regrets |= {("baseline", "cosine", lr0): 1.0 for lr0 in (0.1, 1.0)}
    regrets |= {(kind, name, np.nan): 0.15 for kind, name in peers.SHOWN}
    rows = [
        {
            "split": "heldout", "family": task.rpartition("-")[0], "task": task, "seed": seed, "kind": kind,
            "method": name, "lr0": lr0, "milestones": np.array([50, 100]), "oracle_loss": oracle,
            "initial_loss": oracle + 1, "regret": regret + 0.01 * seed, "val_loss": oracle + regret,
        }
        for task, oracle in TASKS.items() for seed in SEEDS for (kind, name, lr0), regret in regrets.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(TOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    paths = Paths(write_params(tmp_path))
    paths.evaluation.parent.mkdir()
    evaluation().to_parquet(paths.evaluation)
    paths.evaluate_metrics.parent.mkdir()
    paths.evaluate_metrics.write_text(json.dumps({"benchmark": "0123"}))
    (tmp_path / "mine.py").write_text(
        "from torch.optim.lr_scheduler import ConstantLR\n"
        "def constant(optimizer, total_steps):\n    return ConstantLR(optimizer, 1.0)\n"
    )
    return tmp_path


def test_the_plan_has_every_task_and_seed() -> None:
    jobs = peers.plan(evaluation(), ["prodigy", "plateau"])
    assert len(jobs) == 8
    assert jobs[0] == peers.Job(Task("heldout", "illconditioned", 3), (50, 100), "prodigy", 0)


def test_figures_by_hand() -> None:
    """Of ten draws of two configurations four hold the one with regret 0, three more .2, two .4 and one 1 alone."""
    rows = evaluation()
    losses = [{"task": t, "method": "mine", "seed": s, "test_loss": o + 0.3} for t, o in TASKS.items() for s in SEEDS]
    found = peers.add_regret(pd.DataFrame(losses), rows).assign(seconds=2.0)
    assert found.regret.tolist() == pytest.approx([0.3] * 4)
    r = peers.figures(rows, found, load(TOP).evaluate)
    assert r["policy.mean"] == pytest.approx(0.155)
    assert r["mine.mean"] == pytest.approx(0.3)
    assert r["mine.minus"] == pytest.approx(-0.145)
    assert (r["mine.wins"], r["mine.seconds"], r["tasks"], r["seeds"]) == (1.0, 2.0, 2, 2)
    grid = peers.Grid(rows)
    assert [grid.search(n).mean() for n in (1, 2, 3, 5)] == pytest.approx([0.525, 0.245, 0.105, 0.005])
    assert r["worth"] == 3
    assert grid.worth(-1.0) == 0
    assert r["random_search_3.mean"] == pytest.approx(0.105)


def test_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = root / "new" / "peers.json"
    command = ["--root", str(root), "--only", "prodigy", "--scheduler", "mine:constant", "--out", str(out)]
    assert peers.main(command) == 0
    r: dict[str, Any] = json.loads(out.read_text())
    methods = {name for _, name in peers.SHOWN} | {"prodigy", "mine:constant", "random_search_3"}
    assert {key.rpartition(".")[0] for key in r if key.endswith(".mean")} >= methods
    assert {key.rpartition(".")[2] for key in r if key.startswith("prodigy.")} == FIGURES | PAIRED | {"seconds"}
    assert r["benchmark"] == "0123"
    told = capsys.readouterr().out
    assert "| Prodigy |" in told and "| `mine:constant` |" in told and "2 tasks, 2 seeds each" in told
    documented = peers.__doc__ or ""
    assert all(key.rpartition(".")[2].removesuffix("_3") in documented for key in r)


def test_with_an_option_the_page_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (TOP / peers.PAGE).read_text(encoding="utf-8"), peers.OUT.exists()
    assert peers.main(["--root", str(root), "--only", "--scheduler", "mine:constant"]) == 0
    assert ((TOP / peers.PAGE).read_text(encoding="utf-8"), peers.OUT.exists()) == before
    assert "`mine:constant`" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mine", "nowhere:factory", "mine:other", ":x"])
def test_a_scheduler_that_is_none(name: str, root: Path) -> None:
    with pytest.raises(SystemExit, match="want module:factory"):
        peers.main(["--root", str(root), "--scheduler", name])


def test_without_an_evaluation(root: Path) -> None:
    Paths(root).evaluation.unlink()
    with pytest.raises(SystemExit, match="run `make repro` first"):
        peers.main(["--root", str(root), "--only", "prodigy"])


def test_the_page_has_a_place_for_the_table() -> None:
    assert "new rows" in marked.fill((TOP / peers.PAGE).read_text(encoding="utf-8"), "peers", "new rows")
