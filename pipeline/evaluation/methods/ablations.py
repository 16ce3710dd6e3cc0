"""What a control takes from a policy: its later moves, or the training loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lrpilot.decisions.features import GROUPS, NAMES
from lrpilot.decisions.protocol import Policy
from policy.observations import mask

FIRST = NAMES.index("first")


def hold(policy: Policy) -> Policy:
    """The policy's first action, and no move at any later decision."""
    return lambda observations: np.where(observations[:, FIRST] > 0, np.ravel(policy(observations)), 0.0)


def no_loss(policy: Policy) -> Policy:
    """The policy without the training loss after the probe: the loss features are 0. Guards see the loss."""
    shown = mask(group for group in GROUPS if group != "loss")
    return lambda observations: policy(observations * shown)


ABLATIONS: dict[str, Callable[[Policy], Policy]] = {"hold": hold, "no_loss": no_loss}
