"""Recorded runs that held their level: what other levels would have reached, and how runs ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.policy import candidates
from lrpilot import load_policy
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES
from lrpilot.probing import probe_curve
from policy import mdp, trajectories
from policy.observations import TaskRecording, observations

HELD = ("hold", "hold_levels")  # behaviours that hold their level: of a schedule, of twins
BLOWN = NAMES.index("probe_blown")


@dataclass(frozen=True)
class Held:
    """The runs of a task that held a level: levels (n,) in decades from the anchor, ascending, and their
    regrets (n,).
    """

    family: str
    regime: str
    observation: np.ndarray  # (F,) at the first decision, told the size of the data
    untold: np.ndarray  # (F,) the same, not told
    beside: Mapping[str, np.ndarray]  # what it does not hold, by the name of the candidate
    shipped: tuple[float, float]  # levels that the shipped policy names, told and not told, in decades from the anchor
    levels: np.ndarray
    regrets: np.ndarray

    @property
    def blown(self) -> bool:
        """Whether the probe's loss blew up."""
        return bool(self.observation[BLOWN] > 0)

    def regret(self, level: float) -> float:
        """The regret of holding `level`, interpolated."""
        return float(np.interp(level, self.levels, self.regrets))


def read(path: Path) -> Held | None:
    """The held runs of a recorded task; None if it was not probed, or fewer than three runs held a level."""
    table = trajectories.read(path)
    task, which = TaskRecording(table), holding(table)
    if not task.probed or which.sum() < 3:
        return None
    level = task.column("level")[0] - task.column("anchor")[0]
    order = np.flatnonzero(which)[np.argsort(level[which])]
    run = int(order[0])  # the one whose observation stands for the task
    anchor = float(task.column("anchor")[0, run])
    told, untold = _first(task, ActionEquation())[:, run]
    beside = candidates.measure(task, run, anchor + ActionEquation().below_blowup)
    return Held(
        path.parent.name, str(table["regime"][0]), told, untold, beside, _shipped(task, run, anchor), level[order],
        ends(task, which)[order],
    )  # fmt: skip


def _first(task: TaskRecording, equation: ActionEquation) -> np.ndarray:
    """(2, runs, F) observations at the first decision: told the size of the data, and not told."""
    told = np.repeat([True, False], task.runs)
    return observations(task, np.zeros((task.length, len(told)), bool), told, told, equation)[0].reshape(
        2, task.runs, -1
    )


def _shipped(task: TaskRecording, run: int, anchor: float) -> tuple[float, float]:
    """Levels that the shipped policy names in its own decision process, relative to the anchor of the recorded one."""
    policy = load_policy("default")
    equation, marks = policy.protocol.action, probe_curve.landmarks(task.probe_loss, task.probe_used)
    own = equation.edge(marks) - equation.below_blowup
    named = (equation.apply(own, own, policy(first), True)[run] for first in _first(task, equation))
    told, untold = (float(level) - anchor for level in named)
    return told, untold


def regrets(tasks: Sequence[Held], levels: np.ndarray) -> np.ndarray:
    """Regrets (tasks,) of holding these levels (tasks,)."""
    return np.array([task.regret(z) for task, z in zip(tasks, levels, strict=True)])


def holding(table: pa.Table) -> np.ndarray:
    """(runs,) bool: which runs of a recorded task held their level."""
    first = np.equal(table["decision"].to_numpy(), 0)
    return np.isin(np.array(table["schedule"].filter(first).to_pylist()), HELD)


def ends(task: TaskRecording, among: np.ndarray | None = None) -> np.ndarray:
    """(runs,) final regrets of a recorded task's runs against the best of them, or the best of those `among` (runs,)
    bool.
    """
    val = task.column("val_loss")
    loss0 = mdp.initial_loss(val[0], task.baseline_loss)
    final = np.where(task.diverged, np.nan, val[task.ends, np.arange(task.runs)])
    best = mdp.best_loss(final if among is None else final[among], loss0)
    return np.nan_to_num(mdp.regret(final, loss0, best), nan=mdp.WORST)
