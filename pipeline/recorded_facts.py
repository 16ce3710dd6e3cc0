"""A summary of a collection in a few numbers, for metrics/collect.json and for MLflow's page of the data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

LARGE = 50_000  # weights
PASSES = 1.01  # over the data, at most, of a training that repeats no example
MEDIANS = {
    "epochs": "epochs", "batch": "batch_size", "examples": "examples", "weights": "weights", "steps": "n_steps",
}  # fmt: skip
SHARES = ("batch_norm", "dropout", "clipped", "large", "one_pass")
SAME = (  # columns that have one value in a file
    "family", "regime", "optimizer", "n_steps", "steps_per_epoch", "examples", "batch_size", "weights",
    "batch_norm", "dropout", "clipped",
)  # fmt: skip


def summarise(files: Iterable[Path]) -> dict[str, Any]:
    """The content of trajectory files as flat figures: counts, the share of runs that diverged, and the share of each
    optimizer. For all runs and for those of each regime (`<regime>.<figure>`): medians of their sizes, and the shares
    of them with batch norm, with dropout, with clipped gradients, with more than LARGE weights, and with no repeated
    example.
    """
    tasks, schedules = [], set[str]()
    for path in files:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # some columns: less than half of what reading all takes
            table = file.read(["reason", "schedule", *SAME], use_threads=False)
        schedules.update(table["schedule"].unique().to_pylist())
        reasons = {count["values"]: count["counts"] for count in table["reason"].value_counts().to_pylist()}
        tasks.append({name: table[name][0].as_py() for name in SAME} | reasons)
    rows = pd.DataFrame(tasks, columns=[*SAME, "running", "budget", "diverged"]).fillna(0)
    rows["runs"] = (rows.budget + rows.diverged).astype(int)
    rows["epochs"] = rows.n_steps / rows.steps_per_epoch
    rows["large"], rows["one_pass"] = rows.weights > LARGE, rows.epochs <= PASSES
    runs = int(rows.runs.sum())
    facts: dict[str, Any] = {
        "runs": runs, "families": rows.family.nunique(), "optimizers": rows.optimizer.nunique(),
        "schedules": len(schedules), "decisions": int(rows.running.sum()),
        "divergent_share": round(float(rows.diverged.sum()) / max(runs, 1), 4),
    } | sizes(rows)  # fmt: skip
    for name, part in rows.groupby("optimizer"):
        facts[f"optimizer.{name}"] = round(int(part.runs.sum()) / runs, 4)
    for name, part in rows.groupby("regime"):
        own = {"runs": int(part.runs.sum()), "share": round(int(part.runs.sum()) / runs, 4)} | sizes(part)
        facts |= {f"{name}.{key}": value for key, value in own.items()}
    return facts


def sizes(tasks: pd.DataFrame) -> dict[str, float]:
    """Medians of sizes and shares of settings over the runs of `tasks`, a row each; empty if there are no runs."""
    each = tasks.loc[np.repeat(tasks.index, tasks.runs)]
    if each.empty:
        return {}
    medians = {key: round(float(each[column].median()), 2) for key, column in MEDIANS.items()}
    return medians | {key: round(float(each[key].mean()), 4) for key in SHARES}
