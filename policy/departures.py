"""From twins to episodes of one step: what one departure from the base changes at the end of a training.

For a twin that moved once at a later decision, the episode has the observation of that decision, the move as the
action, and as the return the potential of its final loss minus that of its base, which had the same start, batches and
random draws. So following the base has return 0. For a run of a group of levels, the episode has the first observation,
the level as the action, and as the return its potential minus its group's mean. There is no reward before the end,
because a lower rate always lowers the loss at once (short-horizon bias: Wu et al. 2018, arXiv:1803.02021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrpilot.actions import ActionEquation
from policy import mdp
from policy.observations import TaskRecording

DEPARTURES = "departures"  # what agents learn from whose episodes are these


@dataclass(frozen=True)
class Departures:
    """Episodes of one step (n,) of one task."""

    runs: np.ndarray  # int: whose they are
    decisions: np.ndarray  # int: at which they act
    actions: np.ndarray  # in [-1, 1]
    returns: np.ndarray


def departed(group: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs (n,) with a known return, and whether each (n,) bool is of a group of levels.

    `group` and `at` (runs,) are the group of every run, and the decision at which it departs.
    """
    of_levels = (group >= 0) & np.isin(group, group[at == 0])
    runs = np.flatnonzero(of_levels | (at > 0))
    return runs, of_levels[runs]


def departures(task: TaskRecording, reward: mdp.Reward, equation: ActionEquation) -> Departures:
    """All departures of a task's twins; empty if its runs are not twins."""
    group, val_loss = task.fact("group"), task.column("val_loss")
    runs, of_levels = departed(group, task.fact("departs_at"))
    loss0 = mdp.initial_loss(val_loss[0], task.baseline_loss)
    final = np.where(task.diverged, np.nan, val_loss[task.ends, np.arange(task.runs)])
    phi = mdp.potential(final, loss0, mdp.best_loss(final, loss0), reward)
    base = {g: run for run, g in enumerate(group) if task.fact("twin")[run] == 0}
    reference = [phi[group == group[run]].mean() if level else phi[base[group[run]]]
                 for run, level in zip(runs, of_levels, strict=True)]  # fmt: skip
    anchor, first, nothing = task.column("anchor")[0, runs], task.column("level")[0, runs], np.zeros(len(runs))
    named = equation.invert(anchor, anchor, first, True)
    moved = equation.invert(nothing, anchor, task.fact("departs_by")[runs], False)
    return Departures(
        runs, np.where(of_levels, 0, task.fact("departs_at")[runs]), np.where(of_levels, named, moved),
        phi[runs] - np.array(reference),
    )  # fmt: skip
