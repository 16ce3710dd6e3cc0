"""The decision process of the original plan: the learning rate is multiplied once per epoch, or a few times.

State: learning rate, gradient norm, training and validation loss, and their previous values. Action: lower by 10 %,
keep, raise by 10 %; or any factor between a half and two. Reward: the decrease of the validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEATURES = (
    "progress", "learning_rate", "gradient_norm", "train_loss", "val_loss", "val_error", "train_gain", "val_gain",
)  # fmt: skip
DISCRETE = (0.9, 1.0, 1.1)  # factors
SPAN = 2.0  # a continuous action a in [-1, 1] is the factor SPAN**a
LOWEST, HIGHEST = 1e-8, 1.0  # learning rates
WORST = 10.0  # validation loss that a diverged training counts as, and the highest that counts


@dataclass(frozen=True)
class Telemetry:
    """What a training reports at a decision. Losses and the norm are means over the steps since the last one."""

    progress: float  # share of the steps that are done
    lr: float
    grad_norm: float
    train_loss: float
    val_loss: float
    val_error: float

    @property
    def broken(self) -> bool:
        return not np.isfinite([self.train_loss, self.val_loss]).all()


def observation(now: Telemetry, before: Telemetry) -> np.ndarray:
    """(F,) float32 of a decision; at the first one `before` is `now`. Logarithms to base 10, clipped at 5."""

    def log(x: float) -> float:
        return float(np.log10(max(x, 1e-8))) if np.isfinite(x) else 5.0

    features = [
        now.progress, log(now.lr), log(now.grad_norm), log(now.train_loss), log(now.val_loss), now.val_error,
        log(before.train_loss) - log(now.train_loss), log(before.val_loss) - log(now.val_loss),
    ]  # fmt: skip
    return np.nan_to_num(np.clip(features, -8, 5)).astype(np.float32)


def rewards(val_loss: Sequence[float]) -> np.ndarray:
    """(D,) float32 from validation losses (D + 1,): the decrease after each decision. A loss that is not finite counts
    as `WORST`.
    """
    losses = np.asarray(val_loss, float)
    return -np.diff(np.minimum(np.where(np.isfinite(losses), losses, WORST), WORST)).astype(np.float32)


def factor(kind: str, action: float) -> float:
    """The factor of an action on the rate. The action is an index of `DISCRETE`, or a number in [-1, 1]."""
    return DISCRETE[int(action)] if kind == "discrete" else float(SPAN ** np.clip(action, -1.0, 1.0))


def nearest(kind: str, wanted: float) -> float:
    """The action whose factor is nearest to the factor `wanted`, on a logarithmic scale."""
    log = float(np.log(max(wanted, 1e-12)))
    if kind == "discrete":
        return float(np.abs(np.log(DISCRETE) - log).argmin())
    return float(np.clip(log / np.log(SPAN), -1.0, 1.0))


def drawn(kind: str, rng: np.random.Generator) -> float:
    """A random action."""
    return float(rng.integers(len(DISCRETE))) if kind == "discrete" else float(rng.uniform(-1.0, 1.0))


def moved(lr: float, factor: float) -> float:
    """The next learning rate."""
    return float(np.clip(lr * factor, LOWEST, HIGHEST))
