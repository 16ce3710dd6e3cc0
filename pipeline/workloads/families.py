"""All workload families by name. The collection knows `recorded.families` alone.

No data set appears in two splits: "train" is for the collection, "selection" for the choice between policies, and
"heldout" only for the evaluation. The large trainings of the latter two, "selection_large" and "heldout_large", are
judged apart, because they take as long as all others together.
"""

from __future__ import annotations

from pipeline.workloads.base import Family, find
from pipeline.workloads.heldout.families import FAMILIES as HELDOUT
from pipeline.workloads.recorded.families import FAMILIES as RECORDED
from pipeline.workloads.selection.families import FAMILIES as SELECTION

FAMILIES: dict[str, Family] = {**RECORDED, **SELECTION, **HELDOUT}


def family(name: str) -> Family:
    """The family of that name, of any split. Raises KeyError, which lists the known names by split."""
    return find(FAMILIES, name)


def names(split: str) -> tuple[str, ...]:
    """Names of the families of a split, one of those above."""
    return tuple(name for name, item in FAMILIES.items() if item.split == split)
