"""What a training reports between two decisions: a bounded, raw record, the same in collection and at run time.

Parameter telemetry is a sketch: a fixed, seeded sample of at most `SKETCH` coordinates over all parameters (all of
them in a small net). So its cost does not grow with the model. The functions take numpy arrays or torch tensors,
leading axes free, coordinates last; this module itself imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

SKETCH = 16_384  # coordinates

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


def sketch_coordinates(n_params: int, seed: int = 0) -> np.ndarray:
    """Sorted int64 coordinates of the sketch of a model with `n_params` parameters; all of them if few enough."""
    if n_params <= SKETCH:
        return np.arange(n_params)
    return np.unique(np.random.default_rng(seed).integers(n_params, size=SKETCH))


def summarise_losses(losses: np.ndarray) -> dict[str, np.ndarray]:
    """Loss fields of `INTERVAL`, each (runs,), from the kept batch losses (kept, runs)."""
    losses = np.asarray(losses, np.float64)
    with np.errstate(all="ignore"):
        noise = (
            np.sqrt(np.mean(np.diff(losses, axis=0) ** 2, axis=0) / 2) if len(losses) > 1 else np.zeros(losses.shape[1])
        )
        return {
            "loss_mean": losses.mean(axis=0),
            "loss_last": losses[-LAST:].mean(axis=0),
            "loss_noise": noise,
        }


def norm(v: Any) -> Any:
    """Euclidean norm over the last axis."""
    return (v * v).sum(-1) ** 0.5


def cosine(a: Any, b: Any) -> Any:
    """Cosine over the last axis; 0 where either vector vanishes."""
    return (a * b).sum(-1) / (norm(a) * norm(b) + 1e-30)


@dataclass
class Sketch:
    """Windows of parameter telemetry from sketches of weights and gradients, arrays (..., coordinates).

    `scale` = sqrt(all parameters / coordinates) turns norms of the sketch into estimates of the whole's.
    """

    scale: float
    displacement: Any = None  # of the previous window
    _start: Any = None
    _gradient: Any = None
    _norms: list[Any] = field(default_factory=list)
    _cosines: list[Any] = field(default_factory=list)

    def open(self, weights: Any) -> None:
        """Start a window at `weights` (kept, so pass a copy)."""
        self._start, self._gradient, self._norms, self._cosines = weights, None, [], []

    def gradient(self, gradient: Any, measured: Any = None) -> None:
        """Note the gradient of one step (kept until the next, so pass a copy), and its true norm if known."""
        self._norms.append(norm(gradient) * self.scale if measured is None else measured)
        if self._gradient is not None:
            self._cosines.append(cosine(self._gradient, gradient))
        self._gradient = gradient

    def close(self, weights: Any) -> dict[str, Any]:
        """Parameter fields of `INTERVAL` for the window that ends at `weights`."""
        moved = weights - self._start
        fields = {
            "grad_norm": sum(self._norms) / len(self._norms),
            "grad_cos": sum(self._cosines) / len(self._cosines) if self._cosines else 0.0 * self._norms[0],
            "update_norm": norm(moved) * self.scale / len(self._norms),
            "update_cos": 0.0 * self._norms[0] if self.displacement is None else cosine(self.displacement, moved),
            "weight_norm": norm(weights) * self.scale,
        }
        self.displacement, self._start, self._gradient = moved, None, None
        return fields
