"""What critics know of tasks that they did not learn from."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.policy import overfit_critics
from experiments.policy.overfit_critics import SEEDS, errors, figures, part, render, returns
from pipeline import collect
from pipeline.paths import Paths
from policy import trajectories
from policy.store import Masks, View
from random_runs import drawn
from repository import TOP
from tiny import write_params

LENGTHS = (5, 3, 6, 4)


def view() -> View:
    return drawn(LENGTHS, 0).masked(Masks(0.5, 0.5), 0)


def test_returns_are_what_is_left_of_the_run() -> None:
    mine = view()
    rows, runs = mine.rows_of(np.array([0, 2]))
    returned = returns(mine, rows, runs)
    for run in (0, 2):
        rewards = mine.store.rewards[mine.store.starts[run] : mine.store.starts[run + 1] - 1]
        assert returned[runs == run] == pytest.approx(np.cumsum(rewards[::-1])[::-1])


def test_every_task_is_learned_from_or_asked_about() -> None:
    paths = [Path(f"{family}/{i:02d}.parquet") for i in range(7) for family in "ab"]
    learned, others = part(paths, False), part(paths, True)
    assert sorted(learned + others) == sorted(paths) and len(others) == 3


class Constant:
    """Critics that predict the same for everything."""

    def __init__(self, value: float) -> None:
        self._value = value

    def predict_value(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        assert len(observations) == len(actions)
        return np.full(len(actions), self._value)


def test_who_predicts_the_mean_predicts_nothing() -> None:
    mine = view()
    rows, runs = mine.rows_of(np.arange(len(LENGTHS)))
    every, first = errors(Constant(float(returns(mine, rows, runs).mean())), mine)
    assert len(every) == len(first) == len(mine.store.tasks)
    sizes = np.array([np.isin(runs, np.flatnonzero(task_of(mine) == t)).sum() for t in range(len(every))])
    assert np.average(every, weights=sizes) == pytest.approx(1.0)


def task_of(mine: View) -> np.ndarray:
    return np.repeat(np.arange(len(mine.store.tasks)), mine.store.tasks)


def test_from_the_collection_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_params(tmp_path / "root", tasks=6)
    monkeypatch.chdir(TOP)
    monkeypatch.setattr("sys.argv", ["collect", "--root", str(root)])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    collect.main()
    small = {"steps": 40, "batch_size": 32, "hidden": (8,)}
    variants = {name: small | {"dropout": share} for name, share in (("none", 0.0), ("half", 0.5))}
    monkeypatch.setattr(overfit_critics, "VARIANTS", variants)
    page = (TOP / overfit_critics.PAGE).read_bytes()
    assert overfit_critics.main(["--root", str(root), "--out", str(tmp_path / "figures.json")]) == 0
    stored = json.loads((tmp_path / "figures.json").read_text())
    assert stored["data"] == trajectories.fingerprint(trajectories.files(Paths(root).trajectories))
    assert (TOP / overfit_critics.PAGE).read_bytes() == page  # which is of the default profile
    assert stored["tasks"] == 6 and np.isfinite([v for v in stored.values() if isinstance(v, float)]).all()
    assert stored["none.seen"] != stored["half.seen"]
    lines = render(stored).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| none", "| half"]


def test_figures_are_means_over_the_seeds() -> None:
    one = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    two = np.array([0.75, 0.75]), np.array([1.0, 1.0])
    flat = figures([("a", one, two) for _ in SEEDS], ["a"])
    assert (flat["a.seen"], flat["a.unseen"], flat["a.first"]) == pytest.approx((0.5, 0.25, 0.0))
