"""Which configuration of a task's grid is the oracle, and when it comes from the file of frozen ones."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.engines import engine
from pipeline.evaluation import frozen, grid
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.oracle import oracles, winners
from pipeline.evaluation.regrets import SCORES
from pipeline.evaluation.splits import Task, tasks
from rows import row

nan = float("nan")
KNOWN = pd.DataFrame({"initial_loss": [1.0, 1.0], "initial_error": [0.5, nan]}, index=["a", "b"])


def tuned() -> pd.DataFrame:
    return pd.DataFrame([
        row("grid", "cosine", 0.1, 0, task="a", test_loss=0.1, test_error=0.3),
        row("grid", "cosine", 0.1, 1, task="a", test_loss=nan, test_error=0.3),  # 1: on average .55
        row("grid", "linear", 0.1, 0, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "linear", 0.1, 1, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "step", 1.0, 0, task="b", test_loss=9.0), row("grid", "step", 1.0, 1, task="b", test_loss=0.0),
        row("grid", "step", 0.1, 0, task="b", test_loss=0.6), row("grid", "step", 0.1, 1, task="b", test_loss=0.6),
    ])  # fmt: skip


def test_the_winner_is_best_on_average_and_a_blow_up_counts_as_no_training() -> None:
    best = winners(tuned(), KNOWN)
    assert {task: best[task]["test_loss"] for task in "ab"} == {
        "a": Scheduled("oracle", "test_loss", schedule="linear", lr0=0.1),
        "b": Scheduled("oracle", "test_loss", schedule="step", lr0=1.0),  # (1 + 0) / 2
    }


def test_a_task_without_error_rates_has_no_winner_of_errors() -> None:
    best = winners(tuned(), KNOWN)
    assert best["a"]["test_error"] == Scheduled("oracle", "test_error", schedule="linear", lr0=0.1)
    assert best["b"].keys() == {"test_loss", "best_loss"}


@pytest.mark.parametrize("end", [nan, np.inf, 9.0])
def test_runs_that_end_above_their_start_count_alike(end: float) -> None:
    """So the other run decides: .4 with a start of 1 is .7 on average, which .69 beats and .71 does not."""
    for steady, wanted in ((0.69, "step"), (0.71, "cosine")):
        losses = {("cosine", 0): 0.4, ("cosine", 1): end, ("step", 0): steady, ("step", 1): steady}
        rows = [row("grid", name, 0.1, seed, task="a", test_loss=loss) for (name, seed), loss in losses.items()]
        assert winners(pd.DataFrame(rows), KNOWN)["a"]["test_loss"].schedule == wanted


WON = {score: Scheduled("oracle", score, schedule="linear", lr0=1e-2) for score in SCORES.values()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two frozen tasks, a file of oracles that knows none, a small grid."""
    monkeypatch.setattr(frozen, "ORACLES", tmp_path / "oracles.json")
    monkeypatch.setattr(grid, "SCHEDULES", ("cosine", "linear"))
    monkeypatch.setattr(grid, "HALF_DECADES", (1e-3, 1e-2))
    frozen.write({})
    chosen = tasks(("diabetes",), 2)
    return Bench(chosen, {"small_noisy": 1.0}, 2, 1, (), engine("local", 1), tmp_path / "cache")


def test_what_is_written_is_read_again(bench: Bench) -> None:
    first, second = bench.tasks
    frozen.write({first: WON})
    assert frozen.oracles(bench.tasks) == {first.name: WON}
    other = {**WON, "test_loss": Scheduled("oracle", "test_loss", schedule="wsd", lr0=1e-2)}
    assert frozen.changed({first: WON, second: WON}) == []
    assert frozen.changed({first: other}) == [first.name]


def test_an_entry_is_bound_to_what_the_task_was(bench: Bench) -> None:
    first, _ = bench.tasks
    frozen.write({first: WON, Task("selection", "diabetes", 7): WON})  # the second one is not frozen
    content = json.loads(frozen.ORACLES.read_text())
    assert content.keys() == {first.name}
    content[first.name]["task"] = "0" * 16
    frozen.ORACLES.write_text(json.dumps(content))
    assert frozen.oracles(bench.tasks) == {}


def test_a_frozen_oracle_needs_no_grid(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = bench.tasks
    frozen.write({first: WON})
    tuned, runs = oracles(bench)
    assert set(tuned.task) == {second.name}
    assert {(run.method, run.seed) for run in runs if run.task == first} == {
        (m, s) for m in WON.values() for s in (0, 1)
    }
    best = winners(tuned, bench.facts())[second.name]
    assert {run.method for run in runs if run.task == second} == set(best.values())
    tuned, again = oracles(bench, grids=True)
    assert set(tuned.task) == {first.name, second.name} and again == runs
    agrees = winners(tuned, bench.facts())[first.name] == WON
    assert ("has other winners than oracles.json" in capsys.readouterr().out) is not agrees
    frozen.write({first: {**WON, "test_loss": Scheduled("oracle", "test_loss", schedule="step", lr0=1e-5)}})
    oracles(bench, grids=True)
    assert f"the grid of {first.name} has other winners than oracles.json" in capsys.readouterr().out
