"""A collection is decided by its parameters: its plan, the names of its files, what it leaves behind."""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import write_bundle
from code_copy import copy_code, counting
from pipeline import collect
from pipeline.collect import drawn_families, plan, turns
from pipeline.config import BranchesConfig, load
from pipeline.paths import Paths
from pipeline.simulation.recording import Spec
from pipeline.workloads.base import REGIMES
from pipeline.workloads.families import family
from policy import trajectories
from repository import TOP
from tiny import write_params

TASKS = 8


@pytest.fixture(autouse=True)
def from_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def planned(folder: Path, **changes: Any) -> list[Spec]:
    params = load(write_params(folder, **changes))
    return plan(params.collect, params.regimes.shares)


def run_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["collect", "--root", str(root)])
    collect.main()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an uninterrupted collection."""
    root = write_params(tmp_path_factory.mktemp("whole"), tasks=TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run_here(root, patch)
    return root


def test_plan_is_decided_by_the_seed(tmp_path: Path) -> None:
    one = planned(tmp_path)
    assert one == planned(tmp_path)
    assert one != planned(tmp_path, seed=6)
    assert len({spec.name() for spec in one}) == len(one)


def test_a_larger_collection_begins_with_the_smaller(tmp_path: Path) -> None:
    small, large = (planned(tmp_path, tasks=tasks) for tasks in (5, 40))
    assert large[:5] == small


def test_extra_tasks_leave_the_others_as_they_are(tmp_path: Path) -> None:
    usual, more = planned(tmp_path), planned(tmp_path, extra={"spirals": 3, "regression": 2})
    assert [spec.family for spec in more[:5]] == ["spirals"] * 3 + ["regression"] * 2 and more[5:] == usual
    assert len({spec.name() for spec in more}) == len(more)
    assert planned(tmp_path, extra={"regression": 1})[0] == more[3]


def test_only_the_family_whose_code_changed_is_recollected(tmp_path: Path) -> None:
    weights = {"tabular": 1.0, "overfit": 1.0, "topics_bag": 1.0}
    before = {spec.family: spec.code for spec in planned(tmp_path, families=weights, tasks=12)}
    copy_code(tmp_path)
    module = tmp_path / "pipeline/workloads/recorded/synthetic.py"  # overfit's other half
    module.write_text(module.read_text() + "CHANGED = True\n")
    with counting(tmp_path):
        after = {spec.family: spec.code for spec in planned(tmp_path, families=weights, tasks=12)}
    assert {name for name in weights if before[name] != after[name]} == {"overfit"}


@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=25), st.integers(1, 120))
def test_families_get_their_share(weights: list[float], tasks: int) -> None:
    """However many come, from however uneven weights."""
    names = [f"family {i}" for i in range(len(weights))]
    found = turns(dict(zip(names, weights, strict=True)), tasks)
    assert len(found) == tasks
    had = np.cumsum([[turn == name for name in names] for turn in found], axis=0)
    share = np.arange(1, tasks + 1)[:, None] * np.array(weights) / sum(weights)
    assert np.abs(had - share).max() < 1 + 1e-9


def test_turns_by_hand() -> None:
    """Shares 1/2, 1/4, 1/4: a is due at 2, 4, 6 and 8, b and c at 4 and 8."""
    assert turns({"a": 2.0, "b": 1.0, "c": 1.0}, 8) == ["a", "b", "a", "c"] * 2


WEIGHTS = {"signals": 3.0, "topics_bag": 1.0, "finetune_digits": 2.0, "tabular": 1.0, "spirals": 5.0}


def test_regimes_get_their_share_whatever_their_families_weigh() -> None:
    """Of 20 tasks 12 are ordinary, three quarters of them signals."""
    names = drawn_families(WEIGHTS, {"ordinary": 0.6, "finetuning": 0.1, "small_noisy": 0.1, "odd": 0.2}, 20)
    assert {name: names.count(name) for name in WEIGHTS} == {
        "signals": 9, "topics_bag": 3, "finetune_digits": 2, "tabular": 2, "spirals": 4
    }  # fmt: skip


@given(st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4), st.integers(1, 60))
def test_every_beginning_has_the_shares(weights: list[float], tasks: int) -> None:
    shares: dict[str, float] = dict(zip(REGIMES, weights, strict=True))
    names = drawn_families(WEIGHTS, shares, tasks)
    assert names == drawn_families(WEIGHTS, shares, tasks + 7)[:tasks]
    for regime, share in shares.items():
        had = sum(family(name).regime == regime for name in names)
        assert abs(had - tasks * share / sum(weights)) < 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"odd": 0.9, "finetuning": 0.1}, r"none is of the regime 'finetuning', whose share regimes\.finetuning is"
         r" 0\.1; add one of finetune_digits, .* or set the share to 0"),
        ({"odd": 1.0, "finetuning": 0.0}, None),
    ],
)  # fmt: skip
def test_a_regime_with_a_share_needs_a_family(shares: dict[str, float], message: str | None) -> None:
    if message is None:
        assert drawn_families({"spirals": 1.0}, shares, 2) == ["spirals"] * 2
    else:
        with pytest.raises(ValueError, match=message):
            drawn_families({"spirals": 1.0}, shares, 2)


SPEC = Spec("spirals", 1, 2, True, (("constant", 1.0),), (("a.onnx", "f" * 64),), (0.3, 0.9), None, 32, "cpu", "c" * 64)
CHANGES: dict[str, Any] = {
    "family": "tabular",
    "task_seed": 2,
    "runs": 3,
    "probed": False,
    "schedules": (("constant", 2.0),),
    "policies": (("a.onnx", "e" * 64),),
    "exploration": (0.3, 0.8),
    "groups": BranchesConfig(1.0, 1, 1, 3, 3, "hold", 0.0),
    "val_examples": 64,
    "device": "cuda",
    "code": "d" * 64,
}


def test_every_field_is_tried() -> None:
    assert set(CHANGES) == {field.name for field in fields(Spec)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_name_stands_for_every_field(field: str) -> None:
    assert replace(SPEC, **{field: CHANGES[field]}).name() != SPEC.name()


def test_the_order_of_tasks_outlives_a_change_of_code(tmp_path: Path) -> None:
    """Agents learn from tasks in the order of their files."""
    specs = planned(tmp_path, tasks=40)
    changed = [replace(spec, code="d" * 64) for spec in specs]
    assert not {spec.file() for spec in specs} & {spec.file() for spec in changed}
    orders = [sorted(range(40), key=lambda i: mine[i].file()) for mine in (specs, changed)]
    assert orders[0] == orders[1] != list(range(40))


def test_a_policy_counts_by_content_not_by_path(tmp_path: Path) -> None:
    paths = [write_bundle(tmp_path / name / "policy.onnx", bias=b) for name, b in (("a", 0.1), ("b", 0.1), ("c", 0.2))]
    one, moved, other = ([s.name() for s in planned(tmp_path, behaviour_policies=[str(p)])] for p in paths)
    assert one == moved
    assert not set(one) & set(other)


def test_what_a_collection_leaves(whole: Path) -> None:
    params = load(whole).collect
    metrics = json.loads(Paths(whole).collect_metrics.read_text())
    assert metrics["runs"] == TASKS * params.runs_per_task
    assert metrics["families"] == len(params.families)
    assert metrics["failed"] == 0
    assert 0 <= metrics["divergent_share"] <= 1
    tables = [trajectories.read(path) for path in trajectories.files(Paths(whole).trajectories)]
    assert len(tables) == TASKS
    assert metrics["decisions"] == sum(len(t) - trajectories.count_runs(t) for t in tables)
    for table in tables:
        assert trajectories.count_runs(table) == params.runs_per_task
    assert (whole / "mlflow.db").exists()


def test_bad_parameters_end_the_stage_with_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_params(tmp_path, runs_per_task=0)
    with pytest.raises(SystemExit, match=r"params\.yaml: parameter collect\.runs_per_task is 0, want an integer"):
        run_here(root, monkeypatch)
