"""What a level comes to by a task's own runs, and rules that name one."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy import candidates, levels
from experiments.policy.candidates import GROUPS
from experiments.policy.held_levels import Held, read
from experiments.policy.levels import EVERYTHING, NAMED, TOLD, UNTOLD, curve, figures, learned, render, rules, same
from experiments.policy.trees import FOLDS
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES
from pipeline.reporting import verdict
from policy import mdp, trajectories
from policy.observations import TaskRecording
from tiny import held_runs


def held(best: float, steepest: float = 0.0, family: str = "a", regime: str = "ordinary", blown: bool = True) -> Held:
    """A task whose regret is the distance from its best level, which the feature "log_epochs" tells, and the kind."""
    observation, at = np.zeros(len(NAMES), np.float32), np.linspace(-2.5, 2.5, 6)
    observation[NAMES.index("log_epochs")], observation[NAMES.index("probe_steepest")] = best, steepest
    observation[NAMES.index("probe_blown")] = blown
    beside = {name: np.array([best if name == "kind" else 0.0]) for name in GROUPS}
    regrets = np.abs(at - best).clip(0, 1.5)
    return Held(family, regime, observation, 0 * observation, beside, (best + 0.25, best - 0.5), at, regrets)


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
    # Steepest descent 3 decades below the edge, which lies 2 over the anchor: level -1; a tenth of the blow-up: 1.
    regrets = rules([held(-0.5, steepest=-3.0) for _ in range(8)])
    assert regrets["finder_steepest"] == pytest.approx(np.full(8, 0.5))
    assert regrets["finder_tenth"] == pytest.approx(np.full(8, 1.25))  # between runs at 0.5 and 1.5
    assert regrets["policy"] == pytest.approx(np.full(8, 0.25))
    assert regrets["policy_steps"] == pytest.approx(np.full(8, 0.5))
    assert regrets["best"] == pytest.approx(np.zeros(8))
    assert {*GROUPS, TOLD, UNTOLD, EVERYTHING, NAMED} < regrets.keys()


def test_more_tasks_teach_trees_more() -> None:
    counts, regrets = zip(*curve(WORLD), strict=True)
    assert counts == (19, 38, 75)  # an eighth, a quarter, a half of the three quarters that a fold leaves
    assert np.mean(regrets[2]) < np.mean(regrets[0])


def test_figures_and_table() -> None:
    tasks = [held(0.5) for _ in range(30)] + [held(0.5, regime="odd", blown=False) for _ in range(20)]
    told = np.full(50, 0.5)
    flat = figures(tasks, {TOLD: told, "best": told - np.repeat([0.25, 0.1], [30, 20])})
    assert {key: flat[key] for key in flat if key.startswith("tasks.")} == {
        "tasks.all": 50, "tasks.ordinary": 30, "tasks.odd": 20, "tasks.calm": 20
    }  # fmt: skip
    of_best = [flat[f"best.{group}.{key}"] for group in ("all", "ordinary", "calm") for key in ("mean", "minus")]
    assert of_best == pytest.approx([0.31, -0.19, 0.25, -0.25, 0.4, -0.1])
    assert flat["best.odd.minus_low"] == pytest.approx(-0.1) == flat["best.odd.minus_high"]
    table = render(flat | {"curve": [[5, 0.75], [38, 0.5]], "data": "f" * 64})
    lines = table.splitlines()
    assert lines[0].count("|") == 6 and lines[0].endswith("no blow-up (20) |")
    assert lines[2].startswith("| trees: the observation | 0.500 | 0.500 |")
    gap = verdict.number(-0.1, sign=True)
    assert lines[3].endswith(f"| 0.400; {gap} ({gap} to {gap}) |")
    assert "5 tasks 0.750, 38 tasks 0.500" in table and "50 recorded tasks" in table


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_runs(tmp_path_factory.mktemp("held"), 5)


def test_what_is_beside_an_observation(recorded: Path) -> None:
    task = TaskRecording(trajectories.read(recorded))
    beside, lower = (candidates.measure(task, 1, edge) for edge in (0.5, -0.5))
    assert beside.keys() == GROUPS.keys() and all(np.isfinite(values).all() for values in beside.values())
    assert beside["moved"] - lower["moved"] == pytest.approx(np.full(4, -1.0))
    assert beside["linear"] - lower["linear"] == pytest.approx([-1.0])
    assert (np.diff(beside["moved"]) >= 0).all() and (np.abs(beside["cosines"]) <= 1).all()
    assert beside["kind"].sum() == 1 and 0 < beside["model"][1] <= 1
    assert beside["size"] == pytest.approx(np.log10([task.fact("weights")[1], task.fact("tensors")[1]]))


def test_a_recorded_task_is_read(recorded: Path, tmp_path: Path) -> None:
    task = read(recorded)
    assert task is not None and (task.family, task.regime) == ("spirals", "odd")
    assert len(task.levels) == len(task.regrets) == 5 and (np.diff(task.levels) >= 0).all()
    assert task.regrets.min() >= 0 and task.regrets.max() <= mdp.WORST
    assert task.observation[NAMES.index("first")] == 1
    told = [row[NAMES.index("has_epochs")] for row in (task.observation, task.untold)]
    assert told == [1, 0] and task.beside.keys() == GROUPS.keys()
    assert all(-ActionEquation().span - 3 <= level <= ActionEquation().span + 3 for level in task.shipped)
    assert read(held_runs(tmp_path, 2)) is None
