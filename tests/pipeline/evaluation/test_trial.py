"""Single trainings of the benchmark, on one tiny real task."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import write_bundle
from lrpilot.actions import ActionEquation
from lrpilot.pilot import Pilot
from pipeline.evaluation.shapes import Shape
from pipeline.evaluation.splits import Task, tasks
from pipeline.evaluation.trial import CURVE_POINTS, MILESTONES, Method, Run, about, execute, milestones, rates
from pipeline.simulation.schedules import multipliers

(TASK,) = tasks(("illconditioned",), 1)
COSINE = Method("baseline", "cosine", 1e-2, schedule="cosine")
CONSTANT = Method("baseline", "constant", 1e-3, schedule="constant")
FINDER = Method("rival", "finder_tenth", rule="finder_tenth")
LOOP = Method("rival", "prodigy", loop="prodigy")
SHAPE = Shape(-2.0, 0.1, 0.3, 1.0, -2.0)


def trained(*methods: Method, seeds: Sequence[int] = (0, 1)) -> list[dict[str, Any]]:
    return execute([Run(TASK, method, seed) for method in methods for seed in seeds])


def test_methods_share_initialisation_and_batches() -> None:
    """A schedule's runs are the same beside others and alone."""
    together, alone = trained(COSINE, CONSTANT), trained(CONSTANT)
    for mine, wanted in zip(together[2:], alone, strict=True):
        for column in ("test_loss", "val_loss", "best_loss"):
            assert mine[column] == pytest.approx(wanted[column], rel=1e-5)
        assert mine["val_curve"] == pytest.approx(wanted["val_curve"], rel=1e-5)
    assert together[0]["test_loss"] != pytest.approx(together[2]["test_loss"], rel=1e-3)


def test_every_kind_of_method_runs(tmp_path: Path) -> None:
    policy = str(write_bundle(tmp_path / "policy.onnx"))
    learned = Method("policy", "policy", policy=policy, epochs=True)
    known = [COSINE, Method("floor", "searched", shape=SHAPE), Method("control", "mean_lr", curve=(-3.0,) * 5)]
    found = dict(zip(("cosine", "searched", "mean_lr"), trained(*known, seeds=(0,)), strict=True))
    for method in (
        learned, replace(learned, name="policy_val", validation=True),
        replace(learned, name="policy_steps", epochs=False), replace(learned, name="unprobed", unprobed=True),
        Method("control", "random_init", rule="random_init"), FINDER,
        Method("rival", "finder_steepest", rule="finder_steepest"), LOOP,
        Method("loop", "pilot", policy=policy, loop="pilot"),
    ):  # fmt: skip
        (found[method.name],) = trained(method, seeds=(0,))
    assert {len(row) for row in found.values()} == {len(found["cosine"])}
    assert all(np.isfinite(row["test_loss"]) for name, row in found.items() if name != "random_init")
    assert all(len(row["lr_curve"]) == CURVE_POINTS for row in found.values())
    assert found["mean_lr"]["lr_curve"] == pytest.approx([1e-3] * CURVE_POINTS)
    assert found["policy"]["test_loss"] == found["policy_val"]["test_loss"]  # this policy looks at nothing
    assert found["finder_tenth"]["test_loss"] != found["finder_steepest"]["test_loss"]
    assert found["pilot"]["test_loss"] == pytest.approx(found["policy"]["test_loss"], rel=1e-3)  # the public scheduler
    assert found["pilot"]["val_curve"] == pytest.approx(found["policy"]["val_curve"], rel=1e-3)
    assert [found[name]["probe_steps"] > 0 for name in ("policy", "unprobed", "cosine")] == [True, False, False]


def test_a_policy_is_judged_in_its_own_decision_process(tmp_path: Path) -> None:
    """The same answer, 1, is another rate where actions span less."""
    found = []
    for span in (0.5, 1.5):
        path = write_bundle(tmp_path / f"{span}.onnx", bias=9.0, action=ActionEquation(span=span, rise=9.0))
        found.append([row["lr_curve"][50] for row in trained(Method("policy", "policy", policy=str(path)))])
    np.testing.assert_allclose(np.log10(np.divide(found[1], found[0])), 1.0, atol=1e-5)


