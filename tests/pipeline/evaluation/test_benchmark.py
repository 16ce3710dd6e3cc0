"""The benchmark's book-keeping on frames worked by hand, and all of it on one tiny real task."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bundles import write_bundle
from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation import benchmark
from pipeline.evaluation.benchmark import (  # fmt: skip
    HIGHEST,
    SCHEDULES,
    SCORES,
    TUNING,
    Bench,
    add_regret,
    calibrated,
    compare,
    contenders,
    grid,
    mean_curves,
    name_of,
    winners,
)
from pipeline.evaluation.splits import tasks
from pipeline.evaluation.trial import CURVE_POINTS, Method
from pipeline.workloads.base import OPTIMIZERS
from repository import TOP
from rows import row

nan = float("nan")


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows)


@pytest.mark.parametrize("optimizer", HIGHEST)
def test_the_grid_is_every_schedule_at_every_rate_of_its_optimizer(optimizer: str) -> None:
    found = grid(optimizer)
    rates = sorted({m.lr0 for m in found if m.lr0 is not None})
    assert {(m.schedule, m.lr0) for m in found} == {(s, lr) for s in SCHEDULES for lr in rates}
    assert len(found) == len(SCHEDULES) * len(rates)
    assert {m.kind for m in found} == {"grid"}
    assert rates[-1] == HIGHEST[optimizer]
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=0.03)


def test_the_default_initial_rates_are_in_every_grid() -> None:
    initial = set(read(TOP / "params.yaml")["evaluate"]["learning_rates"])
    for optimizer in HIGHEST:
        assert initial <= {m.lr0 for m in grid(optimizer)}


def test_the_winner_is_best_on_average_and_a_blow_up_counts_as_no_training() -> None:
    known = pd.DataFrame({"initial_loss": [1.0, 1.0], "initial_error": [0.5, nan]}, index=["a", "b"])
    tuned = frame([
        row("grid", "cosine", 0.1, 0, task="a", test_loss=0.1, test_error=0.3),
        row("grid", "cosine", 0.1, 1, task="a", test_loss=nan, test_error=0.3),  # 1: on average .55
        row("grid", "linear", 0.1, 0, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "linear", 0.1, 1, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "step", 1.0, 0, task="b", test_loss=9.0), row("grid", "step", 1.0, 1, task="b", test_loss=0.0),
        row("grid", "step", 0.1, 0, task="b", test_loss=0.6), row("grid", "step", 0.1, 1, task="b", test_loss=0.6),
    ])  # fmt: skip
    assert winners(tuned, known, "test_loss") == {
        "a": Method("oracle", "test_loss", 0.1, schedule="linear"),
        "b": Method("oracle", "test_loss", 1.0, schedule="step"),  # (1 + 0) / 2
    }
    assert winners(tuned, known, "test_error") == {"a": Method("oracle", "test_error", 0.1, schedule="linear")}


def test_regret_worked_by_hand() -> None:
    """Initial loss 1, error .9. The winners re-run: test loss .2, best checkpoint .1, error .1; validation .3.

    So regret is (loss - .2) / .8, that of checkpoints (loss - .1) / .9, of errors (error - .1) / .8, and the target on
    validation .3 + .1 (1 - .3) = .37.
    """
    winner = {"test_loss": 0.2, "val_loss": 0.3, "test_error": 0.1, "best_loss": 0.1, "best_error": 0.1}
    rows = frame([
        *(row("oracle", score, 1e-3, s, **winner) for score in SCORES.values() for s in (0, 1, 2)),
        *(row("baseline", "cosine", 1e-2, s, test_loss=nan, best_loss=0.55, test_error=nan, val_curve=[nan] * 3)
          for s in (0, 1, 2)),
        *(row("policy", "policy", nan, s, test_loss=0.2 + 0.4 * s, test_error=0.5, val_curve=[0.37, 0.38, 0.3])
          for s in (0, 1, 2)),
    ])  # fmt: skip
    found = add_regret(rows).sort_values(["kind", "seed"])
    diverged, policy = found[found.kind == "baseline"], found[found.kind == "policy"]
    assert diverged.regret.tolist() == diverged.error_regret.tolist() == [1, 1, 1]
    assert diverged.best_regret.tolist() == pytest.approx([0.5] * 3)
    assert policy.regret.tolist() == pytest.approx([0, 0.5, 1])
    assert policy.error_regret.tolist() == pytest.approx([0.5] * 3)
    assert policy.error_gap.tolist() == pytest.approx([0.4] * 3)
    assert policy.steps_to_target.tolist() == [10, 10, 10] and policy.epochs_to_target.tolist() == [2, 2, 2]
    assert diverged.steps_to_target.isna().all()


def test_a_task_without_error_rates_has_no_regret_of_errors() -> None:
    lacks = {"initial_error": nan, "test_error": nan, "best_error": nan}
    rows = frame([row("oracle", score, 1e-3, 0, test_loss=0.1, **lacks) for score in ("test_loss", "best_loss")])
    found = add_regret(rows)
    assert found.error_regret.isna().all() and found.best_error_regret.isna().all() and found.regret.notna().all()


def test_a_task_that_nothing_improves_is_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("oracle", score, 1e-3, 0, task=t) for score in SCORES.values() for t in ("f-1", "f-2")]
    hopeless = [r | {"test_loss": 2.0} if r["task"] == "f-2" else r for r in rows]
    assert set(add_regret(frame(hopeless)).task) == {"f-1"}
    assert "f-2 left out" in capsys.readouterr().out


def test_mean_curves_are_geometric_means_by_optimizer() -> None:
    curves = [row("policy", "policy", nan, s, lr_curve=[lr] * CURVE_POINTS) for s, lr in ((0, 1e-2), (1, 1e-4))]
    curves += [row("policy", "policy", nan, 0, optimizer="sgd", lr_curve=[0.1] * (CURVE_POINTS - 1) + [0.0])]
    found = mean_curves(frame(curves))
    np.testing.assert_allclose(found["adam"].curve or (), np.full(CURVE_POINTS, -3))
    np.testing.assert_allclose((found["sgd"].curve or ())[:-1], -1)
    assert np.isfinite(found["sgd"].curve or ()).all()


def test_mean_curves_leave_out_the_probe_that_was_rolled_back() -> None:
    probed = [5.0] * 5 + [1e-2] * (CURVE_POINTS - 5)  # 20 of 400 steps are the probe: points 0 to 4
    found = mean_curves(frame([row("policy", "policy", nan, 0, n_steps=400, probe_steps=20, lr_curve=probed)]))
    np.testing.assert_allclose(found["adam"].curve or (), np.full(CURVE_POINTS, -2))


def test_the_calibrated_schedule_is_of_the_grid() -> None:
    for optimizer, method in calibrated().items():
        assert (method.schedule, method.lr0) in {(m.schedule, m.lr0) for m in grid(optimizer)}
    assert set(calibrated()) == set(OPTIMIZERS)


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"policy\.onnx: no such policy; run the export stage first"):
        contenders(tmp_path / "policy.onnx", tmp_path / "blind.onnx")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two schedules from three rates, on one task."""
    monkeypatch.setattr(benchmark, "SCHEDULES", ("constant", "linear"))
    monkeypatch.setattr(benchmark, "HALF_DECADES", (1e-3, 1e-2, 1e-1))
    monkeypatch.setattr("pipeline.evaluation.searched_schedule.DRAWN", 6)
    monkeypatch.setattr("pipeline.evaluation.searched_schedule.KEPT", 2)
    first = next(task for task in tasks(("illconditioned",), 6) if task.sample().error is not None)
    return Bench([first], 2, 2, (1e-3, 1e-1), engine("local", 1), tmp_path / "kept")


