"""The warm-up: how the rates of trainings rise to their levels, after the probe and after a restart.

Deep networks with batch norm, and networks that are fine-tuned, may lose their first weights at a rate that suits them
later. docs/experiments.md has what the warm-up is worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class WarmUp:
    """Factors on the rates of `runs` trainings, which grow linearly to 1 in a share of the steps.

    A factor is (steps since the warm-up began + 0.5) / (share * total_steps), at most 1. A warm-up that has begun keeps
    its length when the total changes. A share of 0 is no warm-up.
    """

    def __init__(self, runs: int, share: float, total_steps: int) -> None:
        """All warm-ups begin with the first step."""
        self._share = share
        self._begin, self._end = np.zeros((2, runs))  # completed steps
        self._first, self._until = (0.0, 0.0), 0.0  # of the first run, begin and end; the last end of any
        self.start(np.ones(runs, bool), 0, total_steps)

    def start(self, which: np.ndarray, step: int, total_steps: int) -> None:
        """Begin the warm-up of the runs `which` (runs,) bool after `step` completed steps."""
        self._begin = np.where(which, step, self._begin)
        self._end = np.where(which, step + self._share * total_steps, self._end)
        self._note()

    @property
    def end(self) -> np.ndarray:
        """(runs,) completed steps at which the latest warm-up ends, or has ended."""
        return self._end

    def factors(self, step: int) -> np.ndarray | float:
        """Factors (runs,) of the step that follows `step` completed ones, or 1.0 if no warm-up is under way."""
        if step >= self._until:
            return 1.0
        return np.minimum((step - self._begin + 0.5) / (self._end - self._begin), 1.0)

    def factor(self, step: float) -> float:
        """The factor of the first run, to the last bit; it uses no numpy, so that steps stay cheap."""
        begin, end = self._first
        return 1.0 if step >= end else min((step - begin + 0.5) / (end - begin), 1.0)

    def _note(self) -> None:
        self._first = float(self._begin[0]), float(self._end[0])
        self._until = float(self._end.max())

    def state_dict(self) -> dict[str, Any]:
        """The state as lists of floats."""
        return {"begin": self._begin.tolist(), "end": self._end.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self._begin, self._end = (np.array(state[name], np.float64) for name in ("begin", "end"))
        self._note()
