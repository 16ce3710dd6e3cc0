"""The families that a collection may record, by name. No data set of theirs is one of another split."""

from __future__ import annotations

from pipeline.workloads.base import Family
from pipeline.workloads.recorded import (
    bags,
    finetune,
    languages,
    long_trainings,
    memorised,
    overfit,
    pictures,
    sequences,
    synthetic,
    tables,
    tabular,
    transfers,
    unscaled,
    vision,
    wide,
    wide_transfers,
)

MODULES = (
    tabular, synthetic, vision, overfit, memorised, long_trainings, sequences, bags, finetune, unscaled,
    tables, pictures, languages, transfers, wide, wide_transfers,
)  # fmt: skip
FAMILIES: dict[str, Family] = {family.name: family for module in MODULES for family in module.FAMILIES}
