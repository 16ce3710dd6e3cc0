"""THE table of features: what an observation consists of, in its order.

Names, groups, scaling, the masks and the store of the offline training, and the sentences of `Decision.explain` are
read from this table. A new feature is a row here and the line of `observer.py` that computes its quantity. Older
policies go on working: a policy observes the features that its manifest names.

Every feature is dimensionless, so that the same policy serves losses of any unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

VERSION = 2  # of what rows mean. Raise it if the quantity or the scale of one changes: then no older policy loads
CLIP = 5.0  # bound of a feature's absolute value
LEAST = 1e-30  # what a logarithm is taken of at least
CURVE = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0)  # decades below the blow-up at which the probe's loss is read
GRADS = (-2.0, -1.0, -0.5, 0.0)  # the same for its gradient norm

# What a feature tells of. The clock includes the kind of optimizer; the sketch is that of `telemetry.Sketch`; the size
# is that of `network_size.py`.
Group = Literal["clock", "epochs", "probe", "level", "loss", "sketch", "validation", "size"]


@dataclass(frozen=True)
class Feature:
    """One number of an observation: `scale * q / divisor + offset` of a quantity q, or of its logarithm to base 10."""

    name: str
    group: Group
    sentence: str | None = None  # the quantity in words; None: a fact of the training or the clock, explained by none
    scale: float = 1.0
    divisor: float = 1.0  # beside `scale`, since x / 10 and 0.1 * x differ in their last bit
    offset: float = -0.0  # which changes no number, not even -0.0
    log: bool = False  # whether the quantity is a ratio or a count, of which the logarithm is taken
    per_run: bool = False  # whether it is the same in all decisions of a training
    source: str | None = None  # field of the telemetry, or argument of the Observer, without which it says nothing

    def scaled(self, quantity: Any) -> Any:
        """The feature, not yet clipped, of quantities of any shape."""
        if self.log:
            quantity = np.log10(np.maximum(quantity, LEAST))
        return self.scale * quantity / self.divisor + self.offset

    def quantity(self, value: float) -> float:
        """The quantity that a value of the feature was made from: the inverse of `scaled`."""
        unscaled = (value - self.offset) * self.divisor / self.scale
        return 10.0**unscaled if self.log else unscaled


PROBE_LOSS = {f"probe_loss_{decades:g}": decades for decades in CURVE}
PROBE_GRAD = {f"probe_grad_{decades:g}": decades for decades in GRADS}

FEATURES = (
    Feature("progress", "clock", scale=2, offset=-1),
    Feature("log_progress", "clock", divisor=1.5, offset=1, log=True),
    Feature("first", "clock"),
    Feature("level", "level", "level {:+.2f} decades over the reference", scale=0.5),
    Feature("level_to_anchor", "level", "level {:+.2f} decades over the anchor"),
    Feature("level_to_highest", "level", "level {:+.2f} decades over its highest so far"),
    Feature("last_move", "level", "the last decision moved the level by {:+.2f} decades", scale=2),
    Feature("interval", "clock", offset=2, log=True),
    Feature("log_steps", "clock", offset=-3, log=True, per_run=True),
    Feature("is_sgd", "clock", per_run=True),
    Feature("has_epochs", "epochs", per_run=True, source="steps_per_epoch"),
    Feature("log_epochs", "epochs", offset=-1, log=True, per_run=True, source="steps_per_epoch"),
    Feature("has_examples", "epochs", per_run=True, source="examples"),
    Feature("log_examples", "epochs", offset=-3, log=True, per_run=True, source="examples"),
    Feature("loss_total", "loss", "loss {:.3g} times that before training", 2, log=True, source="loss_mean"),
    Feature("loss_last", "loss", "last losses {:.3g} times the interval's mean", 10, log=True, source="loss_mean"),
    Feature("loss_slope", "loss", "loss {:.3g} times that of the interval before", 10, log=True, source="loss_mean"),
    Feature("loss_slope_4", "loss", "loss {:.3g} times that of four intervals before", 5, log=True, source="loss_mean"),
    Feature("loss_to_best", "loss", "loss {:.3g} times that of the best interval", 5, log=True, source="loss_mean"),
    Feature("since_best", "loss", "decisions since the best interval: {:.0f}", divisor=10),
    Feature("loss_noise", "loss", "the batch loss scatters by {:.2g} of its mean", 2, source="loss_mean"),
    Feature("grad_norm", "sketch", "gradient norm {:.3g} times the first interval's", log=True, source="grad_norm"),
    Feature("grad_cos", "sketch", "cosine {:+.2f} of successive gradients", 3, source="grad_norm"),
    Feature("update_ratio", "sketch", "a step moves the weights by {:.1e} of their norm", 0.5, offset=1.5, log=True,
            source="update_norm"),
    Feature("update_cos", "sketch", "cosine {:+.2f} of successive displacements", 2, source="update_norm"),
    Feature("weight_norm", "sketch", "weight norm {:.3g} times the first interval's", 3, log=True,
            source="weight_norm"),
    Feature("has_val", "validation"),
    Feature("val_total", "validation", "validation loss {:.3g} times the first one", 2, log=True),
    Feature("val_slope", "validation", "validation loss {:.3g} times the one before", 20, log=True),
    Feature("val_slope_4", "validation", "validation loss {:.3g} times that of four before", 8, log=True),
    Feature("val_to_best", "validation", "validation loss {:.3g} times the best one", 5, log=True),
    Feature("val_gap", "validation", "validation loss {:.3g} times the training loss", 2, log=True),
    Feature("probed", "probe", per_run=True),
    Feature("probe_blowup", "probe", "blow-up {:+.2f} decades over the reference", 0.5, per_run=True),
    Feature("probe_blown", "probe", per_run=True),
    Feature("probe_lowest", "probe", "lowest loss {:+.2f} decades from the blow-up", per_run=True),
    Feature("probe_steepest", "probe", "steepest descent {:+.2f} decades from the blow-up", per_run=True),
    Feature("probe_noise", "probe", "the first losses scatter by {:.2g} of their mean", 2, per_run=True),
    *(Feature(name, "probe", f"loss {{:.3g}} times the first, {decades:+g} from blow-up", 3, log=True, per_run=True)
      for name, decades in PROBE_LOSS.items()),
    *(Feature(name, "probe", f"gradient {{:.3g}} times the first, {decades:+g} from blow-up", log=True, per_run=True)
      for name, decades in PROBE_GRAD.items()),
    Feature("has_size", "size", per_run=True),
    Feature("log_fan_in", "size", offset=-2, log=True, per_run=True),
    Feature("log_matrices", "size", offset=-1, log=True, per_run=True),
    Feature("log_weights", "size", offset=-5, log=True, per_run=True),
    Feature("log_scale", "size", offset=1, log=True, per_run=True),
    Feature("edge_update", "size", "at the blow-up a step moves weights by {:.1e}", offset=1.5, log=True,
            per_run=True),
)  # fmt: skip

BY_NAME = {feature.name: feature for feature in FEATURES}
NAMES = tuple(BY_NAME)
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(feature.name for feature in FEATURES if feature.group == group) for group in get_args(Group)
}
PROBE_NAMES = GROUPS["probe"]
