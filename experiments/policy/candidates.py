"""Quantities that no observation holds, though a scheduler could measure them before the first decision.

They describe the optimizer and the model of a recorded training, and more of its probe than observations keep. Levels
are in decades from the probe's edge, from which observations also count. Each group is a candidate for features, and
`levels.py` measures its value.

Sources: noise of gradients as a cosine (McCandlish et al. 2018, arXiv:1812.06162), its change of sign near the edge of
stability (Cohen et al. 2021, arXiv:2103.00065), the step that linear descent to a loss of 0 would take (Polyak 1987;
Loizou et al. 2021, arXiv:2002.10542), weights moved (You et al. 2017, arXiv:1708.03888).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrpilot.decisions.actions import reference
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from lrpilot.probing import probe_curve
from policy.observations import TaskRecording

MOVED = (0.001, 0.01, 0.1, 1.0)  # shares of the norm of the weights
READ = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0)  # decades from the edge at which cosines are read
NEAR = 0.25  # decades around them that are averaged
GROUPS = {
    "linear": "the rate at which linear descent would take the loss to 0",
    "cosines": "cosines of the probe's successive gradients",
    "moved": "how far the probe's rates move the weights",
    "model": "shares of the weights in vectors and in the largest tensor",
    "kind": "the name of the optimizer",
    "recipe": "batch size, weight decay, clipping, dropout, batch norm",
    "size": "numbers of weights and tensors",
    "scale": "loss, gradient and weights at the start",
}


def measure(task: TaskRecording, run: int, edge: float) -> dict[str, np.ndarray]:
    """For each group the quantities (n,) of a run of a probed task, whose edge is at the level `edge`."""

    def fact(name: str) -> float:
        return float(task.fact(name)[run])

    used, norm, weights = int(task.probe_used[run]), fact("probe_start"), fact("weights")
    z = probe_curve.levels(task.probe_loss.shape[1])[:used]
    cosines, moved = (np.array(task.fact(name)[run], float)[:used] for name in ("probe_cos", "probe_moved"))
    loss, gradient = _first(task.probe_loss[run]), _first(task.probe_grad[run])
    kind = OPTIMIZERS[task.optimizer].driven_as
    falls = gradient**2 if kind == "sgd" else gradient * math.sqrt(weights)  # along the gradient, or along its sign
    recipe = [fact(name) for name in ("clipped", "dropout", "batch_norm")]
    return {
        "linear": np.array([math.log10(loss / falls) - reference(kind) - edge]),
        "cosines": _cosines(z, cosines, edge),
        "moved": _reached(z, moved, MOVED) - edge,
        "model": np.array([fact("vectors"), fact("largest")]),
        "kind": np.array([task.optimizer == name for name in OPTIMIZERS], float),
        "recipe": np.array([_log(fact("batch_size")), _log(fact("weight_decay") + 1e-6), *recipe]),
        "size": np.array([_log(weights), _log(fact("tensors"))]),
        "scale": np.array([_log(loss), _log(gradient), _log(norm), _log(gradient * norm / loss)]),
    }


def _log(value: float) -> float:
    return math.log10(max(abs(value), 1e-12))


def _first(curve: np.ndarray) -> float:
    """Absolute value of the first finite value of a curve."""
    return max(abs(float(curve[np.isfinite(curve)][0])), 1e-12)


def _cosines(z: np.ndarray, cosines: np.ndarray, edge: float) -> np.ndarray:
    """(len(READ) + 1,): mean cosines at the lowest rates, and around levels at given distances from the edge; 0 if
    there are none.
    """
    known = np.isfinite(cosines) & (np.arange(len(z)) > 0)
    near = [z <= probe_curve.LOW + probe_curve.FLAT, *(np.abs(z - edge - at) <= NEAR for at in READ)]
    return np.array([cosines[known & which].mean() if (known & which).any() else 0.0 for which in near])


def _reached(z: np.ndarray, moved: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Levels after which these shares have moved; the highest level of the probe if less has moved."""
    farthest = np.maximum.accumulate(np.nan_to_num(moved, nan=0.0, posinf=1e9).clip(1e-9, 1e9))
    return np.interp(np.log10(shares), np.log10(farthest), z)
