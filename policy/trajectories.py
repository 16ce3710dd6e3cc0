"""Recorded trainings on disk: the Parquet schema, and a reader that validates. See docs/trajectories.md.

There is one file per task (a workload drawn from a family), with one row per (run, decision), sorted by run and
decision. Telemetry is raw. Observations and rewards are computed from it, so a change of features or reward needs no
new trainings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrpilot import digests

FORMAT = 8

SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("family", pa.string()),
        ("regime", pa.string()),  # of the family
        ("workload", pa.string()),
        ("task", pa.string()),  # hash of the spec: runs of one task are comparable
        ("seed", pa.int64()),
        ("optimizer", pa.string()),
        ("schedule", pa.string()),  # behaviour policy
        ("group", pa.int64()),  # of twins, within the task; -1: none
        ("twin", pa.int64()),  # within the group; 0 is its base
        ("departs_at", pa.int64()),  # decision at which it departs from its base; -1: never
        ("departs_by", pa.float64()),  # decades: its level there less its base's; nan where there is no group
        ("tells_size", pa.bool_()),  # whether the pilot was told the length of an epoch, and how many examples
        ("shows_validation", pa.bool_()),  # whether it was shown the validation loss
        ("lr0", pa.float64()),  # learning rate that the behaviour asked for first
        ("n_steps", pa.int64()),
        ("steps_per_epoch", pa.float64()),
        ("examples", pa.int64()),  # of the training data
        ("batch_size", pa.int64()),
        ("weights", pa.int64()),  # trained parameters
        (
            "fan_in",
            pa.float64(),
        ),  # of a weight matrix, the median; nan, as the next two, without one
        ("matrices", pa.float64()),
        ("weight_scale", pa.float64()),  # root mean square of a matrix's weights at the start, the median
        ("batch_norm", pa.bool_()),
        ("dropout", pa.bool_()),
        ("clipped", pa.bool_()),  # gradients, to a highest norm
        ("baseline_loss", pa.float64()),  # validation loss of the best constant prediction
        ("probed", pa.bool_()),
        ("decision", pa.int64()),
        ("step", pa.int64()),
        ("progress", pa.float64()),
        ("lr", pa.float64()),  # of the step after the decision
        ("level", pa.float64()),  # z after the decision
        ("anchor", pa.float64()),
        ("action", pa.float64()),  # nan in a run's last row
        ("train_loss", pa.float64()),  # mean over the interval before the decision
        ("loss_last", pa.float64()),
        ("loss_noise", pa.float64()),
        ("grad_norm", pa.float64()),
        ("grad_cos", pa.float64()),
        ("update_norm", pa.float64()),
        ("update_cos", pa.float64()),
        ("weight_norm", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_error", pa.float64()),
        ("probe_loss", pa.list_(pa.float64())),  # by level of the climb; decision 0 of probed runs, else null
        ("probe_grad", pa.list_(pa.float64())),
        ("probe_used", pa.int64()),  # levels that the curves cover
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("reason", pa.string()),
    ],
    metadata={"lrpilot.format": str(FORMAT)},
)
REASONS = ("running", "budget", "diverged")

# Columns whose values hardly ever repeat: their bytes of equal weight stand together. The others get a dictionary.
_SPLIT = (
    "lr", "level", "action", "train_loss", "loss_last", "loss_noise", "grad_norm", "grad_cos", "update_norm",
    "update_cos", "weight_norm", "val_loss", "probe_loss.list.element", "probe_grad.list.element",
)  # fmt: skip
# As pyarrow.parquet.ParquetWriter takes them; docs/trajectories.md compares them with others.
OPTIONS: dict[str, Any] = {
    "compression": "lz4",
    "use_dictionary": [name for name in SCHEMA.names if name not in {c.partition(".")[0] for c in _SPLIT}],
    "column_encoding": dict.fromkeys(_SPLIT, "BYTE_STREAM_SPLIT"),
    "write_statistics": False,  # of a footer as long as this, they would be a third, and nobody filters by them
    "write_page_checksum": True,
    "store_schema": False,  # Parquet's own types say it all
}


class TrajectoryError(ValueError):
    """A trajectory file that cannot be used. The message names the file, the row and the reason."""


def encode(table: pa.Table) -> bytes:
    """A task's rows as the content of its file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, **OPTIONS) as writer:
        writer.write_table(table.cast(SCHEMA))
        writer.add_key_value_metadata(SCHEMA.metadata)
    return sink.getvalue().to_pybytes()


