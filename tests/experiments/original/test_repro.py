"""The original experiment, whole: a `dvc repro` of plan-tiny in a fresh clone, offline, and what it leaves behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from clones import repro, sh
from experiments.original.agents.epoch_policy import EpochPolicy
from experiments.original.pages import plan_tables, summary
from experiments.original.plan.catalogue import MODELS, PILOTS, SCHEDULERS, SETS
from experiments.original.plan.config import load
from experiments.original.plan.paths import ARTEFACTS, OriginalPaths
from experiments.original.trainings.estimate import words
from original_roots import result
from pipeline.config import read
from pipeline.tracking import open_store
from repository import TOP
from tools.profile import content

PLAN = {name: [m for m in MODELS if MODELS[m] == known.kind] for name, known in SETS.items()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(folder.parent / "hf"))
        (folder.parent / "said").write_text(repro(folder, "plan-tiny"))
    return folder


@pytest.fixture(scope="module")
def paths(clone: Path) -> OriginalPaths:
    return OriginalPaths(clone / "profiles/plan-tiny")


@pytest.fixture(scope="module")
def rows(paths: OriginalPaths) -> pd.DataFrame:
    return pd.read_parquet(paths.rows)


def test_the_tiny_profile_has_every_cell_of_the_plan() -> None:
    """What the two profiles differ in is size alone."""
    full, tiny = (content(name, TOP, "PROFILE")[1] for name in ("plan", "plan-tiny"))
    assert full["plan"]["pairs"] == tiny["plan"]["pairs"] == PLAN
    assert full["plan"]["schedulers"] == tiny["plan"]["schedulers"] == list(SCHEDULERS)
    assert {m: len(s) for m, s in full["training"]["settings"].items()} == {
        m: len(s) for m, s in tiny["training"]["settings"].items()
    }


def test_the_plans_hyper_parameters_are_the_profiles() -> None:
    plan = read(TOP / "params/plan.yaml")
    settings = {m: [tuple(s.values()) for s in values] for m, values in plan["training"]["settings"].items()}
    assert settings["resnet18"] == settings["vgg16"] == settings["lstm"] == [(1e-3, 64, 50)]
    assert settings["bert"] == [(5e-5, 16, 1), (3e-5, 32, 3)]
    assert [plan["training"][k] for k in ("beta1", "beta2", "epsilon", "weight_decay")] == [0.9, 0.999, 1e-8, 0.0]
    assert (plan["agents"]["learning_rate"], plan["agents"]["gamma"], plan["record"]["epsilon"]) == (1e-4, 0.99, 0.1)
    assert plan["plan"]["learning_rates"] == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert (plan["models"]["dropout"], plan["models"]["width"], plan["data"]["mirror"]) == (0.5, 1.0, "")


def test_every_artefact_is_there(paths: OriginalPaths) -> None:
    assert [a.path for a in ARTEFACTS if not (paths.root / a.path).exists()] == []


def test_every_cell_has_its_rows(paths: OriginalPaths, rows: pd.DataFrame) -> None:
    params = load(paths.root)
    counts = rows.groupby(["dataset", "model", "epochs", "scheduler"]).size()
    for name, models in PLAN.items():
        for model in models:
            for setting in params.training.settings[model]:
                rates = len({*params.plan.learning_rates, setting.learning_rate})
                for scheduler in SCHEDULERS:
                    wanted = params.plan.seeds * (1 if scheduler in PILOTS else rates)
                    assert counts[name, model, setting.epochs, scheduler] == wanted
    assert rows[["eval_loss", "eval_accuracy", "test_accuracy", "train_runtime"]].notna().all(axis=None)


def test_seeds_share_their_initialisation(rows: pd.DataFrame) -> None:
    """Common random numbers: schedulers begin at the same loss."""
    assert (rows.groupby(["dataset", "model", "epochs", "seed"]).initial_loss.nunique() == 1).all()


def test_the_tables_name_everything(paths: OriginalPaths) -> None:
    text = paths.results.read_text()
    for name in (
        "eval_loss",
        "eval_accuracy",
        "eval_runtime",
        "eval_samples_per_second",
        "eval_steps_per_second",
        "epoch",
    ):
        assert f"| {name} |" in text
    assert text.count("| published, from 5e-05 | 0.4323 | 0.856 |") == 4
    assert text.count("| published, failed to learn | 0.699 | 0.487 |") == 4
    assert text.count("| PilotLR | any |") == 10
    assert text.count("\n## ") == 10 and "## IMDB × BERT, batch 16, 1 epoch\n" in text


def test_the_agents_are_files_of_their_own(paths: OriginalPaths) -> None:
    learnt = json.loads(paths.learn_metrics.read_text())
    for kind in ("discrete", "continuous"):
        assert EpochPolicy(getattr(paths, kind)).about["kind"] == kind
        assert learnt[f"{kind}.episodes"] == 2 * 10 and learnt[f"{kind}.parity"] < 1e-5


def test_the_time_is_told_before_it_is_spent(clone: Path) -> None:
    output = (clone.parent / "said").read_text()
    assert output.index("prepare: stage run: 328 trainings, about") < output.index("run: 0 of 328 trainings are there")
    assert "prepare: all of it about" in output


def test_a_second_repro_does_nothing_and_git_sees_no_change(clone: Path) -> None:
    assert "Running stage" not in sh(clone, "dvc", "repro", "profiles/plan-tiny/dvc.yaml")
    assert sh(clone, "git", "status", "--porcelain") == ""


def test_the_default_pipeline_does_not_know_of_it(clone: Path) -> None:
    assert "original" not in sh(clone, "dvc", "stage", "list", "--all")


def test_one_mlflow_run_holds_all_stages(paths: OriginalPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(paths.root)
    (run,) = store.client.search_runs([store.experiment])
    assert {k.partition("/")[0] for k in run.data.metrics} == {"record", "learn", "run", "table"}
    assert len(run.data.metrics) <= 25
    assert run.info.status == "FINISHED" and run.data.tags["lrpilot.data"]


def test_a_summary_by_hand() -> None:
    results = [result("fixed", rate, seed, loss + seed) for rate, loss in ((1e-3, 0.4), (1e-1, 0.6)) for seed in (0, 1)]
    results += [result("cosine", 1e-3, seed, math.nan, diverged=True) for seed in (0, 1)]
    results += [result("pilot", 1e-3, seed, 0.3 + seed) for seed in (0, 1)]
    table = summary.rows(results, {"mnist": 0.6})
    assert table.epochs_to_threshold.unique().tolist() == [1.0]
    (pair,) = (by_pair := summary.summarise(table))
    assert pair == "mnist.vgg16.64x2" and plan_tables.title(pair) == "MNIST × VGG-16, batch 64, 2 epochs"
    fixed, cosine = (by_pair[pair]["cells"][name] for name in ("fixed", "cosine"))
    assert fixed["eval_loss"] == pytest.approx(0.9) and cosine["eval_loss"] == 2.0 and cosine["diverged"] == 2
    assert fixed["eval_loss.half"] == pytest.approx(12.706 * 0.5, rel=1e-3)  # t of one degree of freedom
    rates = by_pair[pair]["rates"]["fixed"]
    assert (rates["mean"], rates["sensitivity"], rates["0.1"]) == pytest.approx((1.0, 0.2, 1.1))
    verdict = by_pair[pair]["verdict"]
    assert (verdict["best"], verdict["lowest_mean"]) == ("fixed", "fixed")
    assert verdict["at_or_below_best"] and verdict["below_means"]
    assert summary.flat(by_pair)["pilot_below_means"] == 1
    assert "in 1 of 1 pairs, and below every" in plan_tables.document(by_pair)


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "60 seconds"), (600, "10 minutes"), (36_000, "10.0 hours")])
def test_times_for_people(seconds: float, text: str) -> None:
    assert words(seconds) == text
