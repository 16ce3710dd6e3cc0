"""The thinned grid, its best member, which is the oracle, the file of frozen ones, and a random search in the grid."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation import oracle
from pipeline.evaluation.aggregates import SCORES
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.oracle import (
    FIRST,
    HIGHEST,
    SCHEDULES,
    TUNING,
    oracles,
    promising,
    random_search,
    rates,
    train_grids,
    whole_grid,
    winners,
)
from pipeline.evaluation.splits import Task, tasks
from pipeline.workloads.base import OPTIMIZERS
from repository import TOP
from rows import row

nan = float("nan")
KNOWN = pd.DataFrame({"initial_loss": [1.0, 1.0], "initial_error": [0.5, nan]}, index=["a", "b"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates_are_half_decades_up_to_the_highest_of_the_optimizer(optimizer: str) -> None:
    every = rates(optimizer)
    assert every[0] == 1e-5 and every[-1] == HIGHEST[optimizer]
    np.testing.assert_allclose(np.diff(np.log10(every)), 0.5, atol=0.03)


def test_the_default_initial_rates_are_in_every_grid() -> None:
    initial = set(read(TOP / "params.yaml")["evaluate"]["learning_rates"])
    assert all(initial <= set(rates(optimizer)) for optimizer in OPTIMIZERS)


@pytest.mark.parametrize(
    ("losses", "near"),
    [
        # the best is .2 of a start at 1, so up to .2 + .1 * .8 = .28 a rate counts as good
        ({1e-4: 0.9, 1e-3: 0.4, 1e-2: 0.27, 1e-1: 0.2, 1.0: 0.9, 10.0: nan}, [1e-3, 1e-2, 1e-1, 1.0]),
        ({1e-4: 0.9, 1e-3: 0.29, 1e-2: 0.2, 1e-1: 0.29}, [1e-3, 1e-2, 1e-1]),
        ({1e-4: 0.2, 1e-3: 0.5, 1e-2: 0.5}, [1e-4, 1e-3]),  # the best is the lowest
        ({1e-4: 0.5, 1e-3: 0.5, 1e-2: 0.2, 1e-1: 0.5, 1.0: 0.21}, [1e-3, 1e-2, 1e-1, 1.0]),  # two valleys
        ({1e-4: 1.1, 1e-3: 5.0, 1e-2: nan}, [1e-4, 1e-3, 1e-2]),  # nothing gains anything: all of it
    ],
)
def test_other_schedules_stay_near_where_the_cosine_does_well(losses: dict[float, float], near: list[float]) -> None:
    """Two seeds around each mean; a run that diverged or ended above its start counts as its start."""
    rows = [row("grid", FIRST, lr0, seed, task="a", test_loss=loss + (0.01 if seed else -0.01))
            for lr0, loss in losses.items() for seed in (0, 1)]  # fmt: skip
    rows += [row("grid", FIRST, lr0, 0, task="b", test_loss=lr0) for lr0 in (0.5, 0.7, 0.9)]
    assert promising(pd.DataFrame(rows), KNOWN) == {"a": near, "b": [0.5, 0.7]}


def test_what_thinning_left_out_counts_as_the_cosine() -> None:
    trained = {("cosine", 0.1): 0.3, ("cosine", 1.0): 0.9, ("step", 0.1): 0.2}
    rows = [row("grid", name, lr0, seed, task="a", regret=regret + 0.01 * seed)
            for (name, lr0), regret in trained.items() for seed in (0, 1)]  # fmt: skip
    rows += [row("grid", "cosine", 0.1, 0, task="b", regret=0.4), row("policy", "policy", nan, 0, task="a", regret=0.5)]
    cells = whole_grid(pd.DataFrame(rows)).set_index(["task", "method", "lr0", "seed"]).regret.to_dict()
    assert cells == pytest.approx({
        ("a", "cosine", 0.1, 0): 0.3, ("a", "cosine", 0.1, 1): 0.31, ("a", "cosine", 1.0, 0): 0.9,
        ("a", "cosine", 1.0, 1): 0.91, ("a", "step", 0.1, 0): 0.2, ("a", "step", 0.1, 1): 0.21,
        ("a", "step", 1.0, 0): 0.9, ("a", "step", 1.0, 1): 0.91, ("b", "cosine", 0.1, 0): 0.4,
        ("b", "step", 0.1, 0): 0.4,
    })  # fmt: skip


def test_a_grid_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cosine from every rate, the other schedules from those that it names, all on seeds that judge nothing."""
    monkeypatch.setattr(oracle, "HALF_DECADES", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))
    chosen = tasks(("illconditioned",), 1)
    bench = Benchmark(chosen, {"odd": 1.0}, 2, 2, (), engine("local", 1), tmp_path)
    rows = train_grids(bench, chosen)
    near = promising(rows[rows.method == FIRST], bench.facts())[chosen[0].name]
    assert 2 <= len(near) < 5
    wanted = {(FIRST, lr0) for lr0 in oracle.HALF_DECADES}
    wanted |= {(name, lr0) for name in SCHEDULES for lr0 in near}
    assert {*zip(rows.method, rows.lr0, strict=True)} == wanted and len(rows) == 2 * len(wanted)
    assert set(rows.seed) == {TUNING, TUNING + 1} and set(rows.kind) == {"grid"}
    assert train_grids(bench, []).empty


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
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """Two frozen tasks, a file of oracles that knows none, a small grid."""
    monkeypatch.setattr(oracle, "ORACLES", tmp_path / "oracles.json")
    monkeypatch.setattr(oracle, "SCHEDULES", ("cosine", "linear"))
    monkeypatch.setattr(oracle, "HALF_DECADES", (1e-3, 1e-2))
    oracle.freeze({})
    chosen = tasks(("diabetes",), 2)
    return Benchmark(chosen, {"small_noisy": 1.0}, 2, 1, (), engine("local", 1), tmp_path / "cache")


