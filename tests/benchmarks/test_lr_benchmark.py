"""The table of peers: its figures by hand, and its command line on a small task."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import lr_benchmark
from bundles import write_bundle
from lrpilot import load_policy
from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation import aggregates
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.rivals import RIVALS
from pipeline.evaluation.splits import tasks
from pipeline.paths import Paths
from pipeline.reporting import markdown
from repository import TOP
from tiny import write_params

TASKS = ("autompg-3", "mnist_mlp-1")
SEEDS = (0, 1)


def evaluation() -> pd.DataFrame:
    """A grid of five configurations, the policy, rivals, schedules from two rates."""
    grid = {
        ("constant", 0.1): 0.2,
        ("constant", 1.0): 0.4,
        ("linear", 0.1): 0.0,
        ("step", 0.1): 1.0,
        ("step", 1.0): 1.0,
    }
    regrets = {("grid", name, lr0): regret for (name, lr0), regret in grid.items()}
    regrets |= {("baseline", "constant", 1e-3): 0.3, ("baseline", "constant", 0.1): 0.1}
    regrets |= {("policy", name, np.nan): 0.15 for name in ("policy", "policy_val", "policy_steps")}
    regrets |= {("rival", name, np.nan): 0.3 for name in ("calibrated", "finder_steepest", "prodigy_cosine")}
    regrets |= {("rival", "schedule_free", np.nan): 0.2, ("control", "mean_lr", np.nan): 0.5}
    regrets |= {("loop", "pilot", np.nan): 0.15, ("loop", "untouched", np.nan): 0.4}
    rows = [
        {
            "split": "heldout", "family": task.rpartition("-")[0], "task": task, "seed": seed, "kind": kind,
            "method": name, "lr0": lr0, "optimizer": "adam" if i else "sgd", "n_steps": 100, "steps_per_epoch": 10.0,
            "regret": regret + 0.01 * seed, "best_regret": 0.1, "error_regret": 0.2, "best_error_regret": 0.1,
            "val_loss": 1 + regret, "test_loss": 1 + regret, "steps_to_target": 50.0, "epochs_to_target": 5.0,
            "error_gap": 0.0, "seconds": 0.1, "lr_curve": np.linspace(1e-2, 1e-4, 100), "milestones": [50, 80, 100],
            "val_curve": [1.5, 1.2, 1 + regret],
        }
        for i, task in enumerate(TASKS) for seed in SEEDS for (kind, name, lr0), regret in regrets.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def figures() -> dict[str, Any]:
    timed = {"pilot.time": 1.5, "schedule_free.time": 1.25, "untouched.time": 1.0}
    return lr_benchmark.figures(evaluation(), 50) | timed | {"benchmark": "0123", "policy": "ab" * 32}


def test_figures_by_hand(figures: dict[str, Any]) -> None:
    """Of ten draws of two configurations four hold the one with regret 0, three more .2, two .4 and one 1 alone."""
    assert figures["heldout.policy.mean"] == pytest.approx(0.155)
    assert figures["heldout.rival.schedule_free.policy_minus"] == pytest.approx(-0.05)
    assert figures["heldout.baseline.constant.mean"] == pytest.approx(0.205)
    grid = lr_benchmark.Grid(evaluation())
    assert [grid.search(n).mean() for n in (1, 2, 3, 5)] == pytest.approx([0.525, 0.245, 0.105, 0.005])
    assert (figures["worth"], figures["seeds"], figures["heldout.tasks"]) == (3, 2, 2)
    assert grid.worth(-1.0) == 0
    assert figures["heldout.rival.random_search_3.mean"] == pytest.approx(0.105)
    assert figures["heldout.rival.random_search_3.policy_minus"] == pytest.approx(0.05)
    # from the textbook's rate: .3 on Adam's task (1e-3), .1 on SGD's (.1), against the policy's .15
    assert figures["textbook.constant.mean"] == pytest.approx(0.205)
    assert figures["textbook.constant.wins"] == 0.5
    # the best constant rate ends at 1.2: the policy is there after 80 of 100 steps, as everybody is
    assert figures["constant.policy.steps"] == 0.8 and figures["constant.policy.reached"] == 1.0
    assert (figures["trainings"], figures["diverged"]) == (16, 0)
    assert figures["heldout.baseline.constant.sensitivity"] == pytest.approx(0.2)


def test_what_never_gets_to_the_best_constant() -> None:
    rows = evaluation()
    slow = (rows.method == "policy") & (rows.task == TASKS[0])
    rows["val_curve"] = [[1.5, 1.3, 1.25] if late else curve for late, curve in zip(slow, rows.val_curve, strict=True)]
    found = lr_benchmark.to_best_constant(rows)
    assert found["constant.policy.reached"] == 0.5
    assert "constant.policy.steps" not in found  # the median lies between 80 % and never


def test_the_table_has_a_row_of_each_method(figures: dict[str, Any]) -> None:
    first, _, sooner, told = lr_benchmark.render(figures).split("\n\n")
    lines = first.splitlines()
    found = {line.split("|")[1].strip(): line for line in lines}
    assert found["**learned policy**"].endswith("| 0.15 | 0.10 | 0.20 | ×1.50 |")
    assert found["schedule-free AdamW / SGD"].endswith("| ×1.25 |")
    assert found["random search, 3 trials"].endswith("| – | – | – | – |")
    assert "100 %" in found["Prodigy + cosine"] and len({line.count("|") for line in lines}) == 1
    assert "needs 3 trials" in told and "`abababababab`" in told and "all its 16 trainings" in told
    assert "spreads by 0.20 under the steadiest schedule, constant;" in told
    assert "| learned policy | 100 % | 80 % |" in sooner.splitlines()


def test_the_figures_are_drawn(figures: dict[str, Any], tmp_path: Path) -> None:
    lr_benchmark.draw(figures, evaluation(), tmp_path)
    names = {f"benchmark_{name}.png" for name in ("families", "profiles", "sensitivity", "rates")}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    page = (TOP / lr_benchmark.PAGE).read_text(encoding="utf-8")
    assert all(f"images/{name}" in page for name in names)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small benchmark: one task, two schedules from three rates."""
    monkeypatch.chdir(TOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    monkeypatch.setattr("pipeline.evaluation.bench.SCHEDULES", ("constant", "linear"))
    monkeypatch.setattr("pipeline.evaluation.bench.HALF_DECADES", (1e-3, 1e-2, 1e-1))
    monkeypatch.setattr(lr_benchmark, "BENCHMARK_CACHE", tmp_path / "kept")
    monkeypatch.setattr(lr_benchmark, "TIMED", "autompg")
    monkeypatch.setattr(lr_benchmark, "ROUNDS", 1)
    paths = Paths(write_params(tmp_path))
    params = read(paths.params)
    params["evaluate"] |= {"families": ["autompg"], "seeds": 2, "learning_rates": [1e-3], "bootstrap": 50, "workers": 1}
    paths.params.write_text(yaml.safe_dump(params))
    write_bundle(paths.blind_policy)
    (tmp_path / "mine.py").write_text(
        "from torch.optim.lr_scheduler import ConstantLR\n"
        "def constant(optimizer, total_steps):\n    return ConstantLR(optimizer, 1.0)\n"
    )
    return tmp_path


def test_the_command_line(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_benchmark, "names", lambda _: ("autompg",))
    out = root / "new" / "peers.json"
    before = (TOP / lr_benchmark.PAGE).read_text(encoding="utf-8")
    assert lr_benchmark.main(["--root", str(root), "--fast", "--scheduler", "mine:constant", "--out", str(out)]) == 0
    r: dict[str, Any] = json.loads(out.read_text())
    wanted = {*(f"rival.{name}" for name in RIVALS if name != "untouched"), "rival.mine:constant", "policy"}
    found = {key.removeprefix("heldout.").rpartition(".")[0] for key in r if key.endswith(".mean")}
    assert wanted | {"rival.random_search_3", "rival.calibrated", "policy_steps", "control.mean_lr"} <= found
    assert r["policy"] == load_policy("default").manifest.graph
    told = capsys.readouterr().out
    assert "| Prodigy |" in told and "| `mine:constant` |" in told and "1 tasks, 2 seeds each" in told
    assert (TOP / lr_benchmark.PAGE).read_text(encoding="utf-8") == before


@pytest.mark.parametrize("name", ["mine", "nowhere:factory", "mine:other", ":x"])
def test_a_scheduler_that_is_none(name: str, root: Path) -> None:
    with pytest.raises(SystemExit, match="want module:factory"):
        lr_benchmark.main(["--root", str(root), "--scheduler", name])


def test_without_a_policy(root: Path) -> None:
    Paths(root).blind_policy.unlink()
    with pytest.raises(SystemExit, match="run the export stage first"):
        lr_benchmark.main(["--root", str(root), "--fast"])


def test_the_whole_benchmark_has_every_held_out_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    found = lr_benchmark.held_out(Path("."), fast=False)
    assert {task.split for task in found.tasks} == {"heldout"} and len(found.tasks) == 54
    assert found.seeds >= 5


def test_the_page_and_its_figures_are_the_shipped_policys() -> None:
    found = json.loads((TOP / lr_benchmark.OUT).read_text(encoding="utf-8"))
    assert found["policy"] == load_policy("default").manifest.graph
    page = (TOP / lr_benchmark.PAGE).read_text(encoding="utf-8")
    assert markdown.fill(page, "lr_benchmark", lr_benchmark.render(found)) == page


def test_loops_are_no_methods_that_compete() -> None:
    assert "loop" not in set(aggregates.judged(evaluation()).kind)


def test_the_quick_form_has_the_shortest_task_of_each_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    every, quick = (lr_benchmark.held_out(Path("."), fast) for fast in (False, True))
    assert {task.family for task in every.tasks} - {task.family for task in quick.tasks} == set(lr_benchmark.SLOW)
    assert len(quick.tasks) == 7 and set(quick.tasks) <= set(every.tasks)
    for chosen in quick.tasks:
        others = [task.sample().n_steps for task in every.tasks if task.family == chosen.family]
        assert chosen.sample().n_steps == min(others)


def test_times_are_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tasks(("autompg",), 1), 2, 1, (), engine("local", 1), root / "kept")
    chosen = lr_benchmark.methods(Paths(root), ["mine:constant"])
    first = lr_benchmark.times(bench, chosen)
    assert first["untouched.time"] == 1.0
    assert all(first[f"{name}.time"] > 0 for name in ("pilot", "prodigy", "mine:constant"))
    monkeypatch.setattr(lr_benchmark, "execute", None)  # nothing trains again
    assert lr_benchmark.times(bench, chosen) == first
