"""From recorded runs to episodes of one step: what one departure from the base changes at the end of a training.

For a twin that moved once at a later decision, the episode has the observation of that decision, the move as the
action, and as the return the potential of its final loss minus that of its base, which had the same start, batches and
random draws. So following the base has return 0. For a run of a group of levels, the episode has the first observation,
the level as the action, and as the return its potential minus its group's mean. There is no reward before the end,
because a lower rate always lowers the loss at once (short-horizon bias: Wu et al. 2018, arXiv:1803.02021).

Other departures are inferred: no twin made them, but the recorded runs tell what they are worth.

- Stops: a training whose rate falls to almost nothing keeps the validation loss that it has. So a twin that holds its
  level shows what the largest cut would have been worth at each of its decisions: its potential there minus its final
  one.
- Corrections: early in a training, a twin of a group of levels that moves to the level of another one ends about where
  that one does, which had this level from the start. So its return is the other's final potential minus its own.

docs/experiments.md has how well both agree with recorded departures.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from policy import mdp
from policy.observations import TaskRecording
from policy.settings import Inferred, Reward

NOTHING_INFERRED = Inferred(0, 0)
EARLY = 0.2  # share of the steps in which a level can be corrected as if it had never been another
GOLDEN = (5**0.5 - 1) / 2  # its multiples spread evenly over the unit interval, however many there are


@dataclass(frozen=True)
class Departures:
    """Episodes of one step (n,) of one task."""

    runs: np.ndarray  # int: whose they are
    decisions: np.ndarray  # int: at which they act
    actions: np.ndarray  # in [-1, 1]
    returns: np.ndarray


def count(task: TaskRecording, equation: ActionEquation, inferred: Inferred) -> int:
    """The number of episodes that `departures` returns."""
    stopped, corrected = _stopped(task, inferred.stops), _corrected(task, equation, inferred.corrections)
    return len(_departed(task)[0]) + len(stopped[0]) + len(corrected[0])


def departures(task: TaskRecording, reward: Reward, equation: ActionEquation, inferred: Inferred) -> Departures:
    """Departures of a task's twins, then stops, then corrections. There are none without twins."""
    runs, of_levels = _departed(task)
    group, phi = task.fact("group"), potentials(task, reward)
    final, level, anchor = phi[task.ends, np.arange(task.runs)], task.column("level")[0], task.column("anchor")[0]
    base = bases(task)
    reference = [final[group == group[run]].mean() if first else final[base[int(group[run])]]
                 for run, first in zip(runs, of_levels, strict=True)]  # fmt: skip
    named = equation.invert(anchor[runs], anchor[runs], level[runs], True)

    def moves(runs: np.ndarray, by: np.ndarray) -> np.ndarray:
        return equation.invert(np.zeros(len(runs)), anchor[runs], by, False)

    made = Departures(
        runs, np.where(of_levels, 0, task.fact("departs_at")[runs]),
        np.where(of_levels, named, moves(runs, task.fact("departs_by")[runs])), final[runs] - reference,
    )  # fmt: skip
    runs, at = _stopped(task, inferred.stops)
    stops = Departures(runs, at, np.full(len(runs), -1.0), phi[at, runs] - final[runs])
    runs, others, at = _corrected(task, equation, inferred.corrections)
    corrections = Departures(runs, at, moves(runs, level[others] - level[runs]), final[others] - final[runs])
    return Departures(*(np.concatenate(parts) for parts in zip(*map(astuple, (made, stops, corrections)), strict=True)))


def bases(task: TaskRecording) -> dict[int, int]:
    """For each group the run that its twins depart from."""
    return {int(group): run for run, group in enumerate(task.fact("group")) if task.fact("twin")[run] == 0}


def potentials(task: TaskRecording, reward: Reward) -> np.ndarray:
    """The potential (D + 1, runs) of a task's runs at each decision and at the end."""
    return mdp.potentials(task.column("val_loss"), task.ends, task.diverged, task.baseline_loss, reward)


def _departed(task: TaskRecording) -> tuple[np.ndarray, np.ndarray]:
    """The twins (n,) whose departure has a known return, and whether each (n,) bool is of a group of levels."""
    group, at = task.fact("group"), task.fact("departs_at")
    of_levels = (group >= 0) & np.isin(group, group[at == 0])
    runs = np.flatnonzero(of_levels | (at > 0))
    return runs, of_levels[runs]


def _stopped(task: TaskRecording, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Twins (n,) and the later decisions (n,) of their stops, spread evenly over the decisions after their last
    move.
    """
    level, rows = task.column("level"), [np.empty((0, 2), int)]
    for run in np.flatnonzero(task.fact("group") >= 0).tolist() if count else ():
        after = np.arange(settled(level[: task.ends[run], run]), task.ends[run])
        rows.append(np.column_stack(np.broadcast_arrays(run, _spread(after, count, run))))
    return tuple(np.concatenate(rows).T)


def _corrected(task: TaskRecording, equation: ActionEquation, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twins (n,) of groups of levels, the twins (n,) to whose level they move, and when (n,): early decisions."""
    group, level, step = task.fact("group"), task.column("level"), task.column("step")
    runs, of_levels = _departed(task)
    rows = [np.empty((0, 3), int)]
    for run in runs[of_levels] if count else ():
        by, end = level[0] - level[0, run], task.ends[run]
        others = np.flatnonzero((group == group[run]) & (by >= -equation.fall) & (by <= equation.rise) & (by != 0))
        early = np.arange(settled(level[:end, run]), np.sum(step[:end, run] <= EARLY * task.n_steps))
        if len(early):
            others = _spread(others, count, run)
            place = (run * count + np.arange(len(others))) * GOLDEN % 1
            rows.append(np.column_stack(np.broadcast_arrays(run, others, early[(place * len(early)).astype(int)])))
    return tuple(np.concatenate(rows).T)


def settled(levels: np.ndarray) -> int:
    """The first later decision from which on a run only holds, given its levels (D,)."""
    moves = np.flatnonzero(np.diff(levels))
    return int(moves[-1]) + 2 if len(moves) else 1


def _spread(values: np.ndarray, count: int, run: int) -> np.ndarray:
    """At most `count` of the values, evenly spread. Where they begin differs from run to run."""
    if not len(values):
        return values
    return values[np.unique((len(values) * (np.arange(count) + run * GOLDEN % 1) / count).astype(int))]
