"""Recorded runs that held their level, under linear decay: what other levels would have come to, and how runs ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from lrpilot import probe
from lrpilot.actions import reference
from lrpilot.cadence import Cadence
from lrpilot.pilot import Protocol
from pipeline.simulation.simulate import kind_of
from pipeline.workloads.families import family
from pipeline.workloads.population import Population
from policy import mdp, trajectories
from policy.observations import TaskRecording, observations

HELD = "linear"  # the behaviour that holds its level
MOVED = (0.003, 0.03, 0.3)  # shares of the norm of the weights


@dataclass(frozen=True)
class Held:
    """The runs of a task that held a level: levels (n,) in decades from the anchor, ascending, regrets (n,)."""

    family: str
    observation: np.ndarray  # (F,) at the first decision
    beside: Mapping[str, np.ndarray]  # what the observation does not hold, by name
    levels: np.ndarray
    regrets: np.ndarray

    def regret(self, level: float) -> float:
        """What holding `level` would come to."""
        return float(np.interp(level, self.levels, self.regrets))


def read(path: Path) -> Held | None:
    """Of a recorded task; None where it was not probed, or less than three runs held a level."""
    table = trajectories.read(path)
    task, which = TaskRecording(table), holding(table)
    if not task.probed or which.sum() < 3:
        return None
    regret = ends(task)
    level = task.column("level")[0] - task.column("anchor")[0]
    order = np.flatnonzero(which)[np.argsort(level[which])]
    first = observations(task, np.zeros((task.length, task.runs), bool))[0]
    run = int(order[0])  # the one whose observation stands for the task
    anchor = float(task.column("anchor")[0, run])
    beside = weights(path.parent.name, int(table["seed"][0].as_py()), int(task.probe_used[run]), anchor, run)
    return Held(path.parent.name, first[run], beside, level[order], regret[order])


def holding(table: pa.Table) -> np.ndarray:
    """(runs,) bool: which runs of a recorded task held their level."""
    first = np.equal(table["decision"].to_numpy(), 0)
    return np.array(table["schedule"].filter(first).to_pylist()) == HELD


def ends(task: TaskRecording) -> np.ndarray:
    """(runs,) regrets of a recorded task's runs against the best of them."""
    val = task.column("val_loss")
    loss0 = mdp.initial_loss(val[0], task.baseline_loss)
    final = np.where(task.diverged, np.nan, val[task.ends, np.arange(task.runs)])
    return np.nan_to_num(mdp.regret(final, loss0, mdp.best_loss(final, loss0)), nan=mdp.WORST)


def weights(name: str, seed: int, steps: int, anchor: float, run: int = 0) -> dict[str, np.ndarray]:
    """Of a run of the task that `seed` draws from the family `name`, by a probe of `steps` steps that is run again:

    `size` (1,), log10 of the number of weights; `moved` (3,), the levels, in decades from the anchor, after which the
    probe has moved the weights by each of MOVED.
    """
    torch.set_num_threads(1)
    workload = family(name).sample(np.random.default_rng(seed))
    population = Population(workload, [seed + run])
    start = population.state.weights.clone()
    z = probe.levels(Cadence(Protocol().cadence, workload.n_steps, True).probe_steps)[:steps]
    moved = np.empty(steps)
    for step, level in enumerate(z):
        population.train_step(step, np.array([10 ** (reference(kind_of(workload)) + level)]))
        moved[step] = float((population.state.weights - start).norm() / start.norm())
    farthest = np.maximum.accumulate(np.nan_to_num(moved, nan=np.inf, posinf=1e9).clip(1e-9, 1e9))
    reached = np.interp(np.log10(MOVED), np.log10(farthest), z) - anchor
    return {"size": np.array([np.log10(population.n_params)]), "moved": reached}
