"""What an agent learns from is what the pilots saw: recomputed observations equal the streamed ones, bit for bit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.features import NAMES
from lrpilot.pilot import Pilot, Protocol
from pipeline.config import FEATURES
from pipeline.simulation.behaviour import Behaviour
from pipeline.simulation.recording import Spec, record
from pipeline.simulation.simulate import simulate
from pipeline.workloads.families import family
from policy import trajectories
from policy.mdp import Reward
from policy.observations import BLIND, GROUPS, Task, mask, observations
from policy.store import EPOCHS_ALONE, PERIODS, Masks, Store, View, build
from tiny import world

RUNS = 8
REWARD = Reward(loss_weight=1.0, regret_weight=1.0, knee=0.03, floor=-3.0)
SCHEDULES = {"constant": 1.0, "cosine": 1.0, "kicks": 2.0, "onecycle": 1.0}
VAL = [i for i, name in enumerate(NAMES) if name.startswith(("val_", "has_val"))]
EPOCHS = [NAMES.index(n) for n in GROUPS["epochs"]]
# (family, task seed): least squares and classification of a few weights, which some of the runs' rates blow up
TASKS = {"adam": ("illconditioned", 3), "sgd": ("illconditioned", 6), "sgd-mlp": ("regression", 6)}

Act = Callable[[Any, Pilot, np.ndarray], None]


class Watch:
    """Keeps what every pilot observes at every decision, and lets it act."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self.seen: list[np.ndarray] = []  # by decision, (runs, F)

    def __call__(self, behaviour: Behaviour, pilot: Pilot, which: np.ndarray) -> None:
        observation = pilot.observation()
        decision = 0 if pilot.interval is None else pilot.decision
        if decision == len(self.seen):  # a probe ends at another step in each run: decision 0 comes in parts
            self.seen.append(np.full_like(observation, np.nan))
        self.seen[decision][which] = observation[which]
        self._act(behaviour, pilot, which)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch(Behaviour.act)
    monkeypatch.setattr(Behaviour, "act", lambda *args: watch(*args))
    return watch


def spec_of(task: str, probed: bool, schedules: dict[str, float], policies: tuple[Path, ...] = ()) -> Spec:
    name, seed = TASKS[task]
    named = tuple((str(path), load_policy(path).manifest.graph) for path in policies)
    return Spec(name, seed, RUNS, probed, tuple(schedules.items()), named, (0.3, 0.95), 32, "cpu", "test")


def behaviour_of(spec: Spec, n_steps: int) -> Behaviour:
    policies = [load_policy(path) for path, _ in spec.policies]
    rng = np.random.default_rng([spec.task_seed, 1])
    return Behaviour(dict(spec.schedules), spec.runs, n_steps, rng, policies, spec.exploration)


def collected(spec: Spec, folder: Path) -> Task:
    trajectories.store(record(spec), folder / spec.family / "task.parquet")
    (path,) = trajectories.files(folder)
    return Task(trajectories.read(path))


def every_decision(task: Task, runs: np.ndarray | bool) -> np.ndarray:
    """(D + 1, runs) bool: what holds for a run holds at each of its decisions."""
    return np.broadcast_to(runs, (task.length, RUNS))


def assert_same(task: Task, found: np.ndarray, seen: list[np.ndarray]) -> None:
    assert len(seen) >= len(found)
    for run, end in enumerate(task.ends):
        streamed = np.stack([s[run] for s in seen[:end]])
        np.testing.assert_array_equal(found[:end, run], streamed, err_msg=f"run {run}")


