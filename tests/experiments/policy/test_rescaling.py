"""Runs of a store, shifted, are what a replay of their rescaled telemetry observes."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy.rescaling import rescale
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES
from lrpilot.probing.probe_curve import HIGH
from pipeline.simulation.recording import Spec, record
from policy import trajectories
from policy.observations import TaskRecording, observations
from policy.settings import Reward
from policy.store import CHANGING, DECISION, RUN, Store, build

REWARD = Reward(loss_weight=0.0, regret_weight=3.0, knee=1.0, floor=-1.5)


class Rescaled(TaskRecording):
    """A recording under Adam whose weights are those recorded over s; run i's level is shifted by shift[i] decades."""

    def __init__(self, path: Path, shift: np.ndarray) -> None:
        super().__init__(trajectories.read(path))
        self._shift = shift

    def column(self, name: str) -> np.ndarray:
        decades = {"weight_norm": 1.0, "update_norm": 1.0, "grad_norm": -1.0}.get(name, 0.0)
        moves = name == "level" or (name == "anchor" and self.probed)
        return super().column(name) * 10 ** (decades * self._shift) + moves * self._shift


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A task with a probe and one without, both of Adam."""
    folder, out = tmp_path_factory.mktemp("trajectories"), []
    for seed, probed in ((3, True), (4, False)):
        spec = Spec(
            "spirals", seed, 6, probed, (("constant", 1.0), ("linear", 1.0)), (), (0.3, 0.95), None, 32, "cpu", "test"
        )
        out.append(folder / f"{seed}.parquet")
        trajectories.store(record(spec), out[-1])
        assert TaskRecording(trajectories.read(out[-1])).optimizer != "sgd"
    return out


def place(name: str) -> int:
    return DECISION.index((name, 0))


def test_a_rescaled_store_is_the_replay_of_rescaled_telemetry(paths: list[Path], tmp_path: Path) -> None:
    for path in paths:
        build([path], REWARD, tmp_path)
        before = {name: np.array(getattr(Store.open(tmp_path), name)) for name in ("constants", "rewards", "actions")}
        shift = rescale(tmp_path, 0.5)
        store, task = Store.open(tmp_path), Rescaled(path, shift)
        made = observations(task, np.zeros((task.length, task.runs), bool))  # (D, runs, F)
        for run, (begin, end) in enumerate(zip(store.starts[:-1], store.starts[1:] - 1, strict=True)):
            wanted = made[: end - begin, run][:, [NAMES.index(name) for name in CHANGING]]
            columns = [place(name) for name in CHANGING]
            np.testing.assert_allclose(store.decisions[begin:end, columns], wanted, atol=1e-5)
        assert not store.decisions[store.starts[1:] - 1].any()  # ends
        np.testing.assert_array_equal(store.rewards, before["rewards"])
        begin, span = store.starts[:-1], ActionEquation().span
        blown = before["constants"][:, RUN.index(("probe_blown", 0))] > 0
        assert (shift[~blown] == 0).all() if task.probed else shift.std() > 0.1
        np.testing.assert_allclose(
            (store.actions - before["actions"])[begin] * span, 0 if task.probed else shift, atol=1e-5
        )
        moved = store.constants - before["constants"]
        at = RUN.index(("probe_blowup", 0))
        np.testing.assert_allclose(moved[:, at], 0.5 * shift if task.probed else 0, atol=1e-6)
        assert not np.delete(moved, at, axis=1).any()


def test_shifts_keep_blow_ups_and_first_actions_within_reach(paths: list[Path], tmp_path: Path) -> None:
    build(paths, REWARD, tmp_path)
    rescale(tmp_path, 20.0)
    store = Store.open(tmp_path)
    assert (np.abs(store.actions) <= 1 + 1e-6).all()
    assert (store.constants[:, RUN.index(("probe_blowup", 0))] <= 0.5 * HIGH + 1e-6).all()
