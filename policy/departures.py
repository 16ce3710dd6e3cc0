"""From recorded runs to episodes of one step: what one departure from the base changes at the end of a training.

For a twin that moved once at a later decision, the episode has the observation of that decision, the move as the
action, and as the return the potential of its final loss minus that of its base, which had the same start, batches and
random draws. So following the base has return 0. For a run of a group of levels, the episode has the first observation,
the level as the action, and as the return its potential minus its group's mean. There is no reward before the end,
because a lower rate always lowers the loss at once (short-horizon bias: Wu et al. 2018, arXiv:1803.02021).

Stops are departures that need no twin. A run whose rate falls to almost nothing keeps the validation loss that it has.
So a twin that holds its level shows what the largest cut would have been worth at each of its decisions: its potential
there minus its final one. `experiments/policy/stopped.py` compares stops with recorded cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrpilot.actions import ActionEquation
from policy import mdp
from policy.observations import TaskRecording

DEPARTURES = "departures"  # what agents learn from whose episodes are these
GOLDEN = (5**0.5 - 1) / 2  # its multiples spread evenly over the unit interval, however many there are


@dataclass(frozen=True)
class Departures:
    """Episodes of one step (n,) of one task."""

    runs: np.ndarray  # int: whose they are
    decisions: np.ndarray  # int: at which they act
    actions: np.ndarray  # in [-1, 1]
    returns: np.ndarray


def count(task: TaskRecording, stops: int) -> int:
    """The number of episodes that `departures` returns."""
    return len(_departed(task)[0]) + len(_stopped(task, stops)[0])


def departures(task: TaskRecording, reward: mdp.Reward, equation: ActionEquation, stops: int) -> Departures:
    """All departures of a task's twins, then up to `stops` stops of each. There are none without twins."""
    runs, of_levels = _departed(task)
    group, phi = task.fact("group"), potentials(task, reward)
    final = phi[task.ends, np.arange(task.runs)]
    base = {g: run for run, g in enumerate(group) if task.fact("twin")[run] == 0}
    reference = [final[group == group[run]].mean() if level else final[base[group[run]]]
                 for run, level in zip(runs, of_levels, strict=True)]  # fmt: skip
    anchor, first, nothing = task.column("anchor")[0, runs], task.column("level")[0, runs], np.zeros(len(runs))
    named = equation.invert(anchor, anchor, first, True)
    moved = equation.invert(nothing, anchor, task.fact("departs_by")[runs], False)
    stopped, at = _stopped(task, stops)
    return Departures(
        np.append(runs, stopped), np.append(np.where(of_levels, 0, task.fact("departs_at")[runs]), at),
        np.append(np.where(of_levels, named, moved), np.full(len(at), -1.0)),
        np.append(final[runs] - reference, phi[at, stopped] - final[stopped]),
    )  # fmt: skip


def potentials(task: TaskRecording, reward: mdp.Reward) -> np.ndarray:
    """The potential (D + 1, runs) of a task's runs at each decision and at the end."""
    return mdp.potentials(task.column("val_loss"), task.ends, task.diverged, task.baseline_loss, reward)


def _departed(task: TaskRecording) -> tuple[np.ndarray, np.ndarray]:
    """The twins (n,) whose departure has a known return, and whether each (n,) bool is of a group of levels."""
    group, at = task.fact("group"), task.fact("departs_at")
    of_levels = (group >= 0) & np.isin(group, group[at == 0])
    runs = np.flatnonzero(of_levels | (at > 0))
    return runs, of_levels[runs]


def _stopped(task: TaskRecording, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Twins (n,) and the later decisions (n,) of their stops: for each twin up to `count`, evenly spread over the
    decisions after its last move. Where between two of these points its stops lie differs from twin to twin.
    """
    level, runs, decisions = task.column("level"), [np.empty(0, int)], [np.empty(0, int)]
    for run in np.flatnonzero(task.fact("group") >= 0) if count else ():
        end, moves = task.ends[run], np.flatnonzero(np.diff(level[: task.ends[run], run]))
        earliest = moves[-1] + 2 if len(moves) else 1  # the first decision from which on the run only holds
        if earliest < end:
            spread = earliest + (end - earliest) * (np.arange(count) + run * GOLDEN % 1) / count
            decisions.append(np.unique(spread.astype(int)))
            runs.append(np.full(len(decisions[-1]), run))
    return np.concatenate(runs), np.concatenate(decisions)
