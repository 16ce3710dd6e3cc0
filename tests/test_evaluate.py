"""The evaluation's book-keeping on frames worked by hand, and its jobs on tiny real tasks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bundles import write_bundle
from closure import TOP
from lrpilot.actions import ActionEquation
from pipeline.benchmark import CURVE_POINTS, HIGHEST, MEMBERS, SCHEDULES, Job, Method, Task, exists, grid, run
from pipeline.config import EvaluateConfig, load, read
from pipeline.evaluate import add_regret, calibrated, calibrated_rival, jobs, mean_curves, per_method, summarise, tasks
from tiny import write_params

TINY_TASK = Task("train", "illconditioned", 3)  # 200 steps of Adam on ten weights
nan = float("nan")


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    found = load(write_params(tmp_path)).evaluate
    return replace(found, seeds=2, bootstrap=50, learning_rates=(1e-3, 1e-2))


def row(kind: str, method: str, lr0: float, seed: int, **values: Any) -> dict[str, Any]:
    """One training run of an evaluation, dull where `values` say nothing else."""
    return {
        "split": "heldout", "family": "f", "task": "f-1", "workload": "w", "optimizer": "adam", "n_steps": 30,
        "probe_steps": 0,
        "steps_per_epoch": 5.0, "kind": kind, "method": method, "lr0": lr0, "seed": seed, "val_loss": 0.5,
        "val_error": 0.2, "test_loss": 0.5, "test_error": 0.2, "milestones": [10, 20, 30],
        "val_curve": [0.9, 0.6, 0.5], "lr_curve": [1e-3] * CURVE_POINTS, "regret": 0.5, "seconds": 0.1,
    } | values  # fmt: skip


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def test_tasks_are_frozen() -> None:
    families = ("spirals", "diabetes", "mnist_mlp")
    found = tasks(families, 3, 7)
    assert found == tasks(families, 3, 7)
    assert [t.family for t in found] == [name for name in families for _ in range(3)]
    assert [t.split for t in found[::3]] == ["train", "selection", "heldout"]
    assert not set(found) & set(tasks(families, 3, 8))
    # another family, or more tasks of one, leave those that there were
    assert [t for t in tasks((*families[::-1], "overfit"), 3, 7) if t.family == "diabetes"] == found[3:6]
    assert set(tasks(families, 2, 7)) < set(found)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError, match="workload family 'cifar' is unknown"):
        tasks(("spirals", "cifar"), 1, 0)


@pytest.mark.parametrize("optimizer", HIGHEST)
def test_the_grid_is_every_schedule_at_every_rate_of_its_optimizer(optimizer: str) -> None:
    found = grid(optimizer, ())
    rates = sorted({m.lr0 for m in found if m.lr0 is not None})
    assert {(m.name, m.lr0) for m in found} == {(s, lr) for s in SCHEDULES for lr in rates}
    assert len(found) == len(SCHEDULES) * len(rates)
    assert {m.kind for m in found} == {"baseline"}
    assert rates[-1] == HIGHEST[optimizer]
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=0.03)


def test_the_grid_of_sgd_reaches_further() -> None:
    assert {m.lr0 for m in grid("adam", ())} < {m.lr0 for m in grid("sgd", ())}


def test_the_default_initial_rates_are_in_every_grid() -> None:
    initial = set(read(TOP / "params.yaml")["evaluate"]["learning_rates"])
    for optimizer in HIGHEST:
        assert initial <= {m.lr0 for m in grid(optimizer, ())}


def test_jobs_hold_every_method_once_in_populations_of_bounded_size() -> None:
    methods = (*grid("sgd", ()), Method("policy", "policy", policy="p"), Method("control", "random_init"))
    found = jobs(TINY_TASK, methods, 5, "cpu")
    assert [m for job in found for m in job.methods] == list(methods)
    assert max(len(job.methods) * len(job.seeds) for job in found) <= MEMBERS
    assert all(len({m.lr0 is None for m in job.methods}) == 1 for job in found)


def test_regret_worked_by_hand() -> None:
    """Initial loss 1. The tuned winner is cosine from 1e-3: test loss .2, validation loss .3, error .1 on every seed.

    So regret is (loss - .2) / .8, and the target on validation .3 + .1 (1 - .3) = .37.
    """
    winner = {"test_loss": 0.2, "val_loss": 0.3, "test_error": 0.1, "val_curve": [0.9, 0.36, 0.3]}
    rows = frame([
        *(row("baseline", "cosine", 1e-3, s, **winner) for s in (0, 1, 2)),
        *(row("baseline", "cosine", 1e-2, s, test_loss=nan, val_loss=nan, val_curve=[nan] * 3) for s in (0, 1, 2)),
        *(row("baseline", "step", 1e-3, s, test_loss=0.6) for s in (0, 1, 2)),
        *(row("policy", "policy", nan, s, test_loss=0.2 + 0.4 * s, val_curve=[0.37, 0.38, 0.3]) for s in (0, 1, 2)),
    ])  # fmt: skip
    found = add_regret(rows, {"f-1": 1.0})

    def values(kind: str, lr0: float, column: str) -> list[float]:
        part = found[(found.kind == kind) & ((found.lr0 == lr0) | (np.isnan(lr0) & found.lr0.isna()))]
        return part.sort_values(["method", "seed"])[column].to_list()

    assert values("baseline", 1e-3, "regret") == pytest.approx([0, 0, 0, 0.5, 0.5, 0.5])
    assert values("baseline", 1e-2, "regret") == [1, 1, 1]
    assert values("policy", nan, "regret") == pytest.approx([0, 0.5, 1])
    assert values("policy", nan, "error_gap") == pytest.approx([0.1] * 3)
    assert values("policy", nan, "steps_to_target") == [10, 10, 10]
    assert values("baseline", 1e-3, "steps_to_target") == pytest.approx([20, 20, 20, nan, nan, nan], nan_ok=True)
    assert values("policy", nan, "epochs_to_target") == [2, 2, 2]


def test_a_task_that_nothing_improves_is_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("baseline", "cosine", 1e-3, s) for s in (0, 1)]
    hopeless = [row("baseline", "cosine", 1e-3, s, task="f-2", test_loss=2.0) for s in (0, 1)]
    found = add_regret(frame(rows + hopeless), {"f-1": 1.0, "f-2": 1.0})
    assert set(found.task) == {"f-1"}
    assert "f-2 left out" in capsys.readouterr().out


def test_the_calibrated_schedule_is_best_on_average_among_rates_that_all_tasks_have() -> None:
    rows = frame([
        row("baseline", "cosine", 1e-3, 0, task="a", regret=0.1),
        row("baseline", "cosine", 1e-3, 0, task="b", regret=0.3),
        row("baseline", "linear", 1e-3, 0, task="a", regret=0.0),
        row("baseline", "linear", 1e-3, 0, task="b", regret=0.6),
        row("baseline", "cosine", 1e-2, 0, task="a", regret=0.0),  # not tried on b
        row("policy", "policy", nan, 0, task="a", regret=-1.0), row("policy", "policy", nan, 0, task="b", regret=-1.0),
        row("baseline", "step", 1.0, 0, task="c", optimizer="sgd", regret=0.4),
        row("baseline", "step", 0.1, 0, task="c", optimizer="sgd", regret=0.5),
    ])  # fmt: skip
    assert calibrated(rows) == {
        "adam": Method("baseline", "cosine", 1e-3),
        "sgd": Method("baseline", "step", 1.0),
    }


def test_the_calibrated_rival_is_the_grids_runs_of_that_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    rows = frame([
        row("baseline", "cosine", 1e-3, 0), row("baseline", "cosine", 1e-2, 0), row("policy", "policy", nan, 0),
        row("baseline", "step", 0.1, 0, optimizer="sgd", task="b"),
    ])  # fmt: skip
    default = {"adam": Method("baseline", "cosine", 1e-3), "sgd": Method("baseline", "step", 0.1)}
    found = calibrated_rival(rows, default)
    assert found.index.to_list() == [0, 3]
    assert set(zip(found.kind, found.method, strict=True)) == {("rival", "calibrated")}
    assert found.lr0.isna().all()

    assert calibrated_rival(rows, {"adam": default["adam"]}).empty  # half a rival would be compared on other tasks
    assert "calibrated left out: no calibration task uses sgd" in capsys.readouterr().out


def two_tasks() -> pd.DataFrame:
    """Policy regret .1 and .2 everywhere, a baseline's .3 from one initial rate and .5 from the other."""
    rows = []
    for task, policy in (("a", 0.1), ("b", 0.2)):
        for seed in (0, 1):
            shared = {"task": task, "steps_to_target": 10.0, "epochs_to_target": 2.0, "error_gap": 0.01}
            rows += [
                row("policy", "policy", nan, seed, regret=policy, **shared),
                row("policy", "policy_val", nan, seed, regret=policy, **shared),
                row(
                    "control",
                    "random_init",
                    nan,
                    seed,
                    regret=1.0,
                    **shared | {"test_loss": nan, "steps_to_target": nan},
                ),
                row("baseline", "cosine", 1e-3, seed, regret=0.3, **shared),
                row("baseline", "cosine", 1e-2, seed, regret=0.5, **shared),
                row("baseline", "cosine", 3e-2, seed, regret=9.0, **shared),  # of the grid alone
            ]
    return frame(rows)


