"""What critics explain of departures, by hand, and on a few recorded ones."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy.explained_returns import explained, measure, part, render
from policy import mdp, trajectories
from policy.choice import Caution
from policy.departures import Inferred
from policy.store import Masks, Store, build
from tiny import with_few_steps, write_params
from written_task import twins

CAUTION = Caution(first=0.0, later=1.0, margin=0.1)
FACTS = [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, 1, -0.75), (1, 0, -1, 0.0), (1, 1, 0, 1.0)]


def write(folder: Path, tasks: int) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(tasks):
        table = twins(rng.uniform(0.2, 0.9, 5).tolist(), FACTS, [0.1, 0.1, 0.1, 0.0, 1.0])
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
    paths, reward = write(tmp_path / "data", 4), mdp.Reward(0.0, 1.0, 1.0, -1.0)
    stores = []
    for name, of in (("all", paths), ("two", [paths[1], paths[3]])):
        (tmp_path / name).mkdir()
        build(of, reward, tmp_path / name, inferred=Inferred())
        stores.append(Store.open(tmp_path / name))
    mine = part(stores[0], np.array([1, 3]))
    for name, wanted in vars(stores[1]).items():
        np.testing.assert_array_equal(getattr(mine, name), wanted, err_msg=name)
    assert mine.masked(Masks(0.5, 0.5), 0).moments()[0].shape


def test_figures_of_a_collection(tmp_path: Path) -> None:
    figures = measure(write(tmp_path / "data", 10), with_few_steps(write_params(tmp_path)))
    assert figures["tasks"] == 10 and figures["departures"] == 40
    assert {"8.later", "8.first", "8.single", "8.moved", "8.gained"} <= set(figures)
    assert render(figures | {"data": "d" * 64}).count("\n") == 4
