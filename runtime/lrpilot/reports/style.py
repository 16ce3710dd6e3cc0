"""How every picture of lrpilot looks: four colours, and matplotlib's parameters. The pipeline's pictures use it, too.

Vermilion and blue are Okabe's and Ito's, which people of every kind of colour vision tell apart. All four stand out
from white and from black. What matters has a label, a mark or a dash of its own beside its colour.
"""

from __future__ import annotations

from typing import Any

POLICY = "#d55e00"  # the pilot: its rates, its results
OTHER = "#0072b2"  # what it is compared with
CONTROL = "#aa4499"  # the pilot without a part of it
PLAIN = "#8b8f94"  # background: losses, plain schedules, the probe

RC: dict[str, Any] = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.axis": "y", "grid.linewidth": 0.5, "grid.alpha": 0.35, "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round", "legend.frameon": False, "legend.fontsize": "small",
}  # fmt: skip