def store(content: bytes, path: Path) -> None:
    """Write a file completely or not at all. When this returns, the file survives a loss of power.

    Raises OSError (a full disk) and leaves the folder as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):  # the file's name, and the name of a new family's folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path) -> pa.Table:
    """The checked rows of one task.

    Raises TrajectoryError, which names the file and, if there is one, the row: not Parquet, another format, columns
    that are missing or of another type, values out of range, decisions or steps that do not increase.
    """
    try:
        # Ahead-of-need buffers and threads cost more than a file this small takes to read.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            table = file.read(use_threads=False)
            names = table.schema.names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise TrajectoryError(f"{path}: not readable as Parquet ({error}); delete it and collect again") from error
    version = (table.schema.metadata or {}).get(b"lrpilot.format", b"none").decode(errors="replace")
    if version != str(FORMAT):
        raise TrajectoryError(f"{path}: trajectory format {version}, this version reads {FORMAT}; collect again")
    if not table.schema.equals(SCHEMA):
        odd = [f.name for f in SCHEMA if f.name not in names or table.schema.field(f.name) != f]
        extra = sorted(set(names) - set(SCHEMA.names))
        why = f"{odd + extra} are missing, unknown or of another type" if odd + extra else "are in another order"
        raise TrajectoryError(f"{path}: columns {why}; collect again")
    check_rows(table, path)
    return table


def check_rows(table: pa.Table, path: Path) -> None:
    """Raise TrajectoryError, which names `path`, for rows that no recording can have."""

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy()

    def refuse(bad: np.ndarray, why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise TrajectoryError(f"{path}: row {row} (run {table['run_id'][row]}): {why}")

    if not len(table):
        raise TrajectoryError(f"{path}: no rows")
    run, decision, step, reason = (column(name) for name in ("run_id", "decision", "step", "reason"))
    same, last = run[1:] == run[:-1], reason != "running"
    grows = np.append(False, same & ((np.diff(decision) != 1) | (np.diff(step) < 0)))
    refuse(grows, "decision or step does not follow the row before")
    refuse(np.append(decision[0] != 0, ~same & (decision[1:] != 0)), "a run must start with decision 0")
    refuse(np.append(same == last[:-1], ~last[-1]), "a run must end with its reason, and only there")
    unknown = last.copy()
    unknown[last] = ~np.isin(reason[last], REASONS)
    refuse(unknown, f"reason must be one of {REASONS}")
    refuse(~((step >= 0) & (step <= column("n_steps"))), "step must lie in [0, n_steps]")
    refuse(~((column("lr") >= 0) & np.isfinite(column("lr"))), "lr must be finite and not negative")
    refuse(~last & ~(np.abs(column("action")) <= 1), "action must lie in [-1, 1]")
    error = column("val_error")
    refuse((error < 0) | (error > 1), "val_error must lie in [0, 1]")


def files(folder: Path) -> list[Path]:
    """All trajectory files below `folder`, in a fixed order. Raises TrajectoryError if there is none."""
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        raise TrajectoryError(f"{folder}: holds no trajectories; run the collect stage first")
    return paths


def fingerprint(paths: Iterable[Path]) -> str:
    """sha256 over names and contents: identifies a data set."""
    return digests.of_parts(path.name.encode() + bytes.fromhex(digests.of_file(path)) for path in paths)


def count_runs(table: pa.Table) -> int:
    """Number of runs in a task's rows."""
    return int(np.sum(table["decision"].to_numpy() == 0))
