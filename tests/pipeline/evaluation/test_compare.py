"""The benchmark's book-keeping on frames worked by hand, and all of it on one tiny real task."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bundles import write_bundle
from pipeline.engines import engine
from pipeline.evaluation.bench import TUNING, Bench, grid
from pipeline.evaluation.compare import calibrated, compare, contenders, mean_curves
from pipeline.evaluation.regrets import SCORES
from pipeline.evaluation.splits import tasks
from pipeline.evaluation.trial import CURVE_POINTS
from pipeline.workloads.base import OPTIMIZERS, TEXTBOOK
from rows import row

nan = float("nan")


def test_mean_curves_are_geometric_means_by_optimizer() -> None:
    curves = [row("policy", "policy", nan, s, lr_curve=[lr] * CURVE_POINTS) for s, lr in ((0, 1e-2), (1, 1e-4))]
    curves += [row("policy", "policy", nan, 0, optimizer="sgd", lr_curve=[0.1] * (CURVE_POINTS - 1) + [0.0])]
    replays = mean_curves(pd.DataFrame(curves))
    np.testing.assert_allclose(replays["adam"].curve, np.full(CURVE_POINTS, -3))
    np.testing.assert_allclose(replays["sgd"].curve[:-1], -1)
    assert np.isfinite(replays["sgd"].curve).all()


def test_mean_curves_leave_out_the_probe_that_was_rolled_back() -> None:
    probed = [5.0] * 5 + [1e-2] * (CURVE_POINTS - 5)  # 20 of 400 steps are the probe: points 0 to 4
    rows = pd.DataFrame([row("policy", "policy", nan, 0, n_steps=400, probe_steps=20, lr_curve=probed)])
    np.testing.assert_allclose(mean_curves(rows)["adam"].curve, np.full(CURVE_POINTS, -2))


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
    monkeypatch.setattr("pipeline.evaluation.bench.SCHEDULES", ("constant", "linear"))
    monkeypatch.setattr("pipeline.evaluation.bench.HALF_DECADES", (1e-3, 1e-2, 1e-1))
    monkeypatch.setattr("pipeline.evaluation.searched_schedule.CANDIDATES", 6)
    monkeypatch.setattr("pipeline.evaluation.searched_schedule.FINALISTS", 2)
    first = next(task for task in tasks(("illconditioned",), 6) if task.sample().error is not None)
    return Bench([first], 2, 2, (1e-3, 1e-1), engine("local", 1), tmp_path / "cache")


def test_the_whole_benchmark_of_one_task(bench: Bench, tmp_path: Path) -> None:
    policy = write_bundle(tmp_path / "policy.onnx")
    rows = compare(bench, contenders(policy, policy), search=True)
    runs = rows.groupby(["kind", "method"]).size().to_dict()
    assert runs == {
        ("grid", "constant"): 6, ("grid", "linear"): 6, ("baseline", "constant"): 4, ("baseline", "linear"): 4,
        **{("oracle", score): 2 for score in SCORES.values()}, ("rival", "calibrated"): 2,
        ("rival", "finder_tenth"): 2, ("rival", "finder_steepest"): 2, ("policy", "policy"): 2,
        ("policy", "policy_val"): 2, ("control", "random_init"): 2, ("control", "state_blind"): 2,
        ("control", "mean_lr"): 2, ("control", "hold"): 2, ("control", "no_loss"): 2, ("floor", "searched"): 2,
        ("textbook", "constant"): 2, ("textbook", "linear"): 2,
    }  # fmt: skip
    judged, tuned = rows[rows.kind != "grid"], rows[rows.kind == "grid"]
    assert set(judged.seed) == {0, 1} and set(tuned.seed) == {TUNING, TUNING + 1}
    oracle = rows[(rows.kind == "oracle") & (rows.method == "test_loss")]
    assert oracle.regret.mean() == pytest.approx(0, abs=1e-9)
    best = tuned.groupby(["method", "lr0"]).test_loss.mean().idxmin()
    assert oracle.lr0.iloc[0] == best[1]
    assert set(rows.lr0[rows.kind == "textbook"]) == {TEXTBOOK[bench.tasks[0].sample().optimizer]}
    searched = rows[rows.kind == "floor"]
    assert searched.regret.mean() < 0.1
    again = compare(bench, contenders(policy, policy), search=True)
    assert again.test_loss.equals(rows.test_loss)
