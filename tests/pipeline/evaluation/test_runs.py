"""A run's key stands for all that decides it, and for no more; what is known of a task before anything is trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundles import write_bundle
from pipeline.evaluation.methods.loops import Rival, UserScheduler
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.methods.policies import Learned, Ruled
from pipeline.evaluation.methods.schedules import Replayed, Scheduled
from pipeline.evaluation.runs import Run, execute, facts_key, task_facts
from pipeline.evaluation.splits import Task, tasks

(TASK,) = tasks(("illconditioned",), 1)
COSINE = Scheduled("baseline", "cosine", schedule="cosine", lr0=1e-2)
LEARNED = Learned("policy", "policy", "default")
CHANGED = {
    "task": Run(Task("train", "illconditioned", 1), COSINE, 0),
    "seed": Run(TASK, COSINE, 1),
    "device": Run(TASK, COSINE, 0, "cuda"),
    "rate": Run(TASK, replace(COSINE, lr0=2e-2), 0),
    "schedule": Run(TASK, replace(COSINE, schedule="linear"), 0),
    "curve": Run(TASK, Replayed("control", "mean_lr", (-1.0, -2.0)), 0),
    "rule": Run(TASK, Ruled("rival", "finder_tenth", "finder_tenth"), 0),
    "other rule": Run(TASK, Ruled("rival", "finder_tenth", "finder_steepest"), 0),
    "rival": Run(TASK, Rival("rival", "prodigy", "prodigy"), 0),
    "other rival": Run(TASK, Rival("rival", "prodigy", "prodigy_cosine"), 0),
    "own": Run(TASK, UserScheduler("rival", "mine", "torch.optim.lr_scheduler:CosineAnnealingLR"), 0),
    "pilot": Run(TASK, PilotLoop("loop", "pilot", "default"), 0),
    "policy": Run(TASK, LEARNED, 0),
    "validation": Run(TASK, replace(LEARNED, validation=True), 0),
    "epochs": Run(TASK, replace(LEARNED, epochs=True), 0),
    "unprobed": Run(TASK, replace(LEARNED, unprobed=True), 0),
}


def test_a_key_stands_for_everything_that_decides_a_run() -> None:
    keys = {name: run.key() for name, run in CHANGED.items()} | {"plain": Run(TASK, COSINE, 0).key()}
    assert len(set(keys.values())) == len(keys)
    renamed = replace(COSINE, kind="oracle", name="test_loss")
    assert Run(TASK, renamed, 0).key() == keys["plain"]


@pytest.mark.parametrize("loop", [False, True])
def test_a_policy_counts_by_its_content(tmp_path: Path, loop: bool) -> None:
    paths = [str(write_bundle(tmp_path / name, bias=bias)) for name, bias in (("a", 0.1), ("b", 0.1), ("c", 0.2))]
    methods = [PilotLoop("loop", "pilot", path) if loop else replace(LEARNED, policy=path) for path in paths]
    keys = [Run(TASK, method, 0).key() for method in methods]
    assert keys[0] == keys[1] != keys[2]


def test_a_change_of_somebodys_scheduler_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    sources = []
    for i, text in enumerate(("", "# other\n")):
        (tmp_path / f"mine{i}.py").write_text(f"{text}from torch.optim.lr_scheduler import CosineAnnealingLR as make\n")
        sources.append(UserScheduler("rival", "mine", f"mine{i}:make").content()["source"])
    assert sources[0] != sources[1]
    (row,) = execute([Run(TASK, UserScheduler("rival", "mine", "mine0:make"), 0)])
    assert row["lr_curve"][50] == pytest.approx(row["lr_curve"][0] / 2, rel=0.05)


def test_columns_say_what_a_run_is() -> None:
    columns = {"split": "train", "task": TASK.name, "kind": "baseline", "method": "cosine", "lr0": 1e-2, "seed": 3}
    assert Run(TASK, COSINE, 3).columns() == columns
    assert Run(TASK, LEARNED, 3).columns() == columns | {"kind": "policy", "method": "policy", "lr0": None}


def test_what_is_known_of_a_task_before() -> None:
    facts = task_facts(TASK, range(2), "cpu")
    workload = TASK.sample()
    assert (facts["workload"], facts["optimizer"], facts["n_steps"]) == (
        workload.name, workload.optimizer, workload.n_steps,
    )  # fmt: skip
    assert (facts["regime"], facts["default_schedule"], facts["default_rate"]) == ("odd", *workload.default)
    assert facts["initial_loss"] <= workload.baseline_loss
    assert np.isnan(facts["initial_error"]) == (workload.error is None)
    keys = {facts_key(TASK, 2, "cpu"), facts_key(TASK, 3, "cpu"), facts_key(TASK, 2, "cuda")}
    assert len(keys | {facts_key(CHANGED["task"].task, 2, "cpu")}) == 4
