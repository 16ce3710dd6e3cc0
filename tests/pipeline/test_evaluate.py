"""The evaluation's figures, of runs worked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluate import bench, contrasts, per_method, roster, summarise
from pipeline.evaluation.aggregates import HOPELESS
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.splits import tasks
from pipeline.reporting import result_keys
from repository import TOP
from rows import row

nan = float("nan")
EVEN = {"ordinary": 0.5, "odd": 0.5}


def two_tasks() -> pd.DataFrame:
    """Policy regret .1 and .2 everywhere, a baseline's .3 from one initial rate and .5 from the other.

    The first task is an ordinary one, the second one odd.
    """
    rows = []
    for task, policy in (("a", 0.1), ("b", 0.2)):
        for seed in (0, 1):
            shared = {
                "task": task, "family": f"family-{task}", "regime": "ordinary" if task == "a" else "odd",
                "steps_to_target": 10.0, "epochs_to_target": 2.0, "error_gap": 0.01,
                "best_regret": 0.05, "error_regret": 0.4 if task == "a" else nan,
                "best_error_regret": nan,
            }  # fmt: skip
            never = shared | {"test_loss": nan, "steps_to_target": nan}
            rows += [
                row("policy", "policy", nan, seed, regret=policy, **shared),
                row("policy", "policy_val", nan, seed, regret=policy, **shared),
                row("control", "random_init", nan, seed, regret=1.0, **never),
                row("baseline", "cosine", 1e-3, seed, regret=0.3, **shared),
                row("baseline", "cosine", 1e-2, seed, regret=0.5, **shared),
                row("grid", "cosine", 3e-2, seed, regret=9.0, **shared),
                row("oracle", "test_loss", 3e-2, seed, regret=0.0, **shared),
                row("loop", "pilot", nan, seed, regret=0.0, **shared),
            ]
    return pd.DataFrame(rows)


def test_per_method_averages_a_baseline_over_its_initial_rates() -> None:
    regrets = dict(per_method(two_tasks()))
    assert set(regrets) == {"policy", "policy_val", "control.random_init", "baseline.cosine"}
    np.testing.assert_allclose(regrets["baseline.cosine"], np.full((2, 2), 0.4))
    np.testing.assert_allclose(regrets["policy"], [[0.1, 0.1], [0.2, 0.2]])


def test_tasks_without_a_regret_of_errors_are_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    table = dict(per_method(two_tasks(), "error_regret"))["policy"]
    assert table.to_numpy().tolist() == [[0.4, 0.4]] and [*table.index] == ["a"]
    assert "no error_regret for b: " in capsys.readouterr().out
    assert dict(per_method(two_tasks(), "best_error_regret")) == {}
    assert "no best_error_regret for a, b: " in capsys.readouterr().out
    assert dict(per_method(two_tasks())).keys() and capsys.readouterr().out == ""


def frame(regrets: list[list[float]]) -> pd.DataFrame:
    """(tasks, seeds), the tasks named "0", "1", ..."""
    return pd.DataFrame(regrets, index=[str(i) for i in range(len(regrets))])


def test_contrasts_by_hand() -> None:
    regrets = {"policy": frame([[0.1, 0.3]]), "rival.x": frame([[0.2, 0.2]])}
    figures = contrasts("heldout", regrets, {"0": "odd"}, EVEN, 50)
    of = result_keys.groups(figures)["heldout"]
    assert (of["policy"]["mean"], of["rival.x"]["mean"], of["rival.x"]["policy_minus"]) == (0.2, 0.2, 0.0)
    assert of["rival.x"]["policy_wins"] == 0.5
    assert of["rival.x"]["policy_minus_low"] <= 0 <= of["rival.x"]["policy_minus_high"]
    assert "policy_wins" not in of["policy"]


def test_a_task_is_lost_whose_mean_is_higher() -> None:
    """Of the policy's means .2, .3, .4 and .5 the last one alone is above a rival's .3; .3 beside .3 is no loss."""
    policy = frame([[0.1, 0.3], [0.3, 0.3], [0.3, 0.5], [0.5, 0.5]])
    rival = frame([[0.3, 0.3], [0.3, 0.3], [0.9, 0.0], [0.3, 0.3]])
    figures = contrasts("heldout", {"policy": policy, "rival.x": rival}, dict.fromkeys("0123", "odd"), EVEN, 50)
    of = result_keys.groups(figures)["heldout"]
    assert of["rival.x"]["tasks_lost"] == 0.25
    assert "tasks_lost" not in of["policy"]


def test_means_weigh_regimes_by_their_shares() -> None:
    """Two ordinary tasks with .1 and .3, one odd one with .9: .8 * .2 + .2 * .9 = .34; a rival's are .2, .2 and 1.

    Of the ordinary pairs the policy wins half, of the odd ones all: .8 * .5 + .2. One task of three is lost.
    """
    policy, rival = frame([[0.1, 0.1], [0.3, 0.3], [0.9, 0.9]]), frame([[0.2, 0.2], [0.2, 0.2], [1.0, 1.0]])
    regimes, shares = {"0": "ordinary", "1": "ordinary", "2": "odd"}, {"ordinary": 0.8, "odd": 0.2}
    of = result_keys.groups(contrasts("heldout", {"policy": policy, "rival.x": rival}, regimes, shares, 50))["heldout"]
    wanted = {
        "mean": 0.36, "ordinary_mean": 0.2, "odd_mean": 1.0, "policy_minus": -0.02, "ordinary_policy_minus": 0.0,
        "odd_policy_minus": -0.1, "odd_policy_minus_low": -0.1, "odd_policy_minus_high": -0.1, "policy_wins": 0.6,
        "tasks_lost": 0.3333, "worst": 1.0, "odd_low": 1.0, "odd_high": 1.0,
    }  # fmt: skip
    assert {key: of["rival.x"][key] for key in wanted} == pytest.approx(wanted)
    assert of["policy"]["mean"] == pytest.approx(0.34) and "odd_policy_minus" not in of["policy"]
    assert not any(key.startswith("finetuning") for key in of["policy"])


def test_a_regime_without_a_task_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The shares .6 and .2 of those that have one become .75 and .25."""
    figures = summarise("heldout", two_tasks(), {"ordinary": 0.6, "odd": 0.2, "finetuning": 0.2}, 50)
    assert figures["heldout.policy.mean"] == pytest.approx(0.75 * 0.1 + 0.25 * 0.2)
    assert {key: figures[f"heldout.{key}"] for key in ("share.ordinary", "share.odd", "tasks.odd")} == {
        "share.ordinary": 0.75, "share.odd": 0.25, "tasks.odd": 1,
    }  # fmt: skip
    assert "heldout has no task of finetuning: the other shares are scaled up" in capsys.readouterr().out


