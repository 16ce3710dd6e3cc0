"""From an action to a learning rate, and back.

    lr(step) = 10 ** (ref + z) * (1 - (step + 0.5) / N)

`z` is the level in decades over the optimizer kind's reference. The first action sets it about an anchor, which the
probe found; every later one moves it: z <- clip(z + move * a). The linear envelope to zero is part of the equation
(Defazio et al. 2023, "When, why and how much?", arXiv:2310.07831: linear decay is optimal for the last iterate), so
that holding the level is already a good schedule and a policy only has to correct it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REFERENCE = {"adam": -3.0, "adamw": -3.0, "sgd": -1.0}  # log10 of the textbook learning rate


@dataclass(frozen=True)
class ActionEquation:
    """The part of a bundle's manifest that turns actions in [-1, 1] into levels z, in decades."""

    first: float = 2.5  # the first action spans anchor +- this
    move: float = 0.5  # a later one moves the level by at most this
    low: float = -4.0  # bounds of z
    high: float = 3.0
    anchor: float = -1.0  # anchor of a training without a probe
    below_blowup: float = 2.0  # the probe's anchor lies this far below the blow-up

    def apply(self, level: np.ndarray, anchor: np.ndarray, action: np.ndarray, first: bool) -> np.ndarray:
        """New level (runs,) after `action` (runs,) in [-1, 1]; actions outside are clipped."""
        action = np.clip(action, -1.0, 1.0)
        target = anchor + self.first * action if first else level + self.move * action
        return np.clip(target, self.low, self.high)

    def invert(self, level: np.ndarray, anchor: np.ndarray, wanted: np.ndarray, first: bool) -> np.ndarray:
        """The action (runs,) that comes closest to the level `wanted` (runs,)."""
        wanted = np.clip(wanted, self.low, self.high)
        action = (wanted - anchor) / self.first if first else (wanted - level) / self.move
        return np.clip(action, -1.0, 1.0)


def envelope(step: float | np.ndarray, total_steps: int) -> float | np.ndarray:
    """Factor on the learning rate of the step that follows `step` completed ones; what lies beyond N keeps the last."""
    return 1.0 - (np.minimum(step, total_steps - 1) + 0.5) / total_steps


def reference(optimizer: str) -> float:
    """log10 of the reference learning rate of an optimizer kind."""
    if optimizer not in REFERENCE:
        raise ValueError(f"optimizer: {optimizer!r}, want one of {sorted(REFERENCE)}")
    return REFERENCE[optimizer]
