"""What an agent learns from is what the pilots saw: recomputed observations equal the streamed ones, bit for bit."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.decisions.features import GROUPS, NAMES
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from pipeline.simulation.behaviour import Behaviour
from pipeline.simulation.recording import Spec, record
from pipeline.simulation.simulate import simulate
from pipeline.workloads.families import family
from policy import trajectories
from policy.observations import BLIND, TaskRecording, mask, observations
from tiny import world
from written_task import drawn_table, table

LG = math.log10
RUNS = 8
SCHEDULES = {"constant": 1.0, "cosine": 1.0, "kicks": 2.0, "onecycle": 1.0}
# (family, task seed): least squares and classification of a few weights, which some of the runs' rates blow up
TASKS = {"adam": ("illconditioned", 3), "sgd": ("illconditioned", 12), "sgd-mlp": ("regression", 14)}

Act = Callable[[Any, Pilot, np.ndarray], None]


class Watch:
    """Keeps what every pilot observes at every decision, and lets it act."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self.observed: list[np.ndarray] = []  # by decision, (runs, F)

    def __call__(self, behaviour: Behaviour, pilot: Pilot, which: np.ndarray) -> None:
        observation = pilot.observation()
        decision = 0 if pilot.interval is None else pilot.decision
        if decision == len(self.observed):  # a probe ends at another step in each run: decision 0 comes in parts
            self.observed.append(np.full_like(observation, np.nan))
        self.observed[decision][which] = observation[which]
        self._act(behaviour, pilot, which)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch(Behaviour.act)
    monkeypatch.setattr(Behaviour, "act", lambda *args: watch(*args))
    return watch


def spec_of(task: str, probed: bool, schedules: dict[str, float], policies: tuple[Path, ...] = ()) -> Spec:
    name, seed = TASKS[task]
    named = tuple((str(path), load_policy(path).manifest.graph) for path in policies)
    return Spec(name, seed, RUNS, probed, tuple(schedules.items()), named, (0.3, 0.95), None, 32, "cpu", "test")


def behaviour_of(spec: Spec, n_steps: int) -> Behaviour:
    policies = [load_policy(path) for path, _ in spec.policies]
    rng = np.random.default_rng([spec.task_seed, 1])
    return Behaviour(dict(spec.schedules), spec.runs, n_steps, rng, policies, spec.exploration)


def collected(spec: Spec, folder: Path) -> TaskRecording:
    trajectories.store(record(spec), folder / spec.family / "task.parquet")
    (path,) = trajectories.files(folder)
    return TaskRecording(trajectories.read(path))


def every_decision(task: TaskRecording, runs: np.ndarray | bool) -> np.ndarray:
    """(D + 1, runs) bool: what holds for a run holds at each of its decisions."""
    return np.broadcast_to(runs, (task.length, RUNS))


def assert_same(task: TaskRecording, recomputed: np.ndarray, observed: list[np.ndarray]) -> None:
    assert len(observed) >= len(recomputed)
    for run, end in enumerate(task.ends):
        streamed = np.stack([rows[run] for rows in observed[:end]])
        np.testing.assert_array_equal(recomputed[:end, run], streamed, err_msg=f"run {run}")


@pytest.mark.parametrize("probed", [True, False], ids=["probed", "unprobed"])
@pytest.mark.parametrize("task", TASKS)
def test_streamed_equals_recomputed(task: str, probed: bool, tmp_path: Path, watch: Watch) -> None:
    spec = spec_of(task, probed, SCHEDULES)
    data = collected(spec, tmp_path)
    workload = family(spec.family).sample(np.random.default_rng(spec.task_seed))
    seeds = [spec.task_seed + i for i in range(RUNS)]
    mixed = behaviour_of(spec, workload.n_steps).shows_validation
    assert_same(data, observations(data, every_decision(data, mixed)), watch.observed)
    if task == "sgd" and not probed:
        assert data.diverged.any()
        assert not data.diverged.all()
        assert len(set(data.ends)) > 1
    if task == "sgd-mlp" and probed:
        assert len(set(data.column("step")[0])) > 1  # of decision 0

    for shown in (True, False):  # the same runs again, under pilots that are all told the validation loss, or none
        watch.observed.clear()
        act = behaviour_of(spec, workload.n_steps).act
        simulate(workload, seeds, Protocol(), act, probed=probed, val_examples=32, show_validation=shown)
        assert_same(data, observations(data, every_decision(data, shown)), watch.observed)


def test_validation_is_recorded_though_no_run_shows_it() -> None:
    workload = world(n_steps=40)
    behaviour = Behaviour({"constant": 1.0}, 2, 40, np.random.default_rng(0))
    recording = simulate(workload, (0, 1), Protocol(), behaviour.act, show_validation=np.zeros(2, bool))
    assert len(recording.val_loss) == len(recording.steps)
    assert np.isnan([interval["val_loss"] for interval in recording.telemetry[1:]]).all()


def test_streamed_equals_recomputed_under_a_policy(tmp_path: Path, watch: Watch) -> None:
    """Behaviours that themselves observe, beside others that do not."""
    drawn = np.random.default_rng(5).normal(0, 0.2, len(NAMES))
    bundle = write_bundle(tmp_path / "policy.onnx", weights=dict(zip(NAMES, drawn.tolist(), strict=True)))
    spec = spec_of("sgd-mlp", True, {"policy": 1.0, "linear": 1.0}, (bundle,))
    data = collected(spec, tmp_path / "data")
    workload = family(spec.family).sample(np.random.default_rng(spec.task_seed))
    shown = every_decision(data, behaviour_of(spec, workload.n_steps).shows_validation)
    assert_same(data, observations(data, shown), watch.observed)


