"""The families that policies are chosen on, by name."""

from __future__ import annotations

from pipeline.workloads.base import Family
from pipeline.workloads.selection import large, recipes, small, small_transfers, texts, transfers

MODULES = (small, texts, small_transfers, recipes, transfers, large)
FAMILIES: dict[str, Family] = {family.name: family for module in MODULES for family in module.FAMILIES}
