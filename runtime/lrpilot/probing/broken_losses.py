"""Losses of a probe that are not finite, or wild: the learning rate's doing, or the data's?

A rate that is too high announces itself. The curve has risen before the loss overflows: of 8,130 recorded probes that
blew up none ended with a loss that was not finite, and two with one `WILD` times those before, unless it had risen
first. A loss that breaks unannounced may still be the rate's doing, so it is put to the test. The weights go back to
where the probe began, the step is left out of the curve, and the climb goes on at the next level. Then

    the next loss breaks as well      the weights were those of the start: that step is left out, too
    the loss is good, and breaks      the rate is to blame: the probe has blown up where the loss broke first. Below
    soon afterwards                   `SUSPICIOUS` this has to happen twice, and below `HARMLESS` nothing proves it
    `WITHIN` losses are good          the data were to blame

Where the very first losses are wild, those that follow show it. A probe that has left out more than `SKIPS` steps ends
without any evidence. All arrays are (runs,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.text import counted

WILD = 1e4  # times the largest loss on the curve, from which on a loss is as good as none
FIRST = 30.0  # times two losses by which those before them, if few, were wild: no lowest rate gains as much
WITHIN = 3  # good losses after the weights were put back that clear the rate: the first is that of the start
HARMLESS, SUSPICIOUS = -1.0, 0.0  # levels: below the one hardly any training blows up, above the other many do
SKIPS = 8  # steps that a probe may leave out


class BrokenLosses:
    """What is known of the broken losses of `runs` probes."""

    def __init__(self, runs: int) -> None:
        self.skips = np.zeros(runs, np.int64)  # steps left out so far
        self.data_faults = np.zeros(runs, np.int64)  # those of them that turned out to be the data's fault
        self.first_broken = np.full(runs, -1)  # column at which the loss broke first, where that is undecided; else -1
        self.repeats = np.zeros(runs, np.int64)  # times that it broke again, at weights that were trained a little
        self.since = np.zeros(runs, np.int64)  # good losses since the weights were put back

    @property
    def any_left_out(self) -> bool:
        """Whether any run has left out a step."""
        return bool(self.skips.any())

    @property
    def undecided(self) -> np.ndarray:
        """(runs,) bool: whether a loss broke and nothing has shown yet that the rate, or the data, did it."""
        return self.first_broken >= 0

    def column(self, run: int) -> int:
        """The column at which the loss of an undecided run broke first."""
        return int(self.first_broken[run])

    def leave_out(self, which: np.ndarray, steps: np.ndarray) -> None:
        """Leave out so many steps (runs,) of the runs `which`, which were the data's fault."""
        self.skips[which] += steps[which]
        self.blame_data(which)

    def add_good(self, which: np.ndarray) -> None:
        """Note that the runs `which` have a loss for their curve."""
        self.since += which
        cleared = which & self.undecided & (self.since >= WITHIN)
        if cleared.any():
            self.blame_data(cleared)

    def blame_data(self, which: np.ndarray) -> None:
        """Blame the data for what the runs `which` have left out so far."""
        self.data_faults[which] = self.skips[which]
        self.first_broken[which], self.repeats[which] = -1, 0

    def add_broken(self, which: np.ndarray, at: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Leave columns `at` (runs,), of levels z (runs,), of the runs `which` out.

        Returns who has blown up at column `first_broken`, and who has left out too many steps, (runs,) bool each.
        """
        again = which & self.undecided & (self.since > 0)
        first = which & ~self.undecided
        self.first_broken[first] = at[first]
        self.repeats[again] += 1
        self.skips[which] += 1
        self.since[which] = 0
        blown = again & (z >= HARMLESS) & (self.repeats >= np.where(z >= SUSPICIOUS, 1, 2))
        return blown, which & ~blown & (self.skips > SKIPS)

    def message(self, evident: bool) -> str:
        """Say what a person should know of the first run's probe, which has ended; empty if nothing."""
        left_out = int((self.data_faults if evident else self.skips)[0])
        steps = counted(str(left_out), "step")
        said = f"probe: not finite, or above {WILD:g} times those before, was the loss of {steps}"
        fault = ": taken for the data's fault, and left out"
        none = ": it has ended without evidence, and the training begins as one without a probe"
        return said + (fault if evident else none) if left_out else ""

    def state_dict(self) -> dict[str, Any]:
        """The arrays as lists of numbers."""
        return {name: array.tolist() for name, array in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name, array in vars(self).items():
            setattr(self, name, np.array(state[name], array.dtype))
