"""Loss curves of a probe of 40 steps, written by hand."""

import numpy as np

from lrpilot import probe

STEPS = 40
Z = probe.levels(STEPS)


def ends(curve: np.ndarray) -> tuple[int, probe.Landmarks]:
    """Feed one curve step by step, as a pilot does: steps used and landmarks."""
    loss = np.full((1, STEPS), np.nan)
    for done in range(1, STEPS + 1):
        loss[0, done - 1] = curve[done - 1]
        if probe.has_ended(loss, done)[0]:
            return done, probe.landmarks(loss, np.array([done]))
    raise AssertionError("a probe ends with its last step at the latest")


def bump(at: int, descent: float = 0.8) -> np.ndarray:
    """Flat at 2, a straight fall by `descent` over steps 15..25, then an explosion from step `at` on."""
    curve = 2 - descent * np.clip((np.arange(STEPS) - 15) / 10, 0, 1)
    curve[at:] *= 10.0 ** np.arange(1, STEPS - at + 1)
    return curve
