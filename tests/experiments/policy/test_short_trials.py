"""Short trials: figures by hand, the rates that the policy names, and one task from end to end."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.policy import short_trials
from experiments.policy.short_trials import render
from experiments.policy.task_trainings import means
from experiments.policy.trial_levels import OFF, SHARES, named
from lrpilot import load_policy
from lrpilot.pilot import Pilot
from pipeline.evaluation.compare import existing
from pipeline.evaluation.splits import tasks
from pipeline.paths import DEFAULT_MODEL
from pipeline.simulation.simulate import simulate
from quick import quick

NAMES = ["own", "best", *(f"{what}.{share:g}" for share in SHARES for what in ("free", "paid", "agree"))]


def test_figures_by_hand() -> None:
    """Two ordinary tasks count a half each; one odd task counts as much as both."""
    rows = pd.DataFrame([
        {name: own for name in NAMES} | {"best": best, "task": task, "regime": regime}
        for task, regime, own, best in [
            ("a", "ordinary", 0.1, 0.0), ("a", "ordinary", 0.3, 0.2), ("b", "ordinary", 0.4, 0.3),
            ("c", "odd", 1.0, 0.5),
        ]
    ])  # fmt: skip
    out = means(rows, {"ordinary": 0.5, "odd": 0.5})
    assert out["ordinary.own"] == pytest.approx(0.3) and out["ordinary.best"] == pytest.approx(0.2)
    assert out["odd.own"] == 1.0
    assert out["all.own"] == pytest.approx(0.65) and out["all.best"] == pytest.approx(0.35)


def test_the_rates_are_those_that_the_policy_names() -> None:
    """The first decision's level, as a rate, whatever the decay has made of it since."""
    policy, workload = load_policy("default"), tasks(["diabetes"], 1)[0].sample()
    first = np.full(2, np.nan)

    def act(pilot: Pilot, which: np.ndarray) -> None:
        pilot.decide(policy, which)
        first[which] = np.where(np.isnan(first[which]), pilot.level[which], first[which])

    simulate(workload, range(2), policy.protocol, act, show_validation=False)
    rates = named(workload, existing(DEFAULT_MODEL / "policy.onnx"), 2)
    assert np.log10(rates[0] / rates[1]) == pytest.approx(first[0] - first[1], abs=1e-4)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    _, out = quick("experiments.policy.short_trials", tmp_path_factory.mktemp("trials"))
    return out


def test_a_task_from_end_to_end(measured: dict[str, Any]) -> None:
    assert measured["quick"] and measured["tasks"] == 1
    assert {f"all.{name}" for name in NAMES} < measured.keys()
    assert measured["all.best"] <= measured["all.own"]
    assert all(measured["all.best"] <= measured[f"all.free.{share:g}"] for share in SHARES)
    assert all(0 <= measured[f"all.agree.{share:g}"] <= 1 for share in SHARES)


def test_table(measured: dict[str, Any]) -> None:
    head, _, *rows = render(measured).splitlines()
    assert head.startswith("| level | all |") and "the policy's level" in rows[0]
    assert len([row for row in rows if row.startswith("|")]) == 2 + 3 * len(SHARES)


def test_the_policys_own_level_is_among_those_tried() -> None:
    assert 0.0 in OFF and short_trials.OUT.stem == "short_trials"
