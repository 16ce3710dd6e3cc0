"""A learning-rate pilot: trained once, offline, on many recorded trainings; drives the learning rate of any new one.

from lrpilot.torch import PilotLR
scheduler = PilotLR(optimizer, epochs=20, data=loader, model=model)
...
scheduler.step(loss)

`lrpilot.suggest(optimizer, data, loss_fn)` suggests a rate for a schedule of one's own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lrpilot.decisions.guard import GuardError
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle, BundleError, load_policy

__all__ = ["Bundle", "BundleError", "GuardError", "Pilot", "Protocol", "load_policy"]

if TYPE_CHECKING:
    from lrpilot.range_test.run import suggest as suggest

    __version__: str


def __getattr__(name: str) -> Any:
    """Load what needs torch, and look the version up, when somebody asks: `import lrpilot` does without."""
    if name == "suggest":
        return import_module("lrpilot.range_test.run").suggest
    if name == "__version__":
        return import_module("importlib.metadata").version("lrpilot")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
