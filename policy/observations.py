"""From recorded trainings to the observations of their pilots, computed by `lrpilot.decisions.observer`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import GROUPS, NAMES
from lrpilot.decisions.network_size import NetworkSize
from lrpilot.decisions.observer import Observer
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from lrpilot.decisions.telemetry import INTERVAL
from lrpilot.probing import probe_curve

BLIND = ("clock",)  # the groups of features that the state-blind control sees


class TaskRecording:
    """The runs of one file as arrays (D + 1, runs) by column; nan past a run's end."""

    def __init__(self, table: pa.Table) -> None:
        start = table["decision"].to_numpy() == 0
        run = np.cumsum(start) - 1
        decision = table["decision"].to_numpy()
        self.runs, self.length = int(run[-1]) + 1, int(decision.max()) + 1
        self.ends = np.bincount(run) - 1  # (runs,) index of each run's last row
        self._place, self._table = (decision, run), table
        heads = self._heads = table.filter(pa.array(start))
        self.n_steps = int(heads["n_steps"][0].as_py())
        self.optimizer = str(heads["optimizer"][0])
        self.steps_per_epoch = float(heads["steps_per_epoch"][0].as_py())
        self.examples = float(heads["examples"][0].as_py())
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

    def fact(self, name: str) -> np.ndarray:
        """Column `name` that is constant in each run, as (runs,)."""
        return self._heads[name].to_numpy()


def observations(
    task: TaskRecording,
    show_val: np.ndarray,
    show_epochs: np.ndarray | bool = True,
    show_examples: np.ndarray | bool = True,
    equation: ActionEquation = ActionEquation(),  # noqa: B008 (frozen)
) -> np.ndarray:
    """(D, n * runs, F) float32: a task's observations at every decision, as the pilots that recorded it made them.

    show_val (D + 1, n * runs) bool: where the validation loss is shown. show_epochs, show_examples, () or (n * runs,)
    bool: whether the length of an epoch and the number of examples are shown. The task's runs are repeated n times,
    each time with other masks. With another `equation` than the recording's, first decisions observe what pilots with
    that equation would have observed.
    """
    runs, copies = show_val.shape[1], show_val.shape[1] // task.runs

    def column(name: str) -> np.ndarray:
        return np.tile(task.column(name), copies)

    epochs, examples = (
        np.where(np.broadcast_to(show, runs), value, np.nan)
        for show, value in ((show_epochs, task.steps_per_epoch), (show_examples, task.examples))
    )
    observer = Observer(runs, task.n_steps, OPTIMIZERS[task.optimizer].is_sgd, epochs, examples)
    fan_in, matrices, weights, scale = (
        np.tile(task.fact(name).astype(float), copies) for name in ("fan_in", "matrices", "weights", "weight_scale")
    )
    observer.set_size(NetworkSize(fan_in, matrices, np.where(np.isnan(fan_in), np.nan, weights), scale))
    c = {n: column("train_loss" if n == "loss_mean" else n) for n in INTERVAL}
    c["val_loss"] = np.where(show_val, c["val_loss"], np.nan)
    step, level, anchor = (column(n) for n in ("step", "level", "anchor"))
    if task.probed:
        loss, grad = (np.tile(a, (copies, 1)) for a in (task.probe_loss, task.probe_grad))
        marks = probe_curve.landmarks(loss, np.tile(task.probe_used, copies))
        edge = equation.edge(marks)
        observer.add_probe(marks, grad, edge, np.tile(task.probe_used, copies) > 0)
    out, still = [], np.zeros(runs)
    observer.add_validation(c["val_loss"][0])
    out.append(observer.observation(step[0], still, anchor[0], still, still, None))
    highest = level[0]
    # Decision 1 closes the grid's first interval, which starts where the longest probe would have ended.
    starts = np.fmax.reduce(step, axis=1)
    starts[0] = task.probe_loss.shape[1] if task.probed else 0
    for d in range(1, task.length - 1):
        interval = {n: c[n][d] for n in INTERVAL}
        observer.add_interval(interval)
        move = level[d - 1] - level[d - 2] if d > 1 else still
        length = int(starts[d] - starts[d - 1])
        out.append(observer.observation(step[d], level[d - 1], anchor[0], highest, move, interval, length))
        highest = np.fmax(highest, level[d])
    return np.stack(out)


def mask(groups: Iterable[str]) -> np.ndarray:
    """(F,) float32: 1 for the features of these groups, else 0."""
    return np.isin(NAMES, [name for group in groups for name in GROUPS[group]]).astype(np.float32)
