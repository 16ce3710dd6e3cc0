"""The benchmark's book-keeping on frames worked by hand, and all of it on one tiny real task."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bundles import write_bundle
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.engines import engine
from pipeline.evaluation import oracle
from pipeline.evaluation.aggregates import SCORES
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import (
    BASELINES,
    calibrated,
    compare,
    contenders,
    mean_curves,
    name_of,
    schedules,
    textbook,
)
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.oracle import SCHEDULES, TUNING, rates
from pipeline.evaluation.runs import CURVE_POINTS
from pipeline.evaluation.splits import tasks
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
    for optimizer in ("adam", "adamw", "sgd"):
        method = calibrated()[optimizer]
        assert method.schedule in SCHEDULES and method.lr0 in rates(optimizer)
    assert set(calibrated()) == set(OPTIMIZERS)
    assert calibrated()["lion"] == calibrated()["adam"]


def test_baselines_are_the_plans_schedules_from_every_initial_rate() -> None:
    methods = schedules("baseline", (0.1, 1.0))
    assert {m.kind for m in methods} == {"baseline"} and all(m.name == m.schedule for m in methods)
    assert [(m.name, m.lr0) for m in methods] == [(name, lr) for name in BASELINES for lr in (0.1, 1.0)]


def test_the_textbook_default_is_the_tasks_own() -> None:
    methods = {method.name: method for method in textbook("warmup_cosine", 3e-4)}
    assert methods["default"] == Scheduled("textbook", "default", schedule="warmup_cosine", lr0=3e-4)
    assert methods.keys() == {"default", "wsd", *BASELINES} and {m.lr0 for m in methods.values()} == {3e-4}


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"policy\.onnx: no such policy; run the export stage first"):
        contenders(tmp_path / "policy.onnx", tmp_path / "blind.onnx")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """Two schedules from three rates, on one task; no oracle is frozen."""
    monkeypatch.setattr("pipeline.evaluation.oracle.SCHEDULES", ("cosine", "linear"))
    monkeypatch.setattr("pipeline.evaluation.oracle.HALF_DECADES", (1e-3, 1e-2, 1e-1))
    monkeypatch.setattr(oracle, "ORACLES", tmp_path / "oracles.json")
    oracle.freeze({})
    first = next(task for task in tasks(("illconditioned",), 20) if task.sample().error is not None)
    return Benchmark(
        [first], {"odd": 0.5, "small_noisy": 0.5}, 2, 2, (1e-3, 1e-1), engine("local", 1), tmp_path / "cache"
    )


def test_the_whole_benchmark_of_one_task(bench: Benchmark, tmp_path: Path) -> None:
    policy = write_bundle(tmp_path / "policy.onnx")
    rows = compare(bench, contenders(policy, policy))
    runs = rows.groupby(["kind", "method"]).size().to_dict()
    grid = {name: runs.pop(("grid", name)) for name in ("cosine", "linear")}
    assert grid["cosine"] == 6 and grid["linear"] in (4, 6)
    assert runs == {
        **{("baseline", name): 4 for name in BASELINES}, **{("oracle", score): 2 for score in SCORES.values()},
        ("rival", "calibrated"): 2, ("rival", "finder_tenth"): 2, ("rival", "finder_steepest"): 2,
        ("policy", "policy"): 2, ("policy", "policy_val"): 2, ("control", "random_init"): 2,
        ("control", "state_blind"): 2, ("control", "mean_lr"): 2, ("control", "hold"): 2, ("control", "no_loss"): 2,
        **{("textbook", name): 2 for name in ("default", "wsd", *BASELINES)},
    }  # fmt: skip
    judged, tuned = rows[rows.kind != "grid"], rows[rows.kind == "grid"]
    assert set(judged.seed) == {0, 1} and set(tuned.seed) == {TUNING, TUNING + 1}
    oracle = rows[(rows.kind == "oracle") & (rows.method == "test_loss")]
    assert oracle.regret.mean() == pytest.approx(0, abs=1e-9)
    best = tuned.groupby(["method", "lr0"]).test_loss.mean().idxmin()
    assert oracle.lr0.iloc[0] == best[1]
    workload = bench.tasks[0].sample()
    assert set(rows.lr0[rows.kind == "textbook"]) == {workload.default[1]} and set(rows.regime) == {"odd"}
    again = compare(bench, contenders(policy, policy))
    assert again.test_loss.equals(rows.test_loss)


def test_the_name_stands_for_what_is_judged(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name_of(bench), name_of(replace(bench, seeds=3)), name_of(replace(bench, learning_rates=(1e-3,)))]
    names += [name_of(replace(bench, tuning_seeds=3)), name_of(replace(bench, tasks=tasks(("illconditioned",), 2)))]
    names += [name_of(replace(bench, shares={"odd": 0.4, "small_noisy": 0.6}))]
    assert name_of(bench) == name_of(replace(bench))
    (frozen_task,) = tasks(("diabetes",), 1)
    of_frozen = replace(bench, tasks=[frozen_task])
    names.append(name_of(of_frozen))
    oracle.freeze({frozen_task: {"test_loss": Scheduled("oracle", "test_loss", schedule="step", lr0=0.1)}})
    names.append(name_of(of_frozen))
    monkeypatch.setattr("pipeline.evaluation.oracle.NEAR", 0.2)
    names.append(name_of(bench))
    assert len(set(names)) == len(names)
