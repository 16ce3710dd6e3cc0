"""Recorded trainings -> episodes for offline RL: observations by `lrpilot.features`, rewards by `mdp`.

Episodes end with the budget or a divergence; both are terminal. (The horizon is part of the observation, so a budget
that runs out is an end and no timeout. An episode that ended as a timeout would also lose its last reward.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lrpilot import probe
from lrpilot.features import NAMES, Observer
from lrpilot.telemetry import INTERVAL
from policy import mdp, trajectories

PERIODS = (1, 2, 4)  # decisions between two validations of a run that shows them

# All that the state-blind control sees: the clock and the kind of optimizer, nothing of the training itself.
CLOCK = ("progress", "log_progress", "first", "interval", "log_steps", "is_sgd")


@dataclass(frozen=True)
class Episode:
    """One training: T decisions, F features."""

    observations: np.ndarray  # (T, F) float32
    actions: np.ndarray  # (T, 1) float32 in [-1, 1]
    rewards: np.ndarray  # (T, 1) float32


@dataclass(frozen=True)
class Masks:
    """What of the optional telemetry a run shows, drawn per run, so that one policy serves every caller."""

    validation: float  # share of runs that hide the validation loss
    epochs: float  # share of runs that hide the length of an epoch


class Task:
    """The runs of one file as arrays (D + 1, runs) by column; past a run's end: nan."""

    def __init__(self, table: pa.Table) -> None:
        start = table["decision"].to_numpy() == 0
        run = np.cumsum(start) - 1
        decision = table["decision"].to_numpy()
        self.runs, self.length = int(run[-1]) + 1, int(decision.max()) + 1
        self.ends = np.bincount(run) - 1  # (runs,) index of each run's last row
        self._place, self._table = (decision, run), table
        heads = table.filter(pa.array(start))
        self.n_steps = int(heads["n_steps"][0].as_py())
        self.optimizer = str(heads["optimizer"][0])
        self.steps_per_epoch = float(heads["steps_per_epoch"][0].as_py())
        self.baseline_loss = float(heads["baseline_loss"][0].as_py())
        self.diverged = np.zeros(self.runs, bool)
        self.diverged[run[table["reason"].to_numpy() == "diverged"]] = True
        self.probed = bool(heads["probed"][0].as_py())
        if self.probed:
            self.probe_loss, self.probe_grad = (
                np.array(heads[n].to_pylist(), float) for n in ("probe_loss", "probe_grad")
            )
            self.probe_used = heads["probe_used"].to_numpy()

    def column(self, name: str) -> np.ndarray:
        """Column `name` as (D + 1, runs) float64."""
        out = np.full((self.length, self.runs), np.nan)
        out[self._place] = self._table[name].to_numpy()
        return out


def observations(task: Task, show_val: np.ndarray, steps_per_epoch: np.ndarray) -> np.ndarray:
    """(D, runs, F) float32 of a task's decisions, as the pilots that recorded it saw them.

    show_val (D + 1, runs) bool: where the validation loss is shown; steps_per_epoch (runs,): nan hides it.
    """
    observer = Observer(task.runs, task.n_steps, task.optimizer == "sgd", steps_per_epoch)
    c = {n: task.column("train_loss" if n == "loss_mean" else n) for n in INTERVAL}
    c["val_loss"] = np.where(show_val, c["val_loss"], np.nan)
    step, level, anchor = (task.column(n) for n in ("step", "level", "anchor"))
    if task.probed:
        marks = probe.landmarks(task.probe_loss, task.probe_used)
        observer.see_probe(marks, task.probe_grad, np.ones(task.runs, bool))
    out, still = [], np.zeros(task.runs)
    observer.see_validation(c["val_loss"][0])
    out.append(observer.observation(step[0], still, anchor[0], still, still, None))
    highest = level[0]
    # Decision 1 closes the grid's first interval, which starts where the longest probe would have ended.
    starts = np.fmax.reduce(step, axis=1)
    starts[0] = task.probe_loss.shape[1] if task.probed else 0
    for d in range(1, task.length - 1):
        interval = {n: c[n][d] for n in INTERVAL}
        observer.see_interval(interval)
        move = level[d - 1] - level[d - 2] if d > 1 else still
        length = int(starts[d] - starts[d - 1])
        out.append(observer.observation(step[d], level[d - 1], anchor[0], highest, move, interval, length))
        highest = np.fmax(highest, level[d])
    return np.stack(out)


def episodes(paths: Sequence[Path], reward: mdp.Reward, masks: Masks, seed: int) -> list[Episode]:
    """All runs of the given files, masked by draws from `seed`. Raises TrajectoryError for a damaged file."""
    rng, out = np.random.default_rng(seed), []
    for path in paths:
        task = Task(trajectories.read(path))
        hidden = rng.random(task.runs) < masks.validation
        period = rng.choice(PERIODS, task.runs)
        shown = ~hidden & (np.arange(task.length)[:, None] % period == 0)
        epochs = np.where(rng.random(task.runs) < masks.epochs, np.nan, task.steps_per_epoch)
        seen = observations(task, shown, epochs)
        gains = mdp.rewards(task.column("val_loss"), task.ends, task.diverged, task.baseline_loss, reward)
        actions = task.column("action")
        for i, t in enumerate(task.ends):
            columns = (a[:t, i, None].astype(np.float32) for a in (actions, gains))
            out.append(Episode(seen[:t, i], *columns))
    return out


def clock_mask() -> np.ndarray:
    """(F,) float32: 1 for the features of CLOCK, else 0."""
    return np.isin(NAMES, CLOCK).astype(np.float32)


def blinded(data: Sequence[Episode]) -> list[Episode]:
    """The same episodes for an agent that sees the clock alone."""
    return [replace(e, observations=e.observations * clock_mask()) for e in data]
