"""Recorded runs as runs of other workloads, exactly: data from little.

With weights w = s v, the run of a module of w is, step by step, a run of the module of v whose rates are those of w
over s under Adam's kin and over s^2 under SGD: losses, cosines and ratios are the same, norms of weights and updates
are over s, those of gradients s times as high. So the level shifts by -lg s or -2 lg s, and with it what the probe says
of levels. Observations are dimensionless: of all features, `level` and `probe_blowup` alone change, and without a
probe, where the anchor stays, `level_to_anchor` and the first action. Rewards stay.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrpilot.actions import ActionEquation
from lrpilot.features import BY_NAME, CLIP
from lrpilot.probe import HIGH
from policy.store import DECISION, RUN


def rescale(folder: Path, deviation: float, seed: int = 0) -> np.ndarray:
    """Shift the runs of a built store by normal draws, in place; the shifts (runs,) in decades.

    A run whose probe did not blow up stays, for where it would have is not known. No shift takes a blow-up out of the
    probe's reach, or a first action out of its own.
    """
    decisions, actions, constants = (
        np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("decisions", "actions", "constants")
    )
    starts, span = np.load(folder / "starts.npy"), ActionEquation().span
    probed, blown, blowup = (constants[:, RUN.index((name, 0))] for name in ("probed", "probe_blown", "probe_blowup"))
    probed, begin = probed > 0, starts[:-1]
    shift = np.random.default_rng(seed).normal(0, deviation, len(probed))
    reach = np.where(probed, HIGH - blowup / BY_NAME["probe_blowup"].scale, span * (1 - actions[begin]))
    least = np.where(probed, -np.inf, -span * (1 + actions[begin]))
    shift = np.where(probed & (blown == 0), 0.0, shift.clip(least, reach))
    constants[:, RUN.index(("probe_blowup", 0))] += np.where(probed, BY_NAME["probe_blowup"].scale * shift, 0)
    actions[begin] += np.where(probed, 0, shift / span)
    of_row, later = np.repeat(shift, np.diff(starts)), np.ones(len(decisions), bool)
    later[begin] = later[starts[1:] - 1] = False  # no level yet; a run's end
    for name, which in (("level", later), ("level_to_anchor", later & ~np.repeat(probed, np.diff(starts)))):
        column = DECISION.index((name, 0))
        moved = decisions[which, column] + BY_NAME[name].scale * of_row[which]
        decisions[which, column] = moved.clip(-CLIP, CLIP)
    return shift