def test_the_whole_benchmark_of_one_task(bench: Bench, tmp_path: Path) -> None:
    policy = write_bundle(tmp_path / "policy.onnx")
    rows = compare(bench, contenders(policy, policy), search=True)
    runs = rows.groupby(["kind", "method"]).size().to_dict()
    assert runs == {
        ("grid", "constant"): 6, ("grid", "linear"): 6, ("baseline", "constant"): 4, ("baseline", "linear"): 4,
        **{("oracle", score): 2 for score in SCORES.values()}, ("rival", "calibrated"): 2,
        ("rival", "finder_tenth"): 2, ("rival", "finder_steepest"): 2, ("policy", "policy"): 2,
        ("policy", "policy_val"): 2, ("control", "random_init"): 2, ("control", "state_blind"): 2,
        ("control", "mean_lr"): 2, ("floor", "searched"): 2,
    }  # fmt: skip
    judged, tuned = rows[rows.kind != "grid"], rows[rows.kind == "grid"]
    assert set(judged.seed) == {0, 1} and set(tuned.seed) == {TUNING, TUNING + 1}
    oracle = rows[(rows.kind == "oracle") & (rows.method == "test_loss")]
    assert oracle.regret.mean() == pytest.approx(0, abs=1e-9)
    best = tuned.groupby(["method", "lr0"]).test_loss.mean().idxmin()
    assert oracle.lr0.iloc[0] == best[1]
    searched = rows[rows.kind == "floor"]
    assert searched.regret.mean() < 0.1
    again = compare(bench, contenders(policy, policy), search=True)
    assert again.test_loss.equals(rows.test_loss)


def test_the_name_stands_for_what_is_judged(bench: Bench) -> None:
    names = {name_of(bench), name_of(replace(bench, seeds=3)), name_of(replace(bench, learning_rates=(1e-3,)))}
    names.add(name_of(replace(bench, tasks=tasks(("illconditioned",), 2))))
    assert len(names) == 4
    assert name_of(bench) == name_of(replace(bench))
