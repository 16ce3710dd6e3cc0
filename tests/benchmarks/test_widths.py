"""Levels for left-out widths: the best level by hand, and the whole command on a tiny collection."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import costs, widths
from benchmarks.widths import Levels
from lrpilot.decisions.actions import ActionEquation
from pipeline import collect
from pipeline.paths import Paths
from policy import trajectories
from repository import TOP
from tiny import with_few_steps, write_params

TWINS = {"share": 1.0, "levels": 1, "moves": 0, "twins": 5, "dear": 5, "base": "hold", "rolled_in": 0.0}


def levels(regrets: list[float], anchor: float = 0.0, at: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0)) -> Levels:
    return Levels(Path(), "tiny", 100, 10.0, np.zeros(1), anchor, np.array(at), np.array(regrets))


@pytest.mark.parametrize(
    ("regrets", "best"),
    [
        ([1.0, 0.0, 1.0, 1.0], -1.0),  # a parabola with equal sides
        ([0.5, 0.0, 0.1, 1.0], -1 + 1 / 3),  # slopes -.5 and .1 half a decade to either side: 0 in between
        ([0.0, 0.2, 0.4, 1.0], -2.0),  # nothing is known beyond
        ([1.0, 0.5, 0.1, 0.0], 1.0),
    ],
)
def test_the_best_level_by_hand(regrets: list[float], best: float) -> None:
    assert levels(regrets).best == pytest.approx(best)


@pytest.mark.parametrize(("level", "regret"), [(-9.0, 0.5), (-1.0, 0.0), (-0.5, 0.05), (0.25, 0.325), (9.0, 1.0)])
def test_the_regret_of_a_level_by_hand(level: float, regret: float) -> None:
    assert levels([0.5, 0.0, 0.1, 1.0]).regret(level) == pytest.approx(regret)


def test_scores_by_hand() -> None:
    """Actions of a span of 2.5 decades: the first group's best level is missed by 1, the other's by 0."""
    of = [levels([1.0, 0.0, 1.0, 1.0]), levels([1.0, 0.0, 1.0, 1.0], anchor=-1.0)]
    figures = widths.scored(of, lambda asked: np.zeros(len(asked)), ActionEquation())
    assert figures == pytest.approx({"error": 0.5**0.5, "shift": 0.5, "regret": 0.5})


def test_the_command_on_a_tiny_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    policies = [str(TOP / "policy/behaviour/initial.onnx")]
    root = write_params(tmp_path, tasks=6, no_probe_share=0.0, branches=TWINS, behaviour_policies=policies)
    monkeypatch.setattr(sys, "argv", ["collect", "--root", str(with_few_steps(root))])
    collect.main()
    of = widths.groups(trajectories.files(Paths(root).trajectories))
    assert len(of) == 6
    for each in of:
        assert len(each.levels) == 5 and (np.diff(each.levels) > 0).all()
        assert each.regrets.min() == 0 and each.levels[0] <= each.best <= each.levels[-1]
    out = tmp_path / "widths.json"
    assert widths.main([str(root), "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["widest.tasks"] == figures["random.tasks"] == 2
    assert figures["widest.fan_in"] >= figures["random.fan_in"]
    assert widths.render(figures).count("\n| ") == 7

    name = of[0].family
    figures = costs.measure([each.path for each in of], [name, "raw_columns"])
    assert figures[f"{name}.tasks"] == sum(each.family == name for each in of) and "raw_columns.tasks" not in figures
    assert figures[f"{name}.tera"] >= 0 and figures[f"{name}.weights"] > 0


def test_costs_are_shown_by_what_they_buy() -> None:
    row = {"tasks": 3, "weights": 1_200_000, "tera": 0.5, "error": 0.75}
    figures = {f"{name}.{k}": v for name, r in (("a", 0.1), ("b", 0.2)) for k, v in {**row, "regret": r}.items()}
    *_, first, second = costs.render(figures).splitlines()
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells == ["`b`", "3", "1,200,000", "0.50", "0.75", "0.200", "0.40"]
    assert "`a`" in second
