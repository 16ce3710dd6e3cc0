"""Twins -> episodes of one step: what one departure from the base changes at the end of a training.

A twin that moved once at a later decision has the observation of that decision, the move as an action, and as return
the potential of its final loss less that of its base, which had the same start, batches and draws. So following the
base has return 0. A run of a group of levels has the first observation, its level as an action, and as return its
potential less its group's mean. Nothing is paid before the end: whatever lowers the rate lowers the loss at once
(short-horizon bias: Wu et al. 2018, arXiv:1803.02021).
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
    """Runs (n,) that a return is known of, and whether each (n,) bool differs from its twins in the first level; by the
    group and the decision of the departure (runs,) of each."""
    of_levels = (group >= 0) & np.isin(group, group[at == 0])
    runs = np.flatnonzero(of_levels | (at > 0))
    return runs, of_levels[runs]


def departures(task: TaskRecording, reward: mdp.Reward, equation: ActionEquation) -> Departures:
    """All departures that a task's twins made; none where its runs are not twins."""
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
