"""The benchmark of methods: its figures by hand, and its command line on a small task."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import lr_benchmark, spread
from bundles import write_bundle
from lrpilot import load_policy
from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation import aggregates, oracle
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.rivals import RIVALS
from pipeline.evaluation.splits import tasks
from pipeline.paths import Paths
from pipeline.reporting import result_keys
from pipeline.reporting.verdict import MINUS
from pipeline.workloads.families import family, names
from repository import TOP
from tiny import write_params

TASKS = ("autompg-3", "mnist_mlp-1")
SEEDS = (0, 1)
SHARES = {"ordinary": 0.5, "small_noisy": 0.5}


def evaluation() -> pd.DataFrame:
    """A grid of six configurations, thinned to five, the policy, rivals, schedules from two rates."""
    grid = {
        ("constant", 0.1): 0.2,
        ("constant", 1.0): 0.4,
        ("cosine", 0.1): 0.0,
        ("cosine", 1.0): 1.0,
        ("step", 0.1): 1.0,
    }
    regrets = {("grid", name, lr0): regret for (name, lr0), regret in grid.items()}
    regrets |= {("baseline", "constant", 1e-3): 0.3, ("baseline", "constant", 0.1): 0.1}
    regrets |= {("textbook", "default", 1e-3): 0.2, ("textbook", "step", 1e-3): 0.25}
    regrets |= {("textbook", "wsd", 1e-3): 0.1, ("oracle", "test_loss", 0.1): 0.0, ("control", "hold", np.nan): 0.12}
    regrets |= {("policy", name, np.nan): 0.15 for name in ("policy", "policy_val", "policy_steps")}
    regrets |= {("rival", name, np.nan): 0.3 for name in ("calibrated", "finder_steepest", "prodigy_cosine")}
    regrets |= {("rival", "schedule_free", np.nan): 0.2, ("control", "mean_lr", np.nan): 0.5}
    regrets |= {("loop", "pilot", np.nan): 0.15, ("loop", "untouched", np.nan): 0.4}
    rows = [
        {
            "split": "heldout", "family": task.rpartition("-")[0], "workload": "w", "task": task, "seed": seed,
            "label": f"{task} w", "regime": "ordinary" if i else "small_noisy",
            "kind": kind, "method": name, "lr0": lr0, "optimizer": "adam" if i else "sgd", "n_steps": 100,
            "steps_per_epoch": 10.0,
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
    fixed = {"benchmark": "0123", "policy": "ab" * 32, "heldout.configured": 3}
    return lr_benchmark.figures(evaluation(), SHARES, 50) | timed | fixed


def test_figures_by_hand(figures: dict[str, Any]) -> None:
    """Step at 1.0 counts as the cosine there, 1. Of fifteen draws of two configurations five hold the one with regret
    0, four more .2, three .4 and three 1 alone."""
    assert figures["heldout.policy.mean"] == pytest.approx(0.155)
    assert figures["heldout.rival.schedule_free.policy_minus"] == pytest.approx(-0.05)
    assert figures["heldout.baseline.constant.mean"] == pytest.approx(0.205)
    grid = lr_benchmark.Grid(evaluation(), SHARES)
    means = [grid.search(n).to_numpy().mean() for n in (1, 2, 3, 6)]
    assert means == pytest.approx([0.605, 1 / 3 + 0.005, 0.175, 0.005])
    assert (figures["worth"], figures["heldout.seeds"], figures["heldout.tasks"]) == (4, 2, 2)
    assert grid.worth(-1.0) == 0
    assert figures["heldout.rival.random_search_3.mean"] == pytest.approx(0.175)
    assert figures["heldout.rival.random_search_3.policy_minus"] == pytest.approx(-0.02)
    assert figures["heldout.textbook.default.mean"] == pytest.approx(0.205)
    assert figures["heldout.textbook.default.policy_minus"] == pytest.approx(-0.05)
    assert (figures["heldout.textbook.default.tasks_lost"], figures["heldout.textbook.wsd.tasks_lost"]) == (0.0, 1.0)
    # the best constant rate ends at 1.2: the policy is there after 80 of 100 steps, as everybody is
    assert figures["constant.policy.steps"] == 0.8 and figures["constant.policy.reached"] == 1.0
    assert (figures["trainings"], figures["diverged"]) == (16, 0)
    # WSD's regret is 0.05 lower, and its final loss of 1.1 is never reached; the default's of 1.2 is after 80 steps
    beside = {name: figures.get(f"ordinary.textbook.wsd.{name}") for name in ("within", "most", "reached", "steps")}
    assert beside == {"within": 0.0, "most": 0.05, "reached": 0.0, "steps": None}
    beside = {name: figures[f"ordinary.textbook.default.{name}"] for name in ("within", "most", "reached", "steps")}
    assert beside == {"within": 1.0, "most": -0.05, "reached": 1.0, "steps": 0.8}
    assert figures["heldout.baseline.constant.sensitivity"] == pytest.approx(0.2)


def test_without_grids_there_is_no_random_search() -> None:
    rows = evaluation()
    figures = lr_benchmark.figures(rows[rows.kind != "grid"], SHARES, 50)
    assert not {"worth", "constant.policy.reached", "heldout.rival.random_search_3.mean"} & figures.keys()
    fixed = {"benchmark": "0123", "policy": "ab" * 32, "heldout.configured": 2}
    assert "Random search" not in lr_benchmark.render(figures | fixed)


def test_the_grid_is_weighed_as_the_policy_is() -> None:
    """With regrets of 0 on one task and of 1 on the other, random search is worth what the other's share is."""
    rows = evaluation()
    easy = (rows.kind == "grid") & (rows.regime == "ordinary")
    rows = rows.assign(regret=np.where(easy, 0.0, np.where(rows.kind == "grid", 1.0, rows.regret)))
    grid = lr_benchmark.Grid(rows, {"ordinary": 0.75, "small_noisy": 0.25})
    assert (grid.worth(0.26), grid.worth(0.24)) == (1, 0)