def test_per_method_averages_a_baseline_over_the_initial_rates_alone() -> None:
    found = dict(per_method(two_tasks(), (1e-3, 1e-2)))
    assert set(found) == {"policy", "policy.policy_val", "control.random_init", "baseline.cosine"}
    np.testing.assert_allclose(found["baseline.cosine"], np.full((2, 2), 0.4))
    np.testing.assert_allclose(found["policy"], [[0.1, 0.1], [0.2, 0.2]])


def test_summary_of_a_split(config: EvaluateConfig) -> None:
    found = summarise(two_tasks(), config)
    for label in ("policy", "policy_val", "control.random_init", "baseline.cosine"):
        assert {f"{label}.{k}" for k in ("mean", "iqm", "low", "high", "worst", "diverged", "target_reached")} <= set(
            found
        )
        assert found[f"{label}.low"] <= found[f"{label}.mean"] <= found[f"{label}.high"]
    wanted = {
        "policy.mean": 0.15, "policy.worst": 0.2, "baseline.cosine.mean": 0.4, "baseline.cosine.policy_minus": -0.25,
        "baseline.cosine.policy_wins": 1.0, "policy_val.policy_wins": 0.5, "baseline.cosine.sensitivity": 0.2,
        "control.random_init.diverged": 4, "control.random_init.target_reached": 0.0, "policy.target_reached": 1.0,
        "control.random_init.target_share_of_steps": 1.0, "policy.median_error_gap": 0.01, "tasks": 2,
    }  # fmt: skip
    assert {k: found[k] for k in wanted} == pytest.approx(wanted)
    assert all(isinstance(v, int | float) for v in found.values())
    assert summarise(two_tasks(), config) == found


