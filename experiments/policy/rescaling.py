"""Recorded runs as exact runs of other workloads: more data from few recordings.

With weights w = s v, the run of a module with weights w is, step by step, a run of the module of v, with rates divided
by s under Adam and its variants, and by s^2 under SGD. Losses, cosines and ratios are the same, norms of weights and
updates are divided by s, and norms of gradients are multiplied by s. So the level shifts by -lg s or -2 lg s, and with
it the probe's information about levels. Observations are dimensionless: only `level` and `probe_blowup` change, and
without a probe, where the anchor stays, `level_to_anchor` and the first action. Rewards stay.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import BY_NAME, CLIP
from lrpilot.probing.probe_curve import HIGH
from policy.store import DECISION, RUN


def rescale(folder: Path, deviation: float, seed: int = 0) -> np.ndarray:
    """Shift the runs of a built store by normal draws, in place. Returns the shifts (runs,) in decades.

    A run whose probe did not blow up is not shifted, because its blow-up level is unknown. No shift moves a blow-up out
    of the probe's reach, or a first action out of its own.
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
