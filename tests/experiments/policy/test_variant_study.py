"""Experiments: their figures by hand, and one from the collection to the table on a tiny world."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.policy import variant_policies, variant_study
from experiments.policy.variant import DISTILLED, DIVERGED, MEAN, WORSE, Variant
from experiments.policy.variant_data import chosen, lacking, recorded
from experiments.policy.variant_policies import agents_of, policies_of
from experiments.policy.variant_study import figures, methods, render
from experiments.policy.variants import EXPERIMENTS, PLAIN, Experiment, of_runs
from lrpilot import load_policy
from lrpilot.decisions.features import NAMES
from pipeline import collect
from pipeline.config import load
from pipeline.evaluation.splits import tasks
from pipeline.reporting import markdown
from pipeline.simulation.recording import record
from policy import trajectories
from policy.observations import mask
from repository import TOP
from tiny import write_params

EVEN = {"ordinary": 0.5, "odd": 0.5}


def rows() -> pd.DataFrame:
    """Two variants, two agents each; the second is .1 better, but on one task."""
    table = []
    for variant, agent, seed, task in np.ndindex(2, 2, 2, 2):
        for kind, better in {"policy": 0.0, "val": 0.2, "steps": -0.3, "together": 0.1}.items():
            regret = 0.4 + 0.02 * agent - 0.1 * (variant and not task) - better
            table.append({
                "variant": variant, "agent": agent, "seed": seed, "task": f"t{task}", "family": f"f{task}",
                "regime": "odd" if task else "ordinary",
                "kind": kind, "regret": regret, "best_regret": 0.2, "error_regret": 0.1,
            })  # fmt: skip
    return pd.DataFrame(table)


def test_figures_by_hand() -> None:
    flat = figures(rows(), ("a", "b"), EVEN)
    assert flat["a.mean"] == pytest.approx(0.41) and flat["b.mean"] == pytest.approx(0.36)
    assert flat["a.agents"] == pytest.approx([0.4, 0.42])
    assert flat["a.val"] == pytest.approx(0.21) and flat["a.steps"] == pytest.approx(0.71)
    assert flat["b.together"] == pytest.approx(0.26)
    assert flat["b.worst"] == pytest.approx(0.41)
    assert (flat["b.ordinary"], flat["b.odd"]) == pytest.approx((0.31, 0.41))
    assert flat["b.minus"] == pytest.approx(-0.05) and "a.minus" not in flat
    flat |= {"tasks": 2, "runs": 2, "data": "ab" * 32, "a.promised": [0.2, 0.3], "b.promised": None}
    lines = render(flat).splitlines()
    assert lines[2].startswith("| a | 0.410 |") and "| 0.400, 0.420 | 0.310 | – |" in lines[2]
    assert "\N{MINUS SIGN}0.050 (" in lines[3]
    assert lines[2].endswith("| 0.250 |") and lines[3].endswith("| – |")
    assert {line.count("|") for line in lines[:4]} == {15}


def test_means_weigh_regimes_by_their_shares() -> None:
    """The second variant has .31 on the ordinary task and .41 on the odd one."""
    flat = figures(rows(), ("a", "b"), {"ordinary": 0.8, "odd": 0.2})
    assert flat["a.mean"] == pytest.approx(0.41)
    assert flat["b.mean"] == pytest.approx(0.33) and flat["b.minus"] == pytest.approx(-0.08)
    assert flat["b.together"] == pytest.approx(0.23) and flat["b.agents"] == pytest.approx([0.32, 0.34])


def test_one_policy_stands_beside_several_agents() -> None:
    """It has as many runs as one agent, and is compared with each of them."""
    table = rows()
    flat = figures(table[(table.variant == 0) | (table.agent == 0)], ("a", "b"), EVEN)
    assert flat["b.agents"] == pytest.approx([0.35])
    assert flat["b.minus"] == pytest.approx(0.35 - 0.41)


def test_the_page_has_a_place_for_every_experiment() -> None:
    page = (TOP / variant_study.PAGE).read_text(encoding="utf-8")
    for name, item in EXPERIMENTS.items():
        assert f"## {item.question}\n" in page
        markdown.fill(page, name, "new")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_variants_are_what_the_parameters_allow(name: str) -> None:
    params = load(TOP)
    for variant in EXPERIMENTS[name].variants.values():
        variant.settings(params)
    judged = methods([*EXPERIMENTS[name].variants.values()], params, "data")
    assert len({replace(method, name="") for method in judged}) == len(judged)  # no two variants are the same


def test_agents_are_trained_once_for_all_that_is_made_of_them() -> None:
    params = load(TOP)
    count = len(variant_policies.SEEDS)

    def agents(variant: Variant) -> set[str]:
        return {key for parts in policies_of(variant, params, "data").values() for key in parts}

    assert agents(PLAIN) == agents(of_runs(later=0.5)) == agents(of_runs(agents=MEAN)) == agents(of_runs(unprobed=True))
    assert agents(PLAIN.together()) == agents(PLAIN) and Variant(agents=DISTILLED).together().agents == DISTILLED
    policies = [policies_of(v, params, "data") for v in (PLAIN, of_runs(agents=MEAN), Variant(rule="x"))]
    assert [len(each) for each in policies] == [count, 1, 0]
    for other in (
        of_runs({"alpha": 1.0}),
        of_runs(reward={"knee": 0.1}),
        of_runs(share=0.5),
        of_runs(without="policy"),
        of_runs(cadence={"late": 21}),
        Variant(),
    ):
        assert not agents(PLAIN) & agents(other)
    assert agents_of(PLAIN, params, "data") != agents_of(PLAIN, params, "other data")


def test_caution_makes_other_policies_of_the_same_critics() -> None:
    params = load(TOP)
    plain, sure = (policies_of(v, params, "data") for v in (Variant(), Variant(caution={"later": 3.0})))
    assert set(plain.values()) == set(sure.values()) and not plain.keys() & sure.keys()


def test_what_a_variant_learns_from() -> None:
    files = [Path(f"data/f{i}/{name}") for i in range(4) for name in ("a", "b", "c", "d")]
    assert chosen(Variant(), files) == files
    assert chosen(Variant(share=0.5), files) == [p for p in files if p.name in "ab"]
    assert {p.parent.name for p in chosen(Variant(families=2), files)} == {"f0", "f2"}
    assert [p.name for p in chosen(Variant(share=0.01), files)] == ["a"] * 4


def test_runs_that_a_variant_does_not_learn_from(tmp_path: Path) -> None:
    params = load(write_params(tmp_path, tasks=1, schedules={"linear": 0.5, "constant": 0.5}))
    path = tmp_path / "data/trajectories/spirals/a.parquet"
    (spec,) = collect.plan(params.collect, params.regimes.shares)
    trajectories.store(record(replace(spec, runs=8)), path)
    rows = trajectories.read(path).group_by("run_id", use_threads=False)  # threads know no first
    runs = rows.aggregate([("schedule", "first")]).to_pylist()
    copy = lacking(path, "constant", tmp_path / "copies")
    assert copy is not None and copy.parent.name == "spirals"
    left = trajectories.read(copy)
    assert set(left["run_id"].to_pylist()) == {run["run_id"] for run in runs if run["schedule_first"] == "linear"}
    unbroken = lacking(path, DIVERGED, tmp_path / "copies")
    assert unbroken is not None
    assert "diverged" not in trajectories.read(unbroken)["reason"].to_pylist()
    better = lacking(path, WORSE, tmp_path / "copies")
    assert better is not None
    ended = [row for row in trajectories.read(path).to_pylist() if row["reason"] == "budget"]
    first, second, *_ = sorted(ended, key=lambda row: row["val_loss"])  # of eight runs, a quarter
    assert set(trajectories.read(better)["run_id"].to_pylist()) == {first["run_id"], second["run_id"]}
    trajectories.store(record(replace(spec, runs=2, schedules=(("constant", 1.0),))), path)
    assert lacking(path, "constant", tmp_path / "copies") is None


def test_tasks_are_recorded_anew_in_another_cadence(tmp_path: Path) -> None:
    params = load(write_params(tmp_path, tasks=1))
    (spec,) = collect.plan(params.collect, params.regimes.shares)
    path, variant = tmp_path / spec.file(), Variant(cadence={"early": 2, "late": 5})
    trajectories.store(record(spec), path)
    other = recorded(spec, variant, tmp_path / "work")
    usual, fewer = (trajectories.read(p) for p in (path, other))
    assert max(usual["decision"].to_pylist()) > 7 == max(fewer["decision"].to_pylist())
    assert all(usual[name].unique() == fewer[name].unique() for name in ("run_id", "seed", "schedule"))
    before = other.stat().st_mtime_ns
    assert recorded(spec, variant, tmp_path / "work") == other
    assert other.stat().st_mtime_ns == before


def test_from_a_collection_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_params(tmp_path / "root")
    monkeypatch.chdir(TOP)
    monkeypatch.setattr("sys.argv", ["collect", "--root", str(root)])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    collect.main()
    small = {"steps": 20, "batch_size": 32, "hidden": (8,)}
    variants = {
        "all": of_runs(small), "blind": of_runs(small | {"features": ("clock",)}),
        "distilled": of_runs(small, agents=DISTILLED), "unprobed": of_runs(small, unprobed=True),
        "often": of_runs(small, cadence={"late": 40}), "finder": Variant(rule="finder_tenth"),
    }  # fmt: skip
    monkeypatch.setattr(variant_study, "EXPERIMENTS", {"small": Experiment("?", variants)})
    monkeypatch.setattr(variant_policies, "SEEDS", (0, 1))
    monkeypatch.setattr(variant_study, "RUNS", 2)
    monkeypatch.setattr(variant_policies, "WORK", tmp_path / "policies")
    monkeypatch.setattr(variant_study, "WORK", tmp_path / "policies")
    for module in (variant_policies, variant_study):
        monkeypatch.setattr(module, "AGENT_CACHE", tmp_path / "agents")
    monkeypatch.setattr(variant_study, "BENCHMARK_CACHE", tmp_path / "cache")
    monkeypatch.setattr(variant_study, "RESULTS", tmp_path)
    monkeypatch.setattr(variant_study, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr("benchmarks.spread.every_task", lambda split: tasks(("illconditioned", "diabetes"), 1))
    monkeypatch.setattr("pipeline.evaluation.oracle.SCHEDULES", ("cosine", "linear"))
    monkeypatch.setattr("pipeline.evaluation.oracle.HALF_DECADES", (1e-3, 1e-2, 1e-1))
    (tmp_path / "page.md").write_text("<!-- small --><!-- /small -->")
    assert variant_study.main(["small", "--root", str(root)]) == 0
    flat: dict[str, Any] = json.loads((tmp_path / "small.json").read_text())
    assert len(flat["all.agents"]) == len(flat["all.promised"]) == 2 and flat["tasks"] == 2
    assert [len(flat[f"{name}.agents"]) for name in variants] == [2, 2, 1, 2, 2, 1]
    assert flat["unprobed.mean"] != flat["all.mean"] and flat["unprobed.promised"] == flat["all.promised"]
    assert flat["all.together"] not in (None, flat["all.mean"]) and flat["finder.together"] is None
    assert flat["finder.promised"] is None is flat["distilled.promised"]
    assert flat["finder.val"] == pytest.approx(flat["finder.mean"])  # it knows nothing of either
    assert "| blind |" in (tmp_path / "page.md").read_text()
    paths = sorted((tmp_path / "policies").glob("*.onnx"))
    assert len(paths) == 10
    observed = np.random.default_rng(0).normal(size=(50, len(NAMES))).astype(np.float32)
    observed[:, mask(("clock",)) == 1] = 0  # as long as the clock stands, the blind ones act the same
    assert sum(len(np.unique(load_policy(path)(observed))) == 1 for path in paths) >= 2
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert variant_study.main(["small", "--root", str(root)]) == 0
    assert {path: path.stat().st_mtime_ns for path in paths} == before  # nothing is trained twice
    assert "?" not in capsys.readouterr().err


def test_without_a_name_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert variant_study.main([]) == 0
    assert all(name in capsys.readouterr().out for name in ("algorithm",))
