"""Files with many recorded runs, made from a few. No two are equal, and each is a valid recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import config
from pipeline.collect import plan
from pipeline.engines import engine, results
from pipeline.simulation.recording import record
from policy import trajectories

RECORDED = 26  # tasks: two of each family, about
RUNS = 32  # of a task
DISTURBED = (
    "train_loss", "loss_last", "loss_noise", "grad_norm", "update_norm", "weight_norm", "val_loss",
)  # fmt: skip


def recorded() -> list[pa.Table]:
    """Some tasks of the default profile."""
    params = config.load(Path())
    collect = replace(params.collect, tasks=RECORDED, runs_per_task=RUNS)
    contents = results(engine("local"), record, plan(collect, params.regimes.shares))
    return [pq.read_table(pa.BufferReader(content)) for content in contents]


def disturbed(table: pa.Table, name: str, rng: np.random.Generator) -> pa.Table:
    """The task under another name, with changed telemetry and actions."""

    def put(table: pa.Table, column: str, values: Any) -> pa.Table:
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    old = table["task"][0].as_py()
    for column in DISTURBED:
        table = put(table, column, table[column].to_numpy() * np.exp(rng.normal(0, 0.05, len(table))))
    actions = table["action"].to_numpy() + rng.normal(0, 0.05, len(table))
    table = put(table, "action", actions.clip(-1, 1))  # nan stays nan
    table = put(table, "run_id", [run.replace(old, name) for run in table["run_id"].to_pylist()])
    return put(table, "task", [name] * len(table))


def generate(runs: int, tasks: Sequence[pa.Table], folder: Path) -> dict[str, Any]:
    """Write files of `runs` runs or a few more below `folder`, made from those of `tasks`."""
    begin, rng = time.perf_counter(), np.random.default_rng(0)
    made = files = size = 0
    while made < runs:
        table, name = tasks[files % len(tasks)], f"{files:016x}"
        content = trajectories.encode(disturbed(table, name, rng))
        path = folder / str(table["family"][0]) / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)  # not `trajectories.store`, which waits for the disk each time
        made, files, size = made + trajectories.count_runs(table), files + 1, size + len(content)
    return {
        "runs": made, "files": files, "recorded": len(tasks), "files_bytes": size,
        "generate_s": time.perf_counter() - begin,
    }  # fmt: skip