def test_summary_of_a_split() -> None:
    figures = summarise("heldout", two_tasks(), EVEN, 50)
    of = result_keys.groups(figures)["heldout"]
    kinds = ("mean", "iqm", "low", "high", "iqm_low", "iqm_high", "worst", "worst_family", "diverged", "target_reached")
    for label in ("policy", "policy_val", "control.random_init", "baseline.cosine"):
        assert {*kinds} <= of[label].keys()
        assert of[label]["low"] <= of[label]["mean"] <= of[label]["high"]
    wanted = {
        "policy.mean": 0.15, "policy.worst": 0.2, "baseline.cosine.mean": 0.4, "baseline.cosine.policy_minus": -0.25,
        "baseline.cosine.policy_wins": 1.0, "policy_val.policy_wins": 0.5, "baseline.cosine.sensitivity": 0.2,
        "control.random_init.diverged": 4, "control.random_init.target_reached": 0.0, "policy.target_reached": 1.0,
        "control.random_init.target_share_of_steps": 1.0, "policy.median_error_gap": 0.01, "tasks": 2,
        "policy.worst_family": 0.2, "policy.best_regret": 0.05, "policy.error_regret": 0.4, "seeds": 2,
        "baseline.cosine.tasks_lost": 0.0, "policy.ordinary_mean": 0.1, "policy.odd_mean": 0.2, "share.odd": 0.5,
    }  # fmt: skip
    assert {k: figures[f"heldout.{k}"] for k in wanted} == pytest.approx(wanted)
    assert figures["heldout.worst_task"] == "family-b w · Adam · 30 steps"
    assert of.keys() == {"policy", "policy_val", "control.random_init", "baseline.cosine"}
    assert not any(key.endswith("best_error_regret") for key in figures)
    assert {key for key, value in figures.items() if not isinstance(value, int | float)} == {"heldout.worst_task"}
    assert summarise("heldout", two_tasks(), EVEN, 50) == figures


def test_the_bench_is_what_the_parameters_ask_for() -> None:
    params = load(TOP)
    config, measured = params.evaluate, bench(params)
    assert list(measured.tasks) == tasks(config.families, config.tasks_per_family)
    assert measured.shares == params.regimes.shares
    assert (measured.seeds, measured.tuning_seeds, measured.learning_rates) == (
        config.seeds, config.tuning_seeds, config.learning_rates,
    )  # fmt: skip


def test_the_roster_names_the_tasks_that_the_figures_are_not_of(tmp_path: Path) -> None:
    chosen = [*tasks(("autompg",), 2), *tasks(("diabetes",), 1)]
    measured = Benchmark(chosen, EVEN, 2, 1, (), engine("local", 1), tmp_path)
    judged, left_out, other = (task.name for task in chosen)
    rows = pd.DataFrame([row("policy", "policy", 1e-3, 0, task=task) for task in (judged, other)])
    said = roster(measured, rows)
    reason = said.pop(f"heldout.left_out.{left_out}")
    assert reason.startswith("auto-mpg") and reason.endswith(f": {HOPELESS}")
    assert said == {"heldout.configured": 2, "selection.configured": 1}
