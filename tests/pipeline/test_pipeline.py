"""The whole loop on the tiny profile: a real `dvc repro` in a copy of the repository, and what it leaves behind."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from clones import AUTHOR, repro, sh
from lrpilot import load_policy
from pipeline.config import load
from pipeline.evaluation import aggregates
from pipeline.paths import ARTEFACTS, Paths
from pipeline.tracking import open_store

STAGES = ("collect", "train", "export", "evaluate", "report", "register")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed copy of the working tree, after a tiny `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    repro(folder, "tiny")
    return folder


@pytest.fixture(scope="module")
def paths(clone: Path) -> Paths:
    return Paths(clone / "profiles" / "tiny")


def test_every_artefact_is_there(paths: Paths) -> None:
    assert [a.path for a in ARTEFACTS if not (paths.root / a.path).exists()] == []


def test_training_leaves_the_agents_alone(paths: Paths) -> None:
    """What they were trained on, another form of the trajectories, is gone."""
    assert {path.name for path in paths.agent.iterdir()} == {"seed0.d3", "blind0.d3", "training.json"}


def test_a_second_repro_does_nothing(clone: Path) -> None:
    out = sh(clone, "dvc", "repro", "profiles/tiny/dvc.yaml")
    assert [
        s for s in STAGES if f"Running stage '{s}'" in out or f"Running stage 'profiles/tiny/dvc.yaml:{s}'" in out
    ] == []
    assert "up to date" in sh(clone, "dvc", "status", "profiles/tiny/dvc.yaml")


def test_git_sees_no_change(clone: Path) -> None:
    assert sh(clone, "git", "status", "--porcelain") == ""


def test_metrics_hold_their_keys(paths: Paths) -> None:
    collect = json.loads(paths.collect_metrics.read_text())
    keys = "runs families optimizers schedules decisions divergent_share runs_per_hour wall_s"
    assert set(keys.split()) <= set(collect) and collect["runs"] == 56
    evaluate = json.loads(paths.evaluate_metrics.read_text())
    names = ["policy", "baseline.cosine", "control.state_blind", "control.mean_lr", "control.random_init"]
    names += ["rival.finder_steepest", "rival.finder_tenth", "policy_val", "rival.calibrated", "textbook.default"]
    names += ["textbook.wsd", "control.hold", "control.no_loss"]
    missing = [
        n for n in names for k in ("mean", "iqm", "low", "high", "worst") if f"selection.{n}.{k}" not in evaluate
    ]
    assert missing == []


def test_the_report_states_the_seeds_and_tasks_of_the_evaluation(paths: Paths) -> None:
    """Those that methods are judged on, and not those that choose oracles."""
    rows, page = pd.read_parquet(paths.evaluation), paths.report.read_text(encoding="utf-8")
    mine = rows[(rows.kind == "policy") & (rows.method == "policy")]
    config = load(paths.root).evaluate
    stated = re.findall(r"Judged: (\d+) of (\d+) tasks, (\d+) seeds each", page)
    configured = len(config.families) * config.tasks_per_family
    assert [[int(number) for number in of_split] for of_split in stated] == [
        [mine.task.nunique(), configured, mine.seed.nunique()]
    ]
    assert mine.seed.nunique() == config.seeds
    assert set(re.findall(r'<tr><td title="(.+?)">', page)) == set(rows.task)
    assert all(label in page for label in aggregates.labels(rows).values())


def test_methods_share_their_random_numbers(paths: Paths) -> None:
    """The finder's two rules probe the same batches from the same weights: their probes cost the same rates."""
    rows = pd.read_parquet(paths.evaluation)
    for _, part in rows[rows.method.str.startswith("finder")].groupby(["task", "seed"]):
        first, second = part.lr_curve
        assert first[0] == second[0]


def test_one_mlflow_run_holds_all_stages(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(paths.root)
    (run,) = store.client.search_runs([store.experiment])
    assert {k.partition("/")[0] for k in run.data.metrics} == {"collect", "train", "export", "evaluate"}
    assert len(run.data.metrics) <= 25
    assert run.info.status == "FINISHED" and run.data.tags["lrpilot.data"]
    assert {a.path for a in store.client.list_artifacts(run.info.run_id)} >= {"export", "report", "evaluate", "train"}
    figures = pd.read_csv(store.client.download_artifacts(run.info.run_id, "evaluate/figures.csv"))
    assert len(figures) == 20 and set(figures) >= {"split", "method", "mean", "low", "high", "worst"}
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.profile)["runs"] == 56 and run.data.tags["lrpilot.data"].startswith(
        data.dataset.digest
    )


def test_the_training_curve_is_in_mlflow_step_by_step(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve of the only agent, and not that of the control; as in plots/train.csv."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(paths.root)
    (run,) = store.client.search_runs([store.experiment])
    curve = pd.read_csv(paths.train_curve)
    mine = curve[(curve.agent == "seed0") & (curve.name == "loss")]
    points = store.client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in points] == list(mine.step) == list(range(10, 201, 10))
    assert [point.value for point in points] == pytest.approx(list(mine.loss), rel=1e-4)


