"""Loss curves of a probe of 40 steps, written by hand, and probes that climb along such curves."""

import numpy as np

from lrpilot.probing import probe, probe_curve

STEPS = 40
Z = probe_curve.levels(STEPS)


def climb(loss: np.ndarray, others: np.ndarray | None = None, highest: float = np.inf) -> tuple[probe.Probes, int]:
    """Feed a probe step by step, as a pilot does, until it ends: the probe of one run, and the steps that it took.

    loss (probe_steps,) belongs to the levels of the climb. While the climb halts at the lowest level, other batches
    have the losses `others` (probe_steps,) of the suspicious level: by default the same one.
    """
    others, probes = loss if others is None else others, probe.Probes(1, len(loss), highest)
    for step in range(len(loss)):
        checked, level = int(probes.suspect[0]), probes.levels(step)[0]
        at = int(np.flatnonzero(probe_curve.levels(len(loss)) == level)[0])
        assert checked < 0 or at == 0
        if probes.record(step, others[checked] if checked >= 0 else loss[at], 10.0**level)[0]:
            return probes, step + 1
    raise AssertionError("a probe ends with its last step at the latest")


def ends(curve: np.ndarray) -> tuple[int, probe_curve.Landmarks]:
    """Of a curve (STEPS,) whose blow-up every batch confirms: the number of levels that it covers, and landmarks."""
    probes, _ = climb(curve)
    return int(probes.steps[0]), probes.landmarks()


def bump(at: int, descent: float = 0.8) -> np.ndarray:
    """Flat at 2, a straight fall by `descent` over steps 15..25, then an explosion from step `at` on."""
    curve = 2 - descent * np.clip((np.arange(STEPS) - 15) / 10, 0, 1)
    curve[at:] *= 10.0 ** np.arange(1, STEPS - at + 1)
    return curve