@pytest.mark.parametrize("probed", [True, False], ids=["probed", "unprobed"])
@pytest.mark.parametrize("task", TASKS)
def test_streamed_equals_recomputed(task: str, probed: bool, tmp_path: Path, watch: Watch) -> None:
    spec = spec_of(task, probed, SCHEDULES)
    data = collected(spec, tmp_path)
    workload = family(spec.family).sample(np.random.default_rng(spec.task_seed))
    seeds = [spec.task_seed + i for i in range(RUNS)]
    mixed = behaviour_of(spec, workload.n_steps).shows_validation
    assert_same(data, observations(data, every_decision(data, mixed)), watch.seen)
    if task == "sgd" and not probed:
        assert data.diverged.any()
        assert not data.diverged.all()
        assert len(set(data.ends)) > 1
    if task == "sgd-mlp" and probed:
        assert len(set(data.column("step")[0])) > 1  # of decision 0

    for shown in (True, False):  # the same runs again, under pilots that are all told the validation loss, or none
        watch.seen.clear()
        act = behaviour_of(spec, workload.n_steps).act
        simulate(workload, seeds, Protocol(), act, probed=probed, val_examples=32, show_validation=shown)
        assert_same(data, observations(data, every_decision(data, shown)), watch.seen)


def test_validation_is_recorded_though_no_run_shows_it() -> None:
    workload = world(n_steps=40)
    behaviour = Behaviour({"constant": 1.0}, 2, 40, np.random.default_rng(0))
    found = simulate(workload, (0, 1), Protocol(), behaviour.act, show_validation=np.zeros(2, bool))
    assert len(found.val_loss) == len(found.steps)
    assert np.isnan([interval["val_loss"] for interval in found.telemetry[1:]]).all()


def test_streamed_equals_recomputed_under_a_policy(tmp_path: Path, watch: Watch) -> None:
    """Behaviours that themselves observe, beside others that do not."""
    drawn = np.random.default_rng(5).normal(0, 0.2, len(NAMES))
    bundle = write_bundle(tmp_path / "policy.onnx", weights=dict(zip(NAMES, drawn.tolist(), strict=True)))
    spec = spec_of("sgd-mlp", True, {"policy": 1.0, "linear": 1.0}, (bundle,))
    data = collected(spec, tmp_path / "data")
    workload = family(spec.family).sample(np.random.default_rng(spec.task_seed))
    shown = every_decision(data, behaviour_of(spec, workload.n_steps).shows_validation)
    assert_same(data, observations(data, shown), watch.seen)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small recorded tasks, one of them with divergences."""
    folder = tmp_path_factory.mktemp("data")
    for task, probed in (("sgd", False), ("adam", True)):
        trajectories.store(record(spec_of(task, probed, SCHEDULES)), folder / task / "task.parquet")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Both tasks."""
    place = tmp_path_factory.mktemp("store")
    assert build(trajectories.files(folder), REWARD, place) == {"adam", "sgd"}
    return Store.open(place)


class Episode(NamedTuple):
    """One run of T decisions."""

    observations: np.ndarray  # (T, F)
    actions: np.ndarray  # (T,)
    rewards: np.ndarray  # (T,)


def episodes(view: View) -> list[Episode]:
    found = []
    for run in range(len(view.variants)):
        rows, of = view.rows_of(np.array([run]))
        found.append(Episode(view.observations(rows, of), view.store.actions[rows], view.store.rewards[rows]))
    return found


def test_every_run_is_an_episode_with_one_transition_per_action(folder: Path, store: Store) -> None:
    found = iter(episodes(store.masked(Masks(0.5, 0.5), 0)))
    for path in trajectories.files(folder):
        table = trajectories.read(path).to_pandas()
        for _, run in table.groupby("run_id", sort=True):
            episode = next(found)
            assert episode.observations.shape == (len(run) - 1, len(NAMES))
            assert episode.rewards.shape == episode.actions.shape == (len(run) - 1,)
            np.testing.assert_array_equal(episode.actions, run.action[:-1].astype(np.float32))
            assert all(a.dtype == np.float32 for a in episode)
            assert all(np.isfinite(a).all() for a in episode)
    assert next(found, None) is None
    ends = store.starts[1:] - 1
    assert not any(a[ends].any() for a in (store.decisions, store.actions, store.rewards))


def test_rewards_sum_to_the_runs_place_in_its_task(folder: Path, store: Store) -> None:
    found = episodes(store.masked(Masks(0.0, 0.0), 0))
    for i, path in enumerate(trajectories.files(folder)):
        task = Task(trajectories.read(path))
        returns = np.array([e.rewards.sum() for e in found[i * RUNS : (i + 1) * RUNS]])
        assert returns.mean() == pytest.approx(0, abs=1e-4)
        final = np.where(task.diverged, np.inf, task.column("val_loss")[task.ends, np.arange(RUNS)])
        assert returns[final.argmin()] > returns[final.argmax()]
        if task.diverged.any():
            assert returns[task.diverged].max() < returns[~task.diverged].min()


