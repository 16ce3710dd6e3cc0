"""A learning-rate pilot: trained once, offline, on many recorded trainings; drives the learning rate of any new one.

from lrpilot.torch import PilotLR
scheduler = PilotLR(optimizer, epochs=20, data=loader, model=model)
...
scheduler.step(loss)
"""

from lrpilot.bundle import Bundle, BundleError, load_policy
from lrpilot.pilot import Pilot, Protocol

__all__ = ["Bundle", "BundleError", "Pilot", "Protocol", "load_policy"]
__version__ = "0.1.0"
