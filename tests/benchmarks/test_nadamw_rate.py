"""The rate of NAdamW: regimes weighed by hand, and the whole way on one task."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import nadamw_rate, spread
from pipeline.evaluation.rivals import CALIBRATED
from repository import TOP

SHARES = {"ordinary": 0.6, "finetuning": 0.2, "small_noisy": 0.2, "odd": 0.0}


def rows() -> pd.DataFrame:
    """Two ordinary tasks and one small; two seeds, of which one diverges at the higher rate."""
    ordinary, small = ("a", "ordinary"), ("c", "small_noisy")
    regrets = {
        (*ordinary, 1e-3): (0.2, 0.4), ("b", "ordinary", 1e-3): (0.5, 0.5), (*small, 1e-3): (0.8, 1.0),
        (*ordinary, 1e-2): (0.1, 0.1), ("b", "ordinary", 1e-2): (0.1, 1.0), (*small, 1e-2): (-0.1, 0.1),
    }  # fmt: skip
    return pd.DataFrame([
        {"task": task, "regime": regime, "lr0": rate, "regret": regret}
        for (task, regime, rate), of in regrets.items() for regret in of
    ])  # fmt: skip


def test_by_hand() -> None:
    means = nadamw_rate.by_regime(rows(), SHARES)
    assert means.loc[1e-3].to_dict() == pytest.approx({"ordinary": 0.4, "small_noisy": 0.9, "mean": 0.525})
    assert means.loc[1e-2].to_dict() == pytest.approx({"ordinary": 0.325, "small_noisy": 0.0, "mean": 0.24375})


def test_the_whole_way_freezes_nothing_when_it_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.setattr(spread, "BENCHMARK_CACHE", tmp_path / "cache")
    monkeypatch.setattr(nadamw_rate, "RATES", (1e-4, 1e-2))
    monkeypatch.setattr("pipeline.evaluation.oracle.SCHEDULES", ("constant", "cosine"))
    before, out = CALIBRATED.read_bytes(), tmp_path / "rate.json"
    assert nadamw_rate.main(["--quick", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    means = {rate: figures[f"{rate:g}.mean"] for rate in nadamw_rate.RATES}
    assert means[figures["rate"]] == min(means.values()) and len(set(means.values())) == 2
    assert f"Chosen: {figures['rate']:g}, on 1 tasks" in capsys.readouterr().out
    assert CALIBRATED.read_bytes() == before


def test_the_frozen_rate_is_the_chosen_one() -> None:
    frozen = json.loads(CALIBRATED.read_text())["nadamw"]
    assert frozen["schedule"] == "warmup_cosine" and frozen["lr0"] in nadamw_rate.RATES
    chosen = TOP / nadamw_rate.OUT
    assert not chosen.exists() or json.loads(chosen.read_text())["rate"] == frozen["lr0"]
