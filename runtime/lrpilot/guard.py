"""What happens when a training or a policy misbehaves: the last word on an action.

Events, in order of precedence:
    loss_missing      no loss was reported in the interval: hold the level
    loss_nonfinite    the interval's loss is nan or inf: cut the level as far as one decision can
    loss_runaway      the interval's loss is above `RUNAWAY` times the loss before training: the same
    action_nonfinite  the policy answered nan or inf: hold the level
"""

from __future__ import annotations

import numpy as np

RUNAWAY = 3.0


class GuardError(RuntimeError):
    """A strict pilot met what the guard would have handled."""


def guard(
    action: np.ndarray,
    hold: np.ndarray,
    cut: np.ndarray,
    loss: np.ndarray | None,
    loss0: np.ndarray,
    missing: bool = False,
) -> tuple[np.ndarray, list[str | None]]:
    """Actions (runs,) that may be applied, and what was done to each.

    `hold` and `cut` (runs,) are the actions that keep the level and that lower it as far as one decision can; loss
    (runs,) is None at decision 0; `missing` says that a nan loss stands for "not reported".
    """
    events: list[str | None] = [None] * len(action)
    safe = np.array(action, np.float64)
    for i, a in enumerate(safe):
        if loss is not None and missing:
            safe[i], events[i] = hold[i], "loss_missing"
        elif loss is not None and not np.isfinite(loss[i]):
            safe[i], events[i] = cut[i], "loss_nonfinite"
        elif loss is not None and loss0[i] > 0 and loss[i] > RUNAWAY * loss0[i]:
            safe[i], events[i] = cut[i], "loss_runaway"
        elif not np.isfinite(a):
            safe[i], events[i] = hold[i], "action_nonfinite"
    return safe, events