def test_dvc_shows_the_headline(clone: Path, paths: Paths) -> None:
    shown = json.loads(sh(clone, "dvc", "metrics", "show", "--json", "profiles/tiny/metrics/headline.json"))
    (figures,) = (file["data"] for file in shown[""]["data"].values())
    assert figures == json.loads(paths.headline.read_text())
    assert set(figures) == {
        "policy", "policy_low", "policy_high", "worst", "best_rival", "calibrated", "textbook", "hold",
        "lost_to_calibrated", "lost_to_textbook", "policy_small_noisy", "hold_small_noisy", "textbook_small_noisy",
    }  # fmt: skip
    evaluation = json.loads(paths.evaluate_metrics.read_text())
    assert figures["policy"] == evaluation["selection.policy.mean"]
    listed = json.loads(sh(clone, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert {Path(name).name for name in listed} == {"headline.json"}


def test_dvc_draws_the_losses_and_the_regrets(clone: Path, paths: Paths) -> None:
    """With titles, named axes, a panel per loss, and a bar per method."""
    plots = [f"profiles/tiny/{path.relative_to(paths.root)}" for path in (paths.train_curve, paths.regret_plot)]
    losses, regrets = (json.loads(sh(clone, "dvc", "plots", "show", "--show-vega", plot)) for plot in plots)
    assert losses["title"]["text"] == "Training of the agents, by loss" and losses["facet"]["field"] == "name"
    assert {row["name"] for row in losses["data"]["values"]} == {"loss"}
    assert losses["spec"]["encoding"]["x"]["title"] == "gradient step"
    assert regrets["title"]["text"] == "Mean normalised regret by method"
    assert {row["method"] for row in regrets["data"]["values"]} >= {"policy", "baseline.cosine", "rival.calibrated"}
    assert regrets["spec"]["encoding"]["x"]["title"].startswith("regret (0 is")
    assert "<DVC_METRIC" not in json.dumps([losses, regrets])


def test_the_champion_drives_a_training(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lrpilot.torch import PilotLR

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{paths.root}/mlflow.db")
    assert load_policy("models:/lr-policy@champion").manifest == load_policy(paths.policy).manifest
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    scheduler = PilotLR(optimizer, total_steps=80, policy="models:/lr-policy@champion")
    for _ in range(80):
        loss = (weight**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    assert loss.item() < 3 and len(scheduler.history) > 10


def test_a_changed_weight_reruns_only_what_it_touches(clone: Path) -> None:
    path = clone / "profiles" / "tiny" / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("bootstrap: 100", "bootstrap: 101"))
    out = sh(clone, "dvc", "status", "profiles/tiny/dvc.yaml")
    path.write_text(before)
    assert "evaluate:" in out and "collect:" not in out and "train:" not in out


def test_an_experiment_of_a_profile(clone: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/pipeline.md says: the profile is committed, one parameter is changed, what depends on it runs again."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sh(clone, sys.executable, "-m", "tools.profile", "tiny", "--track")
    sh(clone, "git", "add", "profiles/tiny")
    sh(clone, "git", *AUTHOR, "commit", "-qm", "Track the profile tiny")
    change = ["-n", "shorter", "-S", "profiles/tiny/params.yaml:train.steps=100", "profiles/tiny/dvc.yaml"]
    out = sh(clone, "dvc", "exp", "run", *change, scm=True)
    assert "dvc.yaml:train'" in out and "Running stage 'profiles/tiny/dvc.yaml:collect'" not in out
    assert json.loads(paths.train_metrics.read_text())["steps"] == 100
    store = open_store(paths.root)
    run, _ = store.client.search_runs([store.experiment])
    assert (run.info.run_name, run.data.params["train.steps"]) == ("shorter", "100")
    (shown,) = json.loads(sh(clone, "dvc", "exp", "show", "--json", scm=True))[1:]
    assert [experiment["name"] for experiment in shown["experiments"]] == ["shorter"]
    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "checkout", "profiles/tiny/dvc.yaml", scm=True)
    assert json.loads(paths.train_metrics.read_text())["steps"] == 200
    assert "up to date" in sh(clone, "dvc", "status", "profiles/tiny/dvc.yaml")
    sh(clone, "git", "reset", "-q", "HEAD~1")  # policies hold the commit that they were made at


def test_a_reworded_docstring_records_and_trains_nothing_anew(clone: Path, paths: Paths) -> None:
    """All stages run, for they execute the file, and find all they need. The last test here: it edits the clone."""
    results = [paths.train_metrics, paths.train_curve, paths.policy, paths.export_metrics, paths.evaluate_metrics]
    before = [path.read_bytes() for path in results]
    pilot = clone / "runtime/lrpilot/pilot.py"
    pilot.write_text(pilot.read_text().replace('"""', '"""Reworded: ', 1))
    out = sh(clone, "dvc", "repro", "profiles/tiny/dvc.yaml")
    assert all(f"profiles/tiny/dvc.yaml:{stage}'" in out for stage in STAGES)
    assert not re.search("(runs|agents)/s", out)
    assert [path.read_bytes() for path in results] == before