def test_policies_train_side_by_side_as_they_do_alone(tmp_path: Path) -> None:
    """Other answers, other things told, in one population."""
    paths = [str(write_bundle(tmp_path / f"{bias}.onnx", bias=bias)) for bias in (-0.3, 0.2)]
    methods = [Method("policy", path, policy=path, epochs=told, validation=told) for path in paths for told in (0, 1)]
    together, alone = trained(*methods), [row for method in methods for row in trained(method)]
    assert len({row["test_loss"] for row in together}) == 4
    for mine, wanted in zip(together, alone, strict=True):
        assert mine["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-5)
        assert mine["lr_curve"] == pytest.approx(wanted["lr_curve"], rel=1e-5)


def test_a_policy_is_told_what_its_method_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`validation` shows as many validation losses as there are milestones, `epochs` the length of an epoch."""
    told: dict[str, tuple[int, bool]] = {}
    heard, observe = 0, Pilot.observe

    def count(pilot: Pilot, val_loss: Any) -> None:
        nonlocal heard
        heard += 1
        observe(pilot, val_loss)

    monkeypatch.setattr(Pilot, "observe", count)
    policy = str(write_bundle(tmp_path / "policy.onnx"))
    for name, extra in {"default": {}, "val": {"validation": True}, "epochs": {"epochs": True}}.items():
        epochs = []
        start = Pilot.__init__

        def note(self: Pilot, *args: Any, _start: Any = start, _epochs: list[Any] = epochs, **kwargs: Any) -> None:
            _epochs.append(kwargs["steps_per_epoch"])
            _start(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Pilot, "__init__", note)
            heard = 0
            trained(Method("policy", name, policy=policy, **extra), seeds=(0,))
        told[name] = heard, bool(np.isfinite(epochs[0]).all())
    assert told == {"default": (0, False), "val": (MILESTONES, False), "epochs": (0, True)}


def test_the_best_checkpoint_is_the_milestone_with_the_lowest_validation_loss() -> None:
    """A rate that blows up late: its end is bad, its best checkpoint what it was before."""
    late = Method("floor", "late", curve=(*(-2.5,) * 60, *(1.5,) * 40))
    (row,) = trained(late, seeds=(0,))
    best = int(np.nanargmin(row["val_curve"]))
    assert best < MILESTONES - 1
    assert row["best_loss"] < 0.5 * (row["test_loss"] if np.isfinite(row["test_loss"]) else np.inf)
    (steady,) = trained(Method("floor", "steady", curve=(-2.5,) * 100), seeds=(0,))
    assert row["best_loss"] == pytest.approx(steady["test_loss"], rel=0.5)


@pytest.mark.parametrize("n", [20, 61, 300, 4999])
def test_milestones_end_with_the_training(n: int) -> None:
    found = milestones(n)
    assert found[-1] == n and found == sorted(set(found)) and len(found) == MILESTONES


def test_rates_that_are_known_beforehand() -> None:
    np.testing.assert_allclose(rates(COSINE, 40), 1e-2 * multipliers("cosine", 40))
    np.testing.assert_allclose(rates(Method("control", "mean_lr", curve=(-1.0, -3.0)), 2), [10**-1.5, 10**-2.5])
    assert len(rates(Method("floor", "searched", shape=SHAPE), 40)) == 40


CHANGED = {
    "task": Run(Task("train", "illconditioned", 1), COSINE, 0),
    "seed": Run(TASK, COSINE, 1),
    "rate": Run(TASK, replace(COSINE, lr0=2e-2), 0),
    "schedule": Run(TASK, replace(COSINE, schedule="linear"), 0),
    "device": Run(TASK, COSINE, 0, "cuda"),
    "shape": Run(TASK, Method("floor", "searched", shape=SHAPE), 0),
    "rule": Run(TASK, FINDER, 0),
    "loop": Run(TASK, LOOP, 0),
}


def test_a_key_stands_for_everything_that_decides_a_run() -> None:
    keys = {name: run.key() for name, run in CHANGED.items()} | {"plain": Run(TASK, COSINE, 0).key()}
    assert len(set(keys.values())) == len(keys)
    renamed = replace(COSINE, kind="oracle", name="test_loss")
    assert Run(TASK, renamed, 0).key() == keys["plain"]


def test_a_policy_counts_by_its_content(tmp_path: Path) -> None:
    paths = [write_bundle(tmp_path / name, bias=bias) for name, bias in (("a", 0.1), ("b", 0.1), ("c", 0.2))]
    keys = [Run(TASK, Method("policy", "policy", policy=str(path)), 0).key() for path in paths]
    assert keys[0] == keys[1] != keys[2]


def test_a_change_of_somebodys_scheduler_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for i, text in enumerate(("", "# other\n")):
        (tmp_path / f"mine{i}.py").write_text(f"{text}from torch.optim.lr_scheduler import CosineAnnealingLR as make\n")
        keys.append(Run(TASK, Method("rival", "mine", loop=f"mine{i}:make"), 0).method.content()["own"])
    assert keys[0] != keys[1]
    (row,) = trained(Method("rival", "mine", loop="mine0:make"), seeds=(0,))
    assert row["lr_curve"][50] == pytest.approx(row["lr_curve"][0] / 2, rel=0.05)


def test_what_is_known_of_a_task_before() -> None:
    found = about(TASK, range(2), "cpu")
    workload = TASK.sample()
    assert (found["workload"], found["optimizer"], found["n_steps"]) == (
        workload.name, workload.optimizer, workload.n_steps,
    )  # fmt: skip
    assert found["initial_loss"] <= workload.baseline_loss
    assert np.isnan(found["initial_error"]) == (workload.error is None)
