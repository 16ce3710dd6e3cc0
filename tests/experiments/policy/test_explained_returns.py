"""What critics explain of departures, by hand, and on a few recorded ones."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy.explained_returns import answers_of_trees, explained, measure, part, render
from lrpilot.features import GROUPS
from policy import trajectories
from policy.departures import NOTHING_INFERRED
from policy.settings import Caution, Reward
from policy.store import Masks, Store, build
from tiny import with_few_steps, write_params
from written_task import twins

CAUTION = Caution(first=0.0, later=1.0, margin=0.1)
FACTS = [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, 1, -0.75), (1, 0, -1, 0.0), (1, 1, 0, 1.0)]


def write(folder: Path, tasks: int, ends: list[float] | None = None) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(tasks):
        table = twins(ends or rng.uniform(0.2, 0.9, 5).tolist(), FACTS, [0.1, 0.1, 0.1, 0.0, 1.0])
        trajectories.store(trajectories.encode(table), folder / "drawn" / f"{i}.parquet")
    return trajectories.files(folder)


def test_shares_by_hand() -> None:
    """Three tasks: critics that are right, that know nothing, and that halve what it is worth."""
    returns, tasks = np.array([0.5, -0.5, 0.4, -0.4, 1.0, -1.0]), np.array([0, 0, 1, 1, 2, 2])
    first = np.array([False, False, False, False, True, True])
    right, nothing, half = (explained(np.stack([c * returns] * 2), first, returns, tasks, CAUTION) for c in (1, 0, 0.5))
    assert (right["later"], right["first"], right["single"]) == (1.0, 1.0, 1.0)
    assert (nothing["later"], nothing["first"], nothing["moved"], nothing["gained"]) == (0.0, 0.0, 0.0, 0.0)
    assert half["later"] == half["later_low"] == half["later_high"] == pytest.approx(0.75)
    assert right["moved"] == 0.5 and right["gained"] == pytest.approx(0.9 / 4)
    unsure = explained(np.stack([0.2 * returns, 1.8 * returns]), first, returns, tasks, CAUTION)
    assert unsure["later"] == pytest.approx(1.0) and unsure["single"] == pytest.approx(0.36)
    assert unsure["moved"] == 0.0 or unsure["gained"] < right["gained"]


def test_a_part_of_a_store_is_the_store_of_a_part(tmp_path: Path) -> None:
    paths, reward = write(tmp_path / "data", 4), Reward(0.0, 1.0, 1.0, -1.0)
    stores = []
    for name, of in (("all", paths), ("two", [paths[1], paths[3]])):
        (tmp_path / name).mkdir()
        build(of, reward, tmp_path / name, inferred=NOTHING_INFERRED)
        stores.append(Store.open(tmp_path / name))
    mine = part(stores[0], np.array([1, 3]))
    for name, wanted in vars(stores[1]).items():
        np.testing.assert_array_equal(getattr(mine, name), wanted, err_msg=name)
    assert mine.masked(Masks(0.5, 0.5), 0).moments()[0].shape


def test_figures_of_a_collection(tmp_path: Path) -> None:
    figures = measure(write(tmp_path / "data", 10), with_few_steps(write_params(tmp_path)))
    assert figures["tasks"] == 10 and figures["departures"] == 40
    learners = ["8", *(f"without {group}" for group in GROUPS if group != "clock"), "trees"]
    names = ("later", "first", "single", "moved", "gained")
    assert {f"{learner}.{name}" for learner in learners for name in names} <= set(figures)
    table = render(figures | {"data": "d" * 64})
    assert table.count("\n") == 3 + len(learners)
    assert "| 8 tasks, without loss features |" in table and "| 8 tasks, gradient-boosted trees |" in table


def test_trees_learn_what_departures_return(tmp_path: Path) -> None:
    """All tasks end alike, so a departure's action and decision tell its return."""
    views = []
    for name, tasks in (("learned", 40), ("judged", 5)):
        (tmp_path / name).mkdir()
        paths = write(tmp_path / name, tasks, ends=[0.5, 0.2, 0.8, 0.5, 0.3])
        build(paths, Reward(0.0, 1.0, 1.0, -1.0), tmp_path / name, inferred=NOTHING_INFERRED)
        views.append(Store.open(tmp_path / name).masked(Masks(0.5, 0.5), 0))
    worth, first = answers_of_trees(*views)
    returns = views[1].store.rewards[::2]
    assert worth.shape == (1, 20) and first.tolist() == [False, False, True, True] * 5
    assert returns.std() > 0.05
    np.testing.assert_allclose(worth[0], returns, atol=0.01)
