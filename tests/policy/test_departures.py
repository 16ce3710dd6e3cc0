"""What a departure is worth, worked out by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lrpilot.decisions.actions import ActionEquation
from policy import trajectories
from policy.departures import EARLY, NOTHING_INFERRED, count, departures
from policy.observations import TaskRecording, observations
from policy.settings import Inferred, Reward
from policy.store import Masks, Store, build
from written_task import drawn_table, twins

# The potential is minus the logarithm of the regret + 1: 1.0 at the start is regret 1, 0.4, the best, regret 0.
REWARD = Reward(loss_weight=0.0, regret_weight=1.0, knee=1.0, floor=-0.5)
EQUATION = ActionEquation(span=2.0, rise=1.0, fall=1.5)
TWINS = {
    "final": [0.7, 0.4, 0.85, np.nan, 0.7, 0.4, 1.0],
    # group 0 moves: up by 0.5 at decision 1, down by 0.75 at 1, and one that ended before it could; 1 has levels
    "facts": [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, 1, -0.75), (0, 3, -1, 0.0),
              (1, 0, -1, 0.0), (1, 1, 0, 1.0), (1, 2, 0, -3.0)],
    "levels": [0.1, 0.1, 0.1, 0.1, 0.0, 1.0, -3.0],
}  # fmt: skip
REGRETS = np.array([0.5, 0.0, 0.75, np.nan, 0.5, 0.0, 1.0])


def replaced(table: pa.Table, **columns: np.ndarray) -> pa.Table:
    """The table with other values in these columns."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), [values])
    return table


def test_returns_by_hand() -> None:
    phi = -np.log10(REGRETS + 1)
    d = departures(TaskRecording(twins(**TWINS)), REWARD, EQUATION, NOTHING_INFERRED)
    assert d.runs.tolist() == [1, 2, 4, 5, 6] and d.decisions.tolist() == [1, 1, 0, 0, 0]
    np.testing.assert_allclose(d.actions, [0.5, -0.5, 0.0, 0.5, -1.0])  # -3 lies beyond the span
    np.testing.assert_allclose(d.returns, [*(phi[[1, 2]] - phi[0]), *(phi[4:] - phi[4:].mean())])


def test_a_twin_that_diverges_returns_the_floor_less_its_base() -> None:
    table = twins([0.4, np.nan], [(0, 0, -1, 0.0), (0, 1, 1, 1.0)], [0.0, 0.0])
    d = departures(TaskRecording(table), REWARD, EQUATION, NOTHING_INFERRED)
    np.testing.assert_allclose(d.returns, [-0.5])


def test_stops_by_hand() -> None:
    """A twin's only later decision, or none where it moves there. Regret 1 at that decision, as at the start."""
    table = twins([0.7, 0.4, np.nan], [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, -1, 0.0)], [0.1, 0.1, 0.1])
    level = table["level"].to_numpy().copy()
    level[4] = 0.6  # run 1 moves at decision 1
    d = departures(TaskRecording(replaced(table, level=level)), REWARD, EQUATION, Inferred(3, 0))
    assert d.runs.tolist() == [1, 0, 2] and d.decisions.tolist() == [1, 1, 1] and d.actions[1:].tolist() == [-1, -1]
    np.testing.assert_allclose(d.returns[1:], -np.log10(2) - np.array([-np.log10(1.5), -0.5]))


def test_stops_are_spread_over_the_decisions_after_the_last_move() -> None:
    table = drawn_table(0, (40, 40, 40, 40))
    changes = {"group": np.zeros(164, int), "twin": np.repeat(np.arange(4), 41), "level": np.zeros(164)}
    changes["level"][41:61] = 1.0  # run 1 moves at decision 20
    task = TaskRecording(replaced(table, **changes))
    d = departures(task, REWARD, EQUATION, Inferred(4, 0))
    assert np.bincount(d.runs).tolist() == [4, 4, 4, 4] and count(task, EQUATION, Inferred(4, 0)) == 16
    of = d.decisions.reshape(4, 4)
    assert (of[:, 0] >= [1, 21, 1, 1]).all() and of.max() < 40 and len({tuple(row) for row in of.tolist()}) == 4
    gaps = np.diff(of, axis=1)
    assert gaps[[0, 2, 3]].min() >= 9 and gaps.max() <= 10 and gaps[1].max() <= 5