def test_what_is_written_is_read_again(bench: Benchmark) -> None:
    first, second = bench.tasks
    oracle.freeze({first: WON})
    assert oracle.frozen_winners(bench.tasks) == {first.name: WON}
    other = {**WON, "test_loss": Scheduled("oracle", "test_loss", schedule="wsd", lr0=1e-2)}
    assert oracle.changed_winners({first: WON, second: WON}) == []
    assert oracle.changed_winners({first: other}) == [first.name]


def test_an_entry_is_bound_to_what_the_task_was(bench: Benchmark) -> None:
    first, _ = bench.tasks
    oracle.freeze({first: WON, Task("selection", "diabetes", 7): WON})  # the second one is not frozen
    content = json.loads(oracle.ORACLES.read_text())
    assert content.keys() == {first.name}
    content[first.name]["task"] = "0" * 16
    oracle.ORACLES.write_text(json.dumps(content))
    assert oracle.frozen_winners(bench.tasks) == {}


def test_a_frozen_oracle_needs_no_grid(bench: Benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = bench.tasks
    oracle.freeze({first: WON})
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
    oracle.freeze({first: {**WON, "test_loss": Scheduled("oracle", "test_loss", schedule="step", lr0=1e-5)}})
    oracles(bench, grids=True)
    assert f"the grid of {first.name} has other winners than oracles.json" in capsys.readouterr().out


LOSSES = st.lists(st.sampled_from([0.1, 0.2, 0.4, 0.8, np.nan, np.inf]), min_size=1, max_size=6)


@given(LOSSES, st.data())
def test_random_search_equals_the_mean_over_every_draw(losses: list[float], data: st.DataObject) -> None:
    """Ties go to the first, as with argmin; a loss that is not finite is never chosen over one that is."""
    n = len(losses)
    regrets = np.array(data.draw(st.lists(st.floats(-1, 2), min_size=n, max_size=n)))
    finite = np.where(np.isfinite(losses), losses, np.inf)
    for trials in range(1, n + 1):
        draws = [list(draw) for draw in combinations(range(n), trials)]
        wanted = np.mean([regrets[draw][finite[draw].argmin()] for draw in draws])
        assert random_search(losses, regrets, trials) == pytest.approx(wanted, abs=1e-12)


def test_random_search_worked_by_hand() -> None:
    """Two of three: the best is in two of three draws, the second best is the best of the last one."""
    expected = random_search([[3.0, 1.0, 2.0]] * 2, [[0.9, 0.0, 0.3], [0.0, 0.6, 0.3]], 2)
    np.testing.assert_allclose(expected, [0.1, 0.5])


@pytest.mark.parametrize(
    ("trials", "regret", "message"), [(0, 0.1, "want 1 to 2"), (3, 0.1, "want 1 to 2"), (1, np.nan, "not finite")]
)
def test_random_search_refuses(trials: int, regret: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_search([1.0, 2.0], [0.5, regret], trials)
