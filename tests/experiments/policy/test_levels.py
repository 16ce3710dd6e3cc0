"""What a level comes to by a task's own runs, and rules that name one."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy import levels
from experiments.policy.held_levels import Held, read, weights
from experiments.policy.levels import figures, learned, render, rules, same
from experiments.policy.trees import FOLDS
from lrpilot.features import NAMES
from pipeline.reporting import verdict
from policy import mdp
from tiny import held_runs


def held(best: float, steepest: float = 0.0, family: str = "a") -> Held:
    """A task whose regret is the distance from its best level, which the feature "log_epochs" tells."""
    observation, at = np.zeros(len(NAMES), np.float32), np.linspace(-2.5, 2.5, 6)
    observation[NAMES.index("log_epochs")], observation[NAMES.index("probe_steepest")] = best, steepest
    return Held(
        family, observation, {"size": np.array([best]), "moved": np.zeros(3)}, at, np.abs(at - best).clip(0, 1.5)
    )


WORLD = [held(best) for best in np.random.default_rng(0).choice([-1.5, -0.5, 0.5, 1.5], 200)]


@pytest.mark.parametrize(("level", "wanted"), [(-0.5, 0.0), (0.0, 0.5), (0.5, 1.0), (9.0, 1.5), (-9.0, 1.5)])
def test_between_runs_the_regret_is_linear(level: float, wanted: float) -> None:
    assert held(-0.5).regret(level) == pytest.approx(wanted)


def test_trees_learn_what_the_observation_tells_and_no_more() -> None:
    observed = np.stack([task.observation for task in WORLD])
    named = learned(WORLD, observed)
    assert np.mean([t.regret(z) for t, z in zip(WORLD, named, strict=True)]) < 0.3  # trees make steps
    blind = learned(WORLD, 0 * observed)
    assert len(set(blind)) <= FOLDS
    assert np.mean([t.regret(z) for t, z in zip(WORLD, blind, strict=True)]) > 0.5


def test_one_level_for_all_is_the_best_one() -> None:
    table = [[task.regret(z) for task in WORLD] for z in levels.GRID]
    chosen = same(WORLD)
    assert len(set(chosen)) == 1
    assert np.mean([t.regret(chosen[0]) for t in WORLD]) == pytest.approx(np.mean(table, axis=1).min())


def test_rules_by_hand() -> None:
    # Steepest descent 3 decades below the blow-up, which lies 2 over the anchor: level -1; a tenth of it: 1.
    world = [held(-0.5, steepest=-3.0) for _ in range(8)]
    regrets = rules(world, lambda observations: np.full(len(observations), -0.2))
    assert regrets["finder_steepest"] == pytest.approx(np.full(8, 0.5))
    assert regrets["finder_tenth"] == pytest.approx(np.full(8, 1.25))  # between runs at 0.5 and 1.5
    assert regrets["policy"] == pytest.approx(np.zeros(8))  # -0.2 of 2.5 decades
    assert regrets["best"] == pytest.approx(np.zeros(8))


def test_the_weights_move_as_the_probe_moved_them() -> None:
    """Gradient descent: each share of the norm is reached at a level that moves them that far, and not below it."""
    counted = weights("illconditioned", 5, 12, 0.0)
    again = weights("illconditioned", 5, 12, 1.5)
    assert counted["moved"] - again["moved"] == pytest.approx(np.full(3, 1.5))
    assert (np.diff(counted["moved"]) > 0).all()
    shorter = weights("illconditioned", 5, 2, 0.0)  # its rates move nothing yet
    assert len(set(shorter["moved"])) == 1


def test_figures_and_table() -> None:
    flat = figures({"finder_tenth": np.full(50, 0.5), "best": np.full(50, 0.25)}) | {"tasks": 50, "data": "f" * 64}
    assert [flat[f"best.{key}"] for key in ("mean", "low", "high", "minus")] == [0.25, 0.25, 0.25, -0.25]
    lines = render(flat).splitlines()
    assert lines[2].startswith("| finder: a tenth of the blow-up | 0.500 |") and lines[2].endswith("– |")
    gap = verdict.number(-0.25, sign=True)
    assert f"{gap} ({gap} to {gap})" in lines[3]


def test_a_recorded_task_is_read(tmp_path: Path) -> None:
    task = read(held_runs(tmp_path, 5))
    assert task is not None and task.family == "spirals"
    assert len(task.levels) == len(task.regrets) == 5 and (np.diff(task.levels) >= 0).all()
    assert task.regrets.min() >= 0 and task.regrets.max() <= mdp.WORST
    assert task.observation[NAMES.index("first")] == 1
    assert (np.diff(task.beside["moved"]) >= 0).all() and task.beside["size"][0] > 1
    assert read(held_runs(tmp_path, 2)) is None
