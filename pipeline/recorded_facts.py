"""What a collection holds, in a few numbers: for metrics/collect.json, and for MLflow's page of the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def summarise(files: Iterable[Path]) -> dict[str, Any]:
    """Counts of trajectory files: runs, families, optimizers, schedules and decisions, and the share that diverged."""
    reasons: Counter[str] = Counter()
    names: dict[str, set[str]] = {"optimizer": set(), "schedule": set()}
    families = set[Path]()
    for path in files:
        families.add(path.parent)
        with pq.ParquetFile(path, pre_buffer=False) as file:  # three columns: a tenth of what reading all takes
            table = file.read(["reason", *names], use_threads=False)
        for column, values in names.items():
            values.update(table[column].unique().to_pylist())
        reasons.update({count["values"]: count["counts"] for count in table["reason"].value_counts().to_pylist()})
    runs = reasons["budget"] + reasons["diverged"]
    return {
        "runs": runs, "families": len(families), "optimizers": len(names["optimizer"]),
        "schedules": len(names["schedule"]), "decisions": reasons["running"],
        "divergent_share": round(reasons["diverged"] / max(runs, 1), 4),
    }  # fmt: skip
