"""A store holds what the pilots observed, and shows every agent its share of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import GROUPS, NAMES
from policy import mdp, trajectories
from policy.observations import BLIND, TaskRecording, observations
from policy.settings import Reward
from policy.store import CONSTANT, DECISION, LAYOUT, NOTHING, RUN, WITHHELD, Masks, Store, View, build
from written_task import drawn_table

REWARD = Reward(loss_weight=1.0, regret_weight=1.0, knee=0.03, floor=-3.0)
VALIDATION, EPOCHS, EXAMPLES = GROUPS["validation"], GROUPS["epochs"], ("has_examples", "log_examples")
TABLES = {
    "adam": drawn_table(0),
    "sgd": drawn_table(1, (3, 6, 1, 2), optimizer="sgd", probed=False),
    "other": drawn_table(2, (7, 7)),
}
LENGTHS = [4, 2, 5, 3, 6, 1, 2, 7, 7]  # decisions of every run, in the order of the files below


def write(tables: Sequence[pa.Table], folder: Path) -> list[Path]:
    for i, table in enumerate(tables):
        trajectories.store(trajectories.encode(table), folder / "drawn" / f"{i}.parquet")
    return trajectories.files(folder)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(list(TABLES.values()), tmp_path_factory.mktemp("trajectories"))


@pytest.fixture(scope="module")
def store(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    assert build(paths, REWARD, folder) == {"adam", "sgd"}
    return Store.open(folder)


class Episode(NamedTuple):
    """One run of T decisions."""

    observations: np.ndarray  # (T, F)
    actions: np.ndarray  # (T,)
    rewards: np.ndarray  # (T,)


def episodes(view: View) -> list[Episode]:
    runs = []
    for run in range(len(view.variants)):
        rows, of = view.rows_of(np.array([run]))
        runs.append(Episode(view.observations(rows, of), view.store.actions[rows], view.store.rewards[rows]))
    return runs


def numbered(starts: Sequence[int] = (0, 4, 6, 11)) -> Store:
    """A store that holds, in place of features, the number of their column in LAYOUT."""
    decisions = np.tile(np.arange(len(DECISION), dtype=np.float32), (starts[-1], 1))
    constants = np.tile(np.arange(len(DECISION), len(LAYOUT), dtype=np.float32), (len(starts) - 1, 1))
    column = np.arange(starts[-1], dtype=np.float32)
    return Store(decisions, column, -column, constants, np.array(starts), np.array([len(starts) - 1]))


# the layout


def test_every_feature_stands_once_where_it_changes_and_validation_once_per_period() -> None:
    constant = ("log_steps", "is_sgd", *EPOCHS, *GROUPS["probe"], *GROUPS["size"])
    assert tuple(name for name in NAMES if name in constant) == CONSTANT
    changing = [name for name in NAMES if name not in (*constant, *VALIDATION)]
    assert list(DECISION) == [(n, 0) for n in changing] + [(n, p) for p in range(3) for n in VALIDATION]
    assert list(RUN) == [*((name, 0) for name in CONSTANT), ("", 0)]
    assert LAYOUT == DECISION + RUN and LAYOUT[NOTHING] == ("", 0)
    assert WITHHELD == ((), EXAMPLES, EPOCHS)


@pytest.mark.parametrize("withheld", [0, 1, 2])
@pytest.mark.parametrize("period", [0, 1, 2, 3])
def test_a_variant_shows_its_columns(period: int, withheld: int) -> None:
    """Period 3 hides the validation loss altogether."""
    view = numbered().masked(Masks(0.0, 0.0), 0)
    view.variants[:] = 3 * period + withheld
    for row in view.observations(*view.rows_of(np.arange(3))):
        for name, place in zip(NAMES, row.astype(int), strict=True):
            hidden = (name in VALIDATION and period == 3) or name in ((), EXAMPLES, EPOCHS)[withheld]
            where = ("", 0) if hidden else (name, period if name in VALIDATION else 0)
            assert LAYOUT[place] == where


def test_rows_of_runs_by_hand() -> None:
    view = numbered().masked(Masks(0.0, 0.0), 0)
    for runs, rows, of in (
        ([0, 1, 2], [0, 1, 2, 4, 6, 7, 8, 9], [0, 0, 0, 1, 2, 2, 2, 2]),
        ([2, 0], [6, 7, 8, 9, 0, 1, 2], [2, 2, 2, 2, 0, 0, 0]),
        ([1], [4], [1]),
    ):
        found = view.rows_of(np.array(runs))
        assert (found[0].tolist(), found[1].tolist()) == (rows, of)


def test_a_limited_view_shows_its_groups_alone(store: Store) -> None:
    view, clock = store.masked(Masks(0.5, 0.5), 0), np.isin(NAMES, GROUPS["clock"])
    for blind, seeing in zip(episodes(view.limited(BLIND)), episodes(view), strict=True):
        np.testing.assert_array_equal(blind.observations, np.where(clock, seeing.observations, 0))
    both = episodes(view.limited(("level", "loss")))[0].observations
    assert (both != 0).any(0).tolist() == [
        name in (*GROUPS["level"], *GROUPS["loss"]) and column.any()
        for name, column in zip(NAMES, episodes(view)[0].observations.T, strict=True)
    ]


@pytest.mark.parametrize("block", [1, 3, 2048])
def test_moments_are_those_of_all_observations(store: Store, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy.store.BLOCK", block)  # runs at a time
    view = store.masked(Masks(0.5, 0.5), 0)
    everything = np.concatenate([episode.observations for episode in episodes(view)]).astype(np.float64)
    mean, std = view.moments()
    np.testing.assert_allclose(mean, everything.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(std, everything.std(0), rtol=1e-9, atol=1e-12)
    assert mean.dtype == std.dtype == np.float64


# masks


@pytest.mark.parametrize(
    ("shares", "hidden"), [((1.0, 0.0), VALIDATION), ((0.0, 1.0), EPOCHS)], ids=["validation", "epochs"]
)
def test_what_a_mask_hides_is_zero_and_flagged(
    store: Store, shares: tuple[float, float], hidden: tuple[str, ...]
) -> None:
    columns = np.isin(NAMES, hidden)
    masked, shown = (episodes(store.masked(Masks(*s), 0)) for s in (shares, (0.0, 0.0)))
    for one, other in zip(masked, shown, strict=True):
        assert (one.observations[:, columns] == 0).all()
        assert (other.observations[:, NAMES.index(hidden[0])] == 1).all()  # has_val, has_epochs
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.observations[:, ~columns], other.observations[:, ~columns])


def test_masks_are_drawn_per_run_from_the_seed(paths: list[Path], store: Store) -> None:
    """What an agent observes is bit for bit what pilots would that are shown as much as the draws say."""
    runs, rng = iter(episodes(store.masked(Masks(0.4, 0.3), 7))), np.random.default_rng(7)
    for path in paths:
        task = TaskRecording(trajectories.read(path))
        hidden = rng.random(task.runs) < 0.4
        shows_val = ~hidden & (np.arange(task.length)[:, None] % rng.choice((1, 2, 4), task.runs) == 0)
        shows_epochs = rng.random(task.runs) >= 0.3
        shows_examples = shows_epochs & (rng.random(task.runs) >= 0.2)
        wanted = observations(task, shows_val, shows_epochs, shows_examples)
        for run, end in enumerate(task.ends):
            np.testing.assert_array_equal(next(runs).observations, wanted[:end, run])
    flag = NAMES.index("has_val")
    one, other = ([e.observations[0, flag] for e in episodes(store.masked(Masks(0.5, 0.5), s))] for s in (1, 2))
    assert one != other
    assert set(one) == {0.0, 1.0}


@pytest.mark.parametrize(("period", "every"), [(0, 1), (1, 2), (2, 4)])
def test_a_run_shows_its_validation_at_every_so_many_decisions(
    period: int, every: int, paths: list[Path], store: Store
) -> None:
    view = store.masked(Masks(0.0, 0.0), 0)
    view.variants[:] = 3 * period
    runs = iter(episodes(view))
    for path in paths:
        task = TaskRecording(trajectories.read(path))
        shows = np.repeat(np.arange(task.length)[:, None] % every == 0, task.runs, axis=1)
        wanted = observations(task, shows)
        for run, end in enumerate(task.ends):
            np.testing.assert_array_equal(next(runs).observations, wanted[:end, run])


def test_of_many_runs_the_shares_hide_as_many() -> None:
    """20,000 runs: the validation loss of 30 %, the size of the data of 40 %, of the rest a fifth its examples."""
    n = 20_000
    variants = numbered(list(range(0, 2 * n + 1, 2))).masked(Masks(0.3, 0.4), 0).variants
    assert variants.dtype == np.int8
    period, withheld = np.bincount(variants // 3, minlength=4) / n, np.bincount(variants % 3, minlength=3) / n
    np.testing.assert_allclose(period, [0.7 / 3, 0.7 / 3, 0.7 / 3, 0.3], atol=0.015)
    np.testing.assert_allclose(withheld, [0.6 * 0.8, 0.6 * 0.2, 0.4], atol=0.015)


# what is built


def test_every_run_is_an_episode_with_one_transition_per_action(paths: list[Path], store: Store) -> None:
    runs = iter(episodes(store.masked(Masks(0.0, 0.0), 0)))
    for path in paths:
        for _, run in trajectories.read(path).to_pandas().groupby("run_id", sort=True):
            episode = next(runs)
            assert episode.observations.shape == (len(run) - 1, len(NAMES))
            assert episode.rewards.shape == episode.actions.shape == (len(run) - 1,)
            np.testing.assert_allclose(episode.actions, run.action[:-1], atol=1e-6)
            assert all(a.dtype == np.float32 for a in episode)
            assert all(np.isfinite(a).all() for a in episode)
    assert next(runs, None) is None


def test_rows_are_laid_out_run_by_run_with_an_end_each(store: Store) -> None:
    np.testing.assert_array_equal(store.starts, [0, *np.cumsum(np.add(LENGTHS, 1))])
    np.testing.assert_array_equal(store.tasks, [3, 4, 2])
    ends = store.starts[1:] - 1
    assert not any(a[ends].any() for a in (store.decisions, store.actions, store.rewards))
    assert store.decisions.shape == (store.starts[-1], len(DECISION))
    assert store.constants.shape == (len(LENGTHS), len(RUN)) and not store.constants[:, -1].any()
    assert store.nbytes == sum(array.nbytes for array in vars(store).values())
    with pytest.raises(ValueError, match="read-only"):
        store.rewards[0] = 1.0


def test_rewards_are_those_of_the_task(paths: list[Path], store: Store) -> None:
    runs = iter(episodes(store.masked(Masks(0.0, 0.0), 0)))
    for path in paths:
        task = TaskRecording(trajectories.read(path))
        wanted = mdp.rewards(task.column("val_loss"), task.ends, task.diverged, 1.5, REWARD).astype(np.float32)
        for run, end in enumerate(task.ends):
            np.testing.assert_array_equal(next(runs).rewards, wanted[:end, run])


@pytest.mark.parametrize("moves", [True, False])
def test_actions_are_those_that_lead_to_the_recorded_levels(tmp_path: Path, moves: bool) -> None:
    """Of a recording whose actions named levels, or moved them; under the other equation they are recomputed."""
    recorded, wanted = ActionEquation(moves=not moves), ActionEquation(moves=moves)
    (path,) = write([drawn_table(3, (6, 4), equation=recorded)], tmp_path)
    build([path], REWARD, tmp_path, equation=wanted)
    store, task = Store.open(tmp_path), TaskRecording(trajectories.read(path))
    for run, end in enumerate(task.ends):
        anchor, levels = task.column("anchor")[:1, run], task.column("level")[:end, run]
        for decision, action in enumerate(store.actions[store.starts[run] : store.starts[run + 1] - 1]):
            before = anchor if decision == 0 else levels[decision - 1]
            level = wanted.apply(before, anchor, np.array([action]), decision == 0)
            np.testing.assert_allclose(level, levels[decision], atol=1e-6)


def test_a_store_does_not_depend_on_who_builds_it_when(
    paths: list[Path], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.store.PIECE", 2)
    build(paths, REWARD, tmp_path, lambda fn, items: map(fn, items[::-1]))
    for name, array in vars(Store.open(tmp_path)).items():
        np.testing.assert_array_equal(array, getattr(store, name))


def test_a_damaged_file_is_named(paths: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(paths[0].read_bytes()[:-9])
    with pytest.raises(trajectories.TrajectoryError, match=r"damaged\.parquet: not readable as Parquet"):
        build([paths[0], damaged], REWARD, tmp_path)


def test_a_store_that_does_not_fit_is_not_begun(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (sum(LENGTHS) + len(LENGTHS)) * (len(DECISION) + 2) * 4
    usage, free = shutil.disk_usage(tmp_path), {"bytes": size - 1}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free["bytes"]))
    with pytest.raises(OSError, match=rf"a store of 3 files needs {size} bytes, {size - 1} are free; make room"):
        build(paths, REWARD, tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    free["bytes"] = size
    build(paths, REWARD, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says how pages are read")
def test_drawn_decisions_are_read_alone(paths: list[Path], tmp_path: Path) -> None:
    def flags() -> str:
        """How the kernel is to treat the mapped rows."""
        mapped = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "decisions.npy"))[2]
        return mapped.partition("VmFlags:")[2].partition("\n")[0]

    build(paths, REWARD, tmp_path)
    store = Store.open(tmp_path)
    assert "mr" in flags() and "rr" not in flags()
    store.scatter()
    assert "rr" in flags()


def test_arrays_in_memory_need_no_scattering() -> None:
    numbered().scatter()