def test_what_never_gets_to_the_best_constant() -> None:
    rows = evaluation()
    slow = (rows.method == "policy") & (rows.task == TASKS[0])
    rows["val_curve"] = [[1.5, 1.3, 1.25] if late else curve for late, curve in zip(slow, rows.val_curve, strict=True)]
    figures = lr_benchmark.to_best_constant(rows)
    assert figures["constant.policy.reached"] == 0.5
    assert "constant.policy.steps" not in figures  # the median lies between 80 % and never


def test_a_pair_counts_as_equal_up_to_a_hundredth() -> None:
    """One of two seeds is worse by 0.015. The other is better by 0.005."""
    rows = evaluation()
    near = (rows.kind == "textbook") & (rows.method == "default")
    rows = rows.assign(regret=np.where(near, np.where(rows.seed == 0, 0.135, 0.165), rows.regret))
    figures = lr_benchmark.beside_untuned(rows)
    assert figures["ordinary.textbook.default.within"] == 0.5
    assert figures["ordinary.textbook.default.most"] == pytest.approx(0.005)


def test_the_table_has_a_row_of_each_method(figures: dict[str, Any]) -> None:
    first, regimes, textbook, untuned, sooner, summary = lr_benchmark.render(figures).split("\n\n")
    lines = first.splitlines()
    methods = {line.split("|")[1].strip(): line for line in lines}
    assert methods["**learned policy**"].endswith("| 0.15 | 0.10 | 0.20 | ×1.50 |")
    assert methods["schedule-free AdamW / SGD"].endswith("| ×1.25 |")
    assert methods["random search (3 trials)"].endswith("| – | – | – | – |")
    assert "100 %" in methods["Prodigy + cosine"] and len({line.count("|") for line in lines}) == 1
    listed = {"textbook default", "first level held", "WSD at the textbook rate"}
    assert listed <= methods.keys() and "StepLR at the textbook rate" not in methods
    row = "| StepLR | 0.255 | ~0.100 (~0.100 to ~0.100) | 100\N{NO-BREAK SPACE}% |".replace("~", MINUS)
    assert row in textbook.splitlines()
    head, _, *of_methods = regimes.splitlines()
    assert head.endswith("| all | ordinary (50 %) | small and noisy (50 %) |")
    assert "| **learned policy** | 0.155 | 0.155 | 0.155 |" in of_methods
    gap = "~0.050 (~0.050 to ~0.050)".replace("~", MINUS)
    assert f"| textbook default | 0.205 | 0.205; {gap} | 0.205; {gap} |" in of_methods
    assert summary.startswith("2 of 3 tasks, 2 seeds each; share and tasks of regimes: ordinary 50 % (1), small")
    assert "Benchmark `0123`" in summary and "needs 4 trials" in summary
    assert "`abababababab`" in summary and "all its 16 trainings" in summary
    assert "a regret 0.20 higher than the best one under the steadiest schedule, constant." in summary
    assert "| learned policy | 100 % | 80 % |" in sooner.splitlines()
    beside = untuned.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert "| textbook default | 100 % | ~0.050 | 100 % | 80 % |".replace("~", MINUS) in beside
    assert "| WSD at the textbook rate | 0 % | +0.050 | 0 % | – |" in beside


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
    monkeypatch.setattr("pipeline.evaluation.oracle.SCHEDULES", ("constant", "cosine"))
    monkeypatch.setattr("pipeline.evaluation.oracle.HALF_DECADES", (1e-3, 1e-2, 1e-1))
    monkeypatch.setattr("pipeline.evaluation.oracle.ORACLES", tmp_path / "oracles.json")
    oracle.freeze({})
    monkeypatch.setattr(lr_benchmark, "BENCHMARK_CACHE", tmp_path / "cache")
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
    monkeypatch.setattr("benchmarks.spread.names", lambda _: ("autompg",))
    out = root / "new" / "lr_benchmark.json"
    before = (TOP / lr_benchmark.PAGE).read_text(encoding="utf-8")
    assert lr_benchmark.main(["--root", str(root), "--fast", "--scheduler", "mine:constant", "--out", str(out)]) == 0
    r: dict[str, Any] = json.loads(out.read_text())
    wanted = {*(f"rival.{name}" for name in RIVALS if name != "untouched"), "rival.mine:constant", "policy"}
    groups = result_keys.groups(r)["heldout"].keys()
    wanted |= {"control.hold", "control.no_loss", "control.mean_lr", "textbook.default", "policy_steps"}
    assert wanted | {"rival.random_search_3", "rival.calibrated"} <= groups  # its oracle is not frozen: it has a grid
    assert (r["heldout.configured"], r["heldout.tasks"], r["heldout.seeds"]) == (1, 1, 2)
    assert r["policy"] == load_policy("default").manifest.graph
    shown = capsys.readouterr().out
    assert "| Prodigy |" in shown and "| `mine:constant` |" in shown and "1 of 1 tasks, 2 seeds each" in shown
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
    bench = lr_benchmark.held_out(Path("."), fast=False)
    count = {name: sum(task.family == name for task in bench.tasks) for name in names("heldout")}
    assert count == {name: family(name).frozen or 3 for name in names("heldout")}
    assert {task.split for task in bench.tasks} == {"heldout"} and bench.seeds >= 5