@pytest.mark.parametrize(("share", "columns"), [((1.0, 0.0), VAL), ((0.0, 1.0), EPOCHS)], ids=["validation", "epochs"])
def test_what_a_mask_hides_is_zero_and_flagged(store: Store, share: tuple[float, float], columns: list[int]) -> None:
    masked, told = (episodes(store.masked(Masks(*shares), 0)) for shares in (share, (0.0, 0.0)))
    others = np.setdiff1d(np.arange(len(NAMES)), columns)
    for hidden, shown in zip(masked, told, strict=True):
        assert (hidden.observations[:, columns] == 0).all()
        assert (shown.observations[:, columns[0]] == 1).all()  # has_val, has_epochs
        np.testing.assert_array_equal(hidden.observations[:, others], shown.observations[:, others])
        np.testing.assert_array_equal(hidden.rewards, shown.rewards)


def test_masks_are_drawn_per_run_from_the_seed(folder: Path, store: Store) -> None:
    """What an agent sees is bit for bit what pilots would that are told as much as the draws say."""
    found, rng = iter(episodes(store.masked(Masks(0.4, 0.3), 7))), np.random.default_rng(7)
    for path in trajectories.files(folder):
        task = Task(trajectories.read(path))
        hidden = rng.random(RUNS) < 0.4
        shown = ~hidden & (np.arange(task.length)[:, None] % rng.choice(PERIODS, RUNS) == 0)
        told = rng.random(RUNS) >= 0.3
        wanted = observations(task, shown, told, told & (rng.random(RUNS) >= EPOCHS_ALONE))
        for run, end in enumerate(task.ends):
            np.testing.assert_array_equal(next(found).observations, wanted[:end, run])
    flag = NAMES.index("has_val")
    one, other = ([e.observations[0, flag] for e in episodes(store.masked(Masks(0.5, 0.5), s))] for s in (1, 2))
    assert one != other
    assert set(one) == {0.0, 1.0}


def test_every_feature_is_of_one_group() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(NAMES)
    assert tuple(GROUPS) == FEATURES
    assert mask(("clock", "probe")).sum() == len(GROUPS["clock"]) + len(GROUPS["probe"])


def test_a_limited_view_shows_its_groups_alone(store: Store) -> None:
    view, clock = store.masked(Masks(0.5, 0.5), 0), np.isin(NAMES, GROUPS["clock"])
    for blind, seeing in zip(episodes(view.limited(BLIND)), episodes(view), strict=True):
        np.testing.assert_array_equal(blind.observations, np.where(clock, seeing.observations, 0))


def test_a_store_does_not_depend_on_who_builds_it_when(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.store.PIECE", 1)
    build(trajectories.files(folder), REWARD, tmp_path, lambda fn, items: map(fn, items[::-1]))
    for name, array in vars(Store.open(tmp_path)).items():
        np.testing.assert_array_equal(array, getattr(store, name))


def test_what_keeps_a_store_from_being_built_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = trajectories.files(folder)
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(paths[0].read_bytes()[:-9])
    with pytest.raises(trajectories.TrajectoryError, match=r"damaged\.parquet: not readable as Parquet"):
        build([paths[0], damaged], REWARD, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"a store of 2 files needs \d+ bytes, 1000 are free; make room"):
        build(paths, REWARD, tmp_path)
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how pages are read")
def test_drawn_decisions_are_read_alone(folder: Path, tmp_path: Path) -> None:
    def flags() -> str:
        """How the kernel was told to treat the mapped rows."""
        told = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "decisions.npy"))[2]
        return told.partition("VmFlags:")[2].partition("\n")[0]

    build(trajectories.files(folder), REWARD, tmp_path)
    store = Store.open(tmp_path)
    assert "mr" in flags() and "rr" not in flags()
    store.scatter()
    assert "rr" in flags()
