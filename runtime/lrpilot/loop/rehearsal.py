"""A short training without a model, so that the first decision of a real one takes no longer than the next."""

from __future__ import annotations

from functools import cache

import numpy as np

from lrpilot.decisions.protocol import Protocol
from lrpilot.decisions.telemetry import INTERVAL
from lrpilot.pilot import Pilot

STEPS = 100  # enough for a probe and two decisions


@cache
def fill_caches(protocol: Protocol, optimizer: str) -> None:
    """Fill the caches of what the decisions of one training call, once per process; some milliseconds."""
    pilot = Pilot(protocol, STEPS, optimizer, logs=False)
    while pilot.in_probe:
        pilot.advance_probe(1.0 + 0.01 * (pilot.step % 3), 1.0)
    _decide(pilot)
    while not pilot.due:
        pilot.advance()
    pilot.close_interval(np.ones((2, 1)), dict.fromkeys(INTERVAL, 1.0))
    _decide(pilot)


def _decide(pilot: Pilot) -> None:
    pilot.decide(lambda observations: np.zeros(len(observations)))
