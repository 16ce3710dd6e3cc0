"""Reward and returns of the decision process.

A run's potential after a validation loss V, on a task with initial loss L0 and best final loss Lbest of all its runs:

    phi(V) = loss_weight * clip(lg(L0 / V), -1, 3)
             - regret_weight * lg(clip((V - Lbest) / (L0 - Lbest), 0, 1.5) + knee)

The reward of a decision is the gain in potential until the next one (potential-based shaping: Ng et al. 1999), so the
rewards of a run add up to phi(end) - phi(start). The first term counts decades of loss in any unit. The second puts all
tasks on one scale. It rewards the last gains towards the best known loss, and the smaller `knee` is, the more. Three
rules apply at the end of a run: its potential is measured on the whole validation set; a diverged run has the potential
`floor`; and the mean return of the task's runs is subtracted. This baseline (as in Greensmith et al. 2004) changes no
task's ranking of actions, but the critic need not learn how hard a task is.
"""

from __future__ import annotations

import numpy as np

from policy.settings import Reward

ROOM = 0.01  # least (L0 - Lbest) / L0: where no run gained more, rounding errors must not decide
WORST = 1.5  # regret at most


def initial_loss(val_loss: np.ndarray, baseline_loss: float) -> float:
    """L0 of a task: the mean loss at the start of its runs (runs,), or the best constant prediction's if that is lower.

    (Unusual initial scales give losses of hundreds. Compared with these, every training would look perfect.)
    """
    return float(min(np.nanmean(val_loss), baseline_loss))


def best_loss(final: np.ndarray, loss0: float) -> float:
    """Lbest of a task from the final losses of its runs (runs,). A nan is ignored."""
    finite = final[np.isfinite(final)]
    return float(min(finite.min(), loss0)) if len(finite) else loss0


def regret(val_loss: np.ndarray, loss0: float, best: float) -> np.ndarray:
    """(V - Lbest) / (L0 - Lbest) of validation losses of any shape, clipped to 0 and `WORST`; nan stays nan."""
    return np.clip((val_loss - best) / max(loss0 - best, ROOM * loss0), 0.0, WORST)


def potential(val_loss: np.ndarray, loss0: float, best: float, reward: Reward) -> np.ndarray:
    """phi of validation losses of any shape. A loss that is not finite gives `floor`."""
    with np.errstate(all="ignore"):
        gain = np.clip(np.log10(loss0 / np.maximum(val_loss, 1e-12)), -1.0, 3.0)
        missing = np.log10(regret(val_loss, loss0, best) + reward.knee)
        phi = reward.loss_weight * gain - reward.regret_weight * missing
    return np.where(np.isfinite(val_loss), np.maximum(phi, reward.floor), reward.floor)


def potentials(
    val_loss: np.ndarray, ends: np.ndarray, diverged: np.ndarray, baseline_loss: float, reward: Reward
) -> np.ndarray:
    """phi (D + 1, runs) of one task's runs at each decision and at the end.

    val_loss (D + 1, runs): at each decision and at the end; row `ends[i]` is the last row of run i. ends (runs,) int;
    diverged (runs,) bool.
    """
    columns = np.arange(len(ends))
    loss0 = initial_loss(val_loss[0], baseline_loss)
    final = np.where(diverged, np.nan, val_loss[ends, columns])
    phi = potential(val_loss, loss0, best_loss(final, loss0), reward)
    phi[ends, columns] = np.where(diverged, reward.floor, phi[ends, columns])
    return phi


def rewards(
    val_loss: np.ndarray, ends: np.ndarray, diverged: np.ndarray, baseline_loss: float, reward: Reward
) -> np.ndarray:
    """Rewards (D, runs) of one task's runs, whose arguments are those of `potentials`: of decision d, 0 past a run's
    end.
    """
    phi = potentials(val_loss, ends, diverged, baseline_loss, reward)
    gains = np.where(np.arange(len(phi) - 1)[:, None] < ends, np.diff(phi, axis=0), 0.0)
    gains[ends - 1, np.arange(len(ends))] -= gains.sum(axis=0).mean()
    return gains