# what the columns of a file become


def test_a_recording_by_hand() -> None:
    task = TaskRecording(table())
    assert (task.runs, task.length, task.n_steps, task.optimizer) == (2, 4, 90, "adam")
    assert (task.steps_per_epoch, task.examples, task.baseline_loss) == (0.5, 500.0, 0.5)
    assert task.ends.tolist() == [3, 2] and task.diverged.tolist() == [False, True]
    np.testing.assert_array_equal(task.column("val_loss").T, [[1.0, 0.9, 0.8, 0.7], [1.0, 5.0, np.nan, np.nan]])
    np.testing.assert_array_equal(task.probe_loss, [[1.0, 2.0], [1.0, np.nan]])
    np.testing.assert_array_equal(task.probe_grad, [[1.0, 1.0], [1.0, np.nan]])
    assert task.probed and task.probe_used.tolist() == [2, 1]
    assert not TaskRecording(table(probed=[False] * 7)).probed


def shown(task: TaskRecording, **columns: Any) -> dict[str, np.ndarray]:
    """Observations of all decisions, (D, runs) by name."""
    rows = observations(task, np.ones((task.length, task.runs), bool), **columns)
    return dict(zip(NAMES, rows.transpose(2, 0, 1), strict=True))


def test_observations_by_hand() -> None:
    """Two runs without a probe; the second ends a decision earlier."""
    task = TaskRecording(
        table(
            probed=[False] * 7, optimizer=["sgd"] * 7, step=[0, 30, 60, 90, 0, 30, 60], anchor=[-1.0] * 7,
            level=[-0.5, 0.5, -2.0, -2.0, -1.0, -1.5, -1.5], train_loss=[np.nan, 4.0, 2.0, 1.0, np.nan, 3.0, np.nan],
            examples=[100] * 7, steps_per_epoch=[9.0] * 7,
        )
    )  # fmt: skip
    row = shown(task)
    for name, (first, second) in {
        "progress": ([-1, -1 / 3, 1 / 3], [-1, -1 / 3]),
        "first": ([1, 0, 0], [1, 0]),
        "level": ([0, -0.25, 0.25], [0, -0.5]),
        "level_to_anchor": ([0, 0.5, 1.5], [0, 0]),
        "level_to_highest": ([0, 0, 0], [0, 0]),
        "last_move": ([0, 0, 2], [0, 0]),
        "interval": ([0, 2 - LG(3), 2 - LG(3)], [0, 2 - LG(3)]),
        "is_sgd": ([1, 1, 1], [1, 1]),
        "log_epochs": ([0, 0, 0], [0, 0]),
        "log_examples": ([-1, -1, -1], [-1, -1]),
        "loss_total": ([0, 0, 2 * LG(0.5)], [0, 0]),
        "val_slope": ([0, 20 * LG(0.9), 20 * LG(8 / 9)], [0, 5]),
        "probed": ([0, 0, 0], [0, 0]),
    }.items():
        assert row[name][:, 0].tolist() == pytest.approx(first, abs=1e-6), name
        assert row[name][:2, 1].tolist() == pytest.approx(second, abs=1e-6), name


def test_the_highest_level_is_that_of_the_decisions_before() -> None:
    rows = drawn_table(0, (5,), probed=False)
    at = rows.schema.get_field_index("level")
    row = shown(TaskRecording(rows.set_column(at, rows.field(at), pa.array([-1.0, 0.0, -2.0, 0.5, 0.5, 9.0]))))
    assert row["level_to_highest"][:, 0].tolist() == pytest.approx([0, 0, 0, -2.0, 0], abs=1e-6)
    assert row["last_move"][:, 0].tolist() == pytest.approx([0, 0, 2, -4, 5], abs=1e-6)


@pytest.mark.parametrize("probed", [True, False])
def test_the_first_interval_starts_where_the_longest_probe_ends(probed: bool) -> None:
    """Of ten probing steps, though every run's probe ended sooner; the steps after it are ten percent of 100."""
    task = TaskRecording(drawn_table(0, (9, 9), probed=probed))
    interval = shown(task)["interval"][1:]
    first = LG(0.1) + 2 if probed else LG(0.2) + 2
    np.testing.assert_allclose(interval, [[first] * 2, *[[LG(0.1) + 2] * 2] * 7], atol=1e-6)


def test_masks_hide_what_they_say_copy_by_copy() -> None:
    task = TaskRecording(drawn_table(0))
    runs, everything = task.runs, np.ones((task.length, 3), bool)
    show = np.concatenate([everything, ~everything], axis=1)
    epochs, examples = np.arange(2 * runs) % 2 == 0, np.arange(2 * runs) % 3 == 0
    both = observations(task, show, epochs, examples)
    assert both.shape == (task.length - 1, 2 * runs, len(NAMES)) and both.dtype == np.float32
    for half, mask_ in enumerate((everything, ~everything)):
        part = slice(half * runs, (half + 1) * runs)
        np.testing.assert_array_equal(both[:, part], observations(task, mask_, epochs[part], examples[part]))
    np.testing.assert_array_equal(both[:, :, NAMES.index("has_epochs")], np.tile(epochs, (task.length - 1, 1)))
    np.testing.assert_array_equal(both[:, :, NAMES.index("has_examples")], np.tile(examples, (task.length - 1, 1)))


def test_a_mask_names_features_by_their_groups() -> None:
    assert set(BLIND) < set(GROUPS)
    for groups in (("clock",), ("clock", "probe"), tuple(GROUPS), ()):
        wanted = [float(any(name in GROUPS[group] for group in groups)) for name in NAMES]
        assert mask(groups).tolist() == wanted and mask(groups).dtype == np.float32