def test_the_figures_are_the_shipped_policys() -> None:
    results = json.loads((TOP / lr_benchmark.OUT).read_text(encoding="utf-8"))
    assert results["policy"] == load_policy("default").manifest.graph


def test_loops_are_no_methods_that_compete() -> None:
    assert "loop" not in set(aggregates.judged(evaluation()).kind)


def test_the_quick_form_has_short_tasks_of_each_regime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each regime the shortest task, and the shortest of another family."""
    monkeypatch.chdir(TOP)
    every, quick = (lr_benchmark.held_out(Path("."), fast).tasks for fast in (False, True))
    assert set(quick) <= set(every) and len({task.family for task in quick}) == len(quick)
    for regime in {family(task.family).regime for task in every}:
        steps = {task: said["n_steps"] for task, said in zip(every, spread.entries(every), strict=True)
                 if said["regime"] == regime}  # fmt: skip
        first, *second = (task for task in quick if task in steps)
        assert steps[first] == min(steps.values())
        others = [count for task, count in steps.items() if task.family != first.family]
        assert [steps[task] for task in second] == ([min(others)] if others else [])


def test_times_are_cached(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Benchmark(tasks(("autompg",), 1), SHARES, 2, 1, (), engine("local", 1), root / "cache")
    chosen = lr_benchmark.methods(Paths(root), ["mine:constant"])
    first = lr_benchmark.times(bench, chosen)
    assert first["untouched.time"] == 1.0
    assert all(first[f"{name}.time"] > 0 for name in ("pilot", "prodigy", "mine:constant"))
    monkeypatch.setattr(lr_benchmark, "execute", None)  # nothing trains again
    assert lr_benchmark.times(bench, chosen) == first
