"""All workload families by name.

No data set appears in two splits: "train" is for the collection, "selection" for the choice between policies, and
"heldout" only for the evaluation (MNIST, the sources of the standard library, cars, pixels of two photographs, and the
data of `heldout_data.py`).
"""

from __future__ import annotations

from pipeline.workloads import (
    bags,
    finetune,
    heldout_pictures,
    heldout_sequences,
    heldout_transfers,
    judged_small,
    judged_texts,
    judged_transfers,
    language_families,
    lengthy,
    memorised,
    overfit,
    picture_families,
    selection_recipes,
    selection_transfers,
    sequences,
    synthetic,
    table_families,
    tabular,
    transfer_families,
    unscaled,
    vision,
)  # fmt: skip
from pipeline.workloads.base import Family

_MODULES = (
    tabular, synthetic, vision, overfit, memorised, lengthy, sequences, bags, finetune, unscaled,
    table_families, picture_families, language_families, transfer_families,
    judged_small, judged_texts, judged_transfers, selection_recipes, selection_transfers,
    heldout_pictures, heldout_sequences, heldout_transfers,
)  # fmt: skip
FAMILIES: dict[str, Family] = {family.name: family for module in _MODULES for family in module.FAMILIES}


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        KeyError: no such family; the message lists the known names by split.
    """
    if name not in FAMILIES:
        known = "; ".join(f"{part}: {', '.join(names(part))}" for part in ("train", "selection", "heldout"))
        raise KeyError(f"workload family {name!r} is unknown, use one of {known}")
    return FAMILIES[name]


def names(split: str) -> tuple[str, ...]:
    """Names of the families of a split: "train", "selection" or "heldout"."""
    return tuple(name for name, item in FAMILIES.items() if item.split == split)


def recorded() -> tuple[str, ...]:
    """Names of the families that a collection may record."""
    return names("train")
