"""What a training reports between two decisions: a bounded, raw record, the same in collection and at run time.

Parameter telemetry is a sketch: a fixed, seeded sample of at most `SKETCH` coordinates over all parameters (all of
them in a net of up to `WHOLE`). So its cost does not grow with the model. The functions take numpy arrays or torch
tensors, leading axes free, coordinates last; this module itself imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

SKETCH = 16_384  # coordinates of a large net
WHOLE = 65_536  # parameters up to which all are taken: that costs no more than to gather a sample

# One interval between two decisions, each (runs,) float64; nan where not measured.
INTERVAL = (
    "loss_mean",  # mean batch loss of the kept steps
    "loss_last",  # mean of the last LAST kept steps
    "loss_noise",  # standard deviation of the batch loss from successive differences
    "grad_norm",  # mean gradient norm over the window
    "grad_cos",  # mean cosine of successive gradients in the window
    "update_norm",  # displacement over the window / its steps
    "update_cos",  # cosine of this window's displacement with the previous window's
    "weight_norm",  # norm of the parameters at the end of the window
    "val_loss",  # validation loss observed since the last decision
)
LAST = 8  # kept steps
STUCK = 3  # kept steps; losses that are not finite in all of them are no slip of the loop's
_VECDOT: Any = getattr(np, "vecdot", None)  # numpy 2 has it: one pass over memory


def sketch_coordinates(n_params: int, seed: int = 0) -> np.ndarray:
    """Sorted int64 coordinates of the sketch of a model with `n_params` parameters; all of them if few enough."""
    if n_params <= WHOLE:
        return np.arange(n_params)
    return np.unique(np.random.default_rng(seed).integers(n_params, size=SKETCH))


def left_out(losses: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Losses (kept, runs) of which those that say nothing are nan, and those that say the worst are inf.

    A reported loss that is not finite says nothing where the weights are finite, `sound` () or (runs,) bool, unless
    nearly all of the latest ones are like it.
    """
    finite = np.isfinite(losses)
    if finite.all():
        return losses
    lasting = ~finite[-STUCK:].any(axis=0)
    return np.where(finite, losses, np.where(sound & ~lasting, np.nan, np.inf))


def summarise_losses(losses: np.ndarray) -> dict[str, np.ndarray]:
    """Loss fields of `INTERVAL`, each (runs,), from the kept batch losses (kept, runs) float64; nan from none.

    Losses that are nan are left out.
    """
    if not len(losses):
        return dict.fromkeys(("loss_mean", "loss_last", "loss_noise"), np.full(losses.shape[1:], np.nan))
    mean = _known_mean if np.isnan(losses).any() else _mean
    with np.errstate(all="ignore"):
        steps = losses[1:] - losses[:-1]
        return {
            "loss_mean": mean(losses),
            "loss_last": mean(losses[-LAST:]),
            "loss_noise": np.sqrt(mean(steps * steps) / 2) if len(steps) else np.zeros(losses.shape[1]),
        }


def _known_mean(x: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not nan; nan of nothing."""
    known = ~np.isnan(x)
    return np.add.reduce(np.where(known, x, 0.0)) / np.add.reduce(known)


def _mean(x: np.ndarray) -> np.ndarray:
    """np.mean over the first axis, at half its cost on few numbers."""
    return np.add.reduce(x) / len(x)


@dataclass
class Sketch:
    """Windows of parameter telemetry from sketches of weights and gradients, arrays (..., coordinates).

    `scale` = sqrt(all parameters / coordinates) turns norms of the sketch into estimates of the whole's.
    """

    scale: float
    displacement: Any = None  # of the previous window
    distance: Any = None  # its length in the sketch
    _start: Any = None
    _gradient: Any = None
    _length: Any = None  # of that gradient, in the sketch
    _norms: list[Any] = field(default_factory=list[Any])
    _cosines: list[Any] = field(default_factory=list[Any])

    def norm(self, v: Any) -> Any:
        """Euclidean norm over the last axis, of the whole that v is a sketch of."""
        return self._root(v) * self.scale

    def open(self, weights: Any) -> None:
        """Start a window at `weights` (kept, so pass a copy)."""
        self._start, self._gradient, self._norms, self._cosines = weights, None, [], []

    def gradient(self, gradient: Any, measured: Any = None) -> None:
        """Note the gradient of one step (kept until the next, so pass a copy), and its true norm if known."""
        length = self._root(gradient)
        self._norms.append(length * self.scale if measured is None else measured)
        if self._gradient is not None:
            self._cosines.append(self._cosine(self._gradient, gradient, self._length, length))
        self._gradient, self._length = gradient, length

    def close(self, weights: Any) -> dict[str, Any]:
        """Parameter fields of `INTERVAL` for the window that ends at `weights`."""
        moved = weights - self._start
        distance = self._root(moved)
        steps, none = len(self._norms), 0.0 * self._norms[0]
        turned = none if self.displacement is None else self._cosine(self.displacement, moved, self.distance, distance)
        fields = {
            "grad_norm": sum(self._norms) / steps,
            "grad_cos": sum(self._cosines) / len(self._cosines) if self._cosines else none,
            "update_norm": distance * (self.scale / steps),
            "update_cos": turned,
            "weight_norm": self.norm(weights),
        }
        self.displacement, self.distance = moved, distance
        self._start = self._gradient = self._length = None
        return fields

    def _root(self, v: Any) -> Any:
        return v.norm(dim=-1) if hasattr(v, "norm") else np.sqrt(_dot(v, v))  # torch's takes one pass

    def cosine(self, a: Any, b: Any) -> Any:
        """Cosine over the last axis; 0 where either vector vanishes."""
        return self._cosine(a, b, self._root(a), self._root(b))

    def _cosine(self, a: Any, b: Any, length_a: Any, length_b: Any) -> Any:
        return _dot(a, b) / (length_a * length_b + 1e-30)


def _dot(a: Any, b: Any) -> Any:
    """Dot products over the last axis."""
    return (a * b).sum(-1) if _VECDOT is None or hasattr(a, "norm") else _VECDOT(a, b)
