"""What suggested rates are worth, by hand and by its own command line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import suggest_rates
from benchmarks.small_training import NETWORKS, OPTIMIZERS, Setting, Training
from benchmarks.suggest_rates import LEVELS, RULES, Outcome, figures
from lrpilot.range_test.suggestion import Curve, Suggestion
from repository import TOP


def said(lr: float | None, lowest: float, steepest: float, blowup: float | None) -> Suggestion:
    nothing = np.empty(0)
    return Suggestion(lr, () if lr is None else (lr,), "", lowest, steepest, blowup, 0.1, 2, Curve(*3 * [nothing]))


def test_by_hand() -> None:
    """Losses of a valley at level 1, of Adam 1e-2: one per decade away from it, of 4 before training."""
    losses = np.minimum(1 + np.abs(LEVELS - 1), 4)
    valley = Outcome([said(1e-2, 1e-1, 1e-4, 1.0), said(1e-1, 1e-2, 1e-3, None)], losses, 4.0)
    other = Outcome([said(None, 1e-2, 1e-3, 1e-1)] * 2, losses, 4.0)
    result = figures({Setting("dropout", "adam", 8): valley, Setting("LSTM", "adam", 8): other})
    want = {
        # a third per decade: 0 and 1 away; silent: the textbook's rate, 1 away
        "lrpilot.suggest": {"regret": (1 / 6 + 1 / 3) / 2, "worst": 1 / 3, "dropout": 1 / 6, "spread": 0.25},
        # levels 2 and, for the highest rate that was probed, 2.5, which the grid's last, 2, stands for; 1 away; then 1
        "a tenth of the blow-up": {"worst": 1 / 3, "LSTM": 0.0, "widest": 0.25},
        "a tenth of the lowest loss": {"dropout": 1 / 6, "LSTM": 1 / 3, "widest": 0.5},
        "steepest descent": {"dropout": (2 / 3 + 1 / 3) / 2, "LSTM": 1 / 3},
        "textbook": {"regret": 1 / 3, "spread": 0.0},
    }
    for rule, of_rule in want.items():
        assert {key: result[f"{rule}.{key}"] for key in of_rule} == pytest.approx(of_rule)
    assert {key: result[key] for key in ("settings", "seeds", "silent", "tests")} == {
        "settings": 2, "seeds": 2, "silent": 2, "tests": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns(network: str) -> None:
    setting = Setting(network, "adam", 32)
    assert Training(setting, 0).run(1e-2, 40) < 0.95 * Training(setting, 0).validation_loss()
    validation, train = Training(setting, 0).validation, Training(setting, 0).train
    assert len(validation[0]) == pytest.approx(len(train[0]) / 3, abs=1)


def test_it_writes_the_documented_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    before, out = suggest_rates.PAGE.read_bytes(), tmp_path / "suggest.json"
    assert suggest_rates.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    of_rules = {f"{rule}.{key}" for rule in RULES for key in ("regret", "worst", "regression", "spread", "widest")}
    assert set(result) == of_rules | {"settings", "seeds", "silent", "tests", "steps"}
    assert result["settings"] == len(OPTIMIZERS) and all(math.isfinite(value) for value in result.values())
    assert suggest_rates.PAGE.read_bytes() == before
    assert len(suggest_rates.render(result).splitlines()) == len(RULES) + 4