def test_mean_curves_are_geometric_means_by_optimizer() -> None:
    curves = [row("policy", "policy", nan, s, lr_curve=[lr] * CURVE_POINTS) for s, lr in ((0, 1e-2), (1, 1e-4))]
    curves += [row("policy", "policy", nan, 0, optimizer="sgd", lr_curve=[0.1] * (CURVE_POINTS - 1) + [0.0])]
    found = dict(mean_curves(frame([*curves, row("baseline", "cosine", 1.0, 0)])))
    np.testing.assert_allclose(found["adam"], np.full(CURVE_POINTS, -3))
    np.testing.assert_allclose(found["sgd"][:-1], -1)
    assert np.isfinite(found["sgd"]).all()


def test_mean_curves_leave_out_the_probe_that_was_rolled_back() -> None:
    probed = [5.0] * 5 + [1e-2] * (CURVE_POINTS - 5)  # 20 of 400 steps are the probe: points 0 to 4
    found = dict(mean_curves(frame([row("policy", "policy", nan, 0, n_steps=400, probe_steps=20, lr_curve=probed)])))
    np.testing.assert_allclose(found["adam"], np.full(CURVE_POINTS, -2))


def job(*methods: Method, curves: tuple[tuple[str, tuple[float, ...]], ...] = ()) -> Job:
    return Job(TINY_TASK, methods, (0, 1), "cpu", curves)


def test_methods_share_initialisation_and_batches() -> None:
    """A schedule's runs are the same beside others and alone."""
    a, b = Method("baseline", "cosine", 1e-2), Method("baseline", "constant", 1e-3)
    together, alone = run(job(a, b)), run(job(b))
    kept = together[together.method == "constant"]
    assert together.method.to_list() == ["cosine"] * 2 + ["constant"] * 2
    for column in ("test_loss", "val_loss", "lr0", "seed"):
        np.testing.assert_allclose(kept[column].to_numpy(), alone[column].to_numpy(), rtol=1e-5)
    np.testing.assert_allclose(np.stack(kept.val_curve), np.stack(alone.val_curve), rtol=1e-5)
    assert kept.seed.to_list() == [0, 1]


def test_every_kind_of_method_runs(tmp_path: Path) -> None:
    policy = str(write_bundle(tmp_path / "policy.onnx"))
    replay = (("adam", (-3.0,) * CURVE_POINTS),)
    found = pd.concat([
        run(job(Method("policy", "policy", policy=policy))),
        run(job(Method("policy", "policy_val", policy=policy, validation=True))),
        run(job(Method("control", "random_init"))),
        run(job(Method("rival", "finder_steepest"))),
        run(job(Method("rival", "finder_tenth"))),
        run(job(Method("control", "mean_lr"), curves=replay)),
        run(job(*grid("adam", ())[:2])),
    ])  # fmt: skip
    assert len(found) == 16
    assert found.lr0.notna().sum() == 4
    assert np.isfinite(found[found.method != "random_init"].test_loss).all()
    np.testing.assert_allclose(np.stack(found[found.method == "mean_lr"].lr_curve), 1e-3)
    by_method = found.groupby("method").test_loss.first()
    assert by_method["policy"] == by_method["policy_val"]  # this policy looks at nothing
    assert by_method["finder_tenth"] != by_method["finder_steepest"]


def test_a_policy_is_judged_in_its_own_decision_process(tmp_path: Path) -> None:
    """The same answer, 1, is another rate where actions span less."""
    rates = []
    for span in (0.5, 1.5):
        path = write_bundle(tmp_path / f"{span}.onnx", bias=9.0, action=ActionEquation(span=span, rise=9.0))
        rates.append(np.stack(run(job(Method("policy", "policy", policy=str(path)))).lr_curve)[:, 50])
    np.testing.assert_allclose(np.log10(rates[1] / rates[0]), 1.0, atol=1e-5)


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"policy\.onnx: no such policy; run the export stage first"):
        exists(tmp_path / "policy.onnx")
