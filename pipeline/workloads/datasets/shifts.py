"""Changed versions of images and signals, for networks that are pretrained on one version and fine-tuned on another."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.workloads.building.sampling import pick

Shift = tuple[str, np.ndarray, np.ndarray]  # label, x, y of the version to fine-tune on


def shift_image(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
    """Images (n, h, w): rotated, shifted, inverted, noisy, or with relabelled classes."""
    kind = pick(rng, ("turned", "moved", "negative", "noisy", "renamed"), (0.3, 0.25, 0.15, 0.1, 0.2))
    if kind == "turned":
        x = ndimage.rotate(x, rng.uniform(30, 180), axes=(1, 2), reshape=False, order=1)
    elif kind == "moved":
        x = ndimage.shift(x, (0, *rng.choice((-2, 2), 2)), order=0)
    elif kind == "negative":
        x = 1 - x
    elif kind == "noisy":
        x = x + rng.uniform(0.4, 0.8) * rng.standard_normal(x.shape)
    else:
        y = rng.permutation(10)[y]
    return kind, np.ascontiguousarray(x, dtype=np.float32), y


def shift_signal(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
    """Signals (n, 1, length): reversed, negated, or with relabelled classes."""
    kind = pick(rng, ("reversed", "inverted", "renamed"))
    if kind == "renamed":
        return kind, x, rng.permutation(10)[y]
    return kind, np.ascontiguousarray(x[:, :, ::-1] if kind == "reversed" else -x), y