def test_corrections_by_hand() -> None:
    """From level 0 to 0.5 or -1.0, but not to 1.5, which is too far up, or to -2; all of it early."""
    levels, final = [0.0, 0.5, -1.0, 1.5, -2.0], [0.7, 0.4, 0.85, np.nan, 0.7]
    facts = [(0, twin, 0 if twin else -1, level) for twin, level in enumerate(levels)]
    table = twins(final, facts, levels)
    early = (np.array(table["decision"]) * EARLY * 60 / 1.5).round()  # decision 1 at two thirds of the early steps
    task = TaskRecording(replaced(table, step=early.astype(int)))
    phi = [*-np.log10((np.array(final[:3]) - 0.4) / 0.6 + 1), -0.5]
    d = departures(task, REWARD, EQUATION, Inferred(0, 4))
    moves = list(zip(d.runs[5:].tolist(), d.actions[5:].round(6).tolist(), d.returns[5:].tolist(), strict=True))
    assert d.decisions.tolist() == [0] * 5 + [1] * (len(d.runs) - 5)
    assert [(action, pytest.approx(value)) for run, action, value in moves if run == 0] == [
        (0.5, phi[1] - phi[0]), (round(-1 / 1.5, 6), phi[2] - phi[0]),
    ]  # fmt: skip
    assert [value for run, action, value in moves if run == 1 and action == 1.0] == pytest.approx([phi[3] - phi[1]])
    assert count(task, EQUATION, Inferred(0, 4)) == len(d.runs)
    assert len(departures(task, REWARD, EQUATION, Inferred(0, 1)).runs) == 5 + 5


def test_only_early_moves_are_corrections() -> None:
    facts = [(0, 0, -1, 0.0), (0, 1, 0, 0.5)]
    task = TaskRecording(twins([0.7, 0.4], facts, [0.0, 0.5]))  # whose only later decision is in the middle
    assert len(departures(task, REWARD, EQUATION, Inferred(0, 4)).runs) == 2


def test_runs_of_schedules_are_no_departures() -> None:
    assert not len(departures(TaskRecording(drawn_table(0)), REWARD, EQUATION, Inferred(4, 4)).runs)


def test_a_store_of_departures_has_a_run_of_one_decision_each(tmp_path: Path) -> None:
    tables = {"a": twins(**TWINS), "b": drawn_table(0), "c": twins(**TWINS)}
    for name, table in tables.items():
        trajectories.store(trajectories.encode(table), tmp_path / "drawn" / f"{name}.parquet")
    paths = trajectories.files(tmp_path)
    build(paths, REWARD, tmp_path, equation=EQUATION, inferred=Inferred(1, 0))
    store, task = Store.open(tmp_path), TaskRecording(tables["a"])
    d = departures(task, REWARD, EQUATION, Inferred(1, 0))
    assert store.tasks.tolist() == [12, 0, 12] and store.starts.tolist() == list(range(0, 49, 2))
    np.testing.assert_allclose(
        store.rewards.reshape(2, 12, 2), [np.stack([d.returns, 0 * d.returns], 1)] * 2, rtol=1e-6
    )
    view = store.masked(Masks(0.0, 0.0), 0)
    view.variants[:] = 0
    seen = view.observations(*view.rows_of(np.arange(24)))
    wanted = observations(task, np.ones((task.length, task.runs), bool))[d.decisions, d.runs]
    np.testing.assert_array_equal(seen, np.tile(wanted, (2, 1)))


def test_a_store_of_departures_needs_twins(tmp_path: Path) -> None:
    trajectories.store(trajectories.encode(drawn_table(0)), tmp_path / "drawn/a.parquet")
    with pytest.raises(trajectories.TrajectoryError, match=r"collect\.branches\.share"):
        build(trajectories.files(tmp_path), REWARD, tmp_path, inferred=NOTHING_INFERRED)


def test_tasks_are_drawn_with_repetition(tmp_path: Path) -> None:
    """Whole tasks, as many as there are; another seed draws others."""
    for i in range(6):
        trajectories.store(trajectories.encode(twins(**TWINS)), tmp_path / f"drawn/{i}.parquet")
    build(trajectories.files(tmp_path), REWARD, tmp_path, inferred=NOTHING_INFERRED)
    view = Store.open(tmp_path).masked(Masks(0.0, 0.0), 0)
    drawn = [view.resampled(seed).reshape(6, 5) for seed in range(3)]
    for part in drawn:
        np.testing.assert_array_equal(part, part[:, :1] + np.arange(5))
        assert (part[:, 0] % 5 == 0).all() and part.max() < 30
    assert len({part.tobytes() for part in drawn}) == 3
