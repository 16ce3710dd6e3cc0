"""The families that only the evaluation knows, by name.

Their data: MNIST, the standard library, cars, pixels of two photographs, and what `data.py` makes.
"""

from __future__ import annotations

from pipeline.workloads.base import Family
from pipeline.workloads.heldout import large, pictures, sequences, small, small_transfers, texts, transfers

MODULES = (small, texts, small_transfers, pictures, sequences, transfers, large)
FAMILIES: dict[str, Family] = {family.name: family for module in MODULES for family in module.FAMILIES}
