"""Recorded trainings on disk: the Parquet schema, and a loader that validates. See docs/trajectories.md.

One file per task (a workload drawn from a family), one row per (run, decision), sorted by run and decision. Telemetry
is raw: observations and rewards are computed from it, so a change of features or reward needs no new trainings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1

SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("family", pa.string()),
        ("workload", pa.string()),
        ("task", pa.string()),  # hash of the spec: runs of one task are comparable
        ("seed", pa.int64()),
        ("optimizer", pa.string()),
        ("schedule", pa.string()),  # behaviour policy
        ("lr0", pa.float64()),  # learning rate that the behaviour asked for first
        ("n_steps", pa.int64()),
        ("steps_per_epoch", pa.float64()),
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
        ("probe_loss", pa.list_(pa.float64())),  # decision 0 of probed runs, else null
        ("probe_grad", pa.list_(pa.float64())),
        ("probe_used", pa.int64()),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("reason", pa.string()),
    ],
    metadata={"lrpilot.format": str(FORMAT)},
)
REASONS = ("running", "budget", "diverged")


class TrajectoryError(ValueError):
    """A trajectory file that cannot be used: which one, which row, why."""


def encode(table: pa.Table) -> bytes:
    """A task's rows as the content of its file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(SCHEMA), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def store(content: bytes, path: Path) -> None:
    """Write a task's file at once or not at all: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


def read(path: Path) -> pa.Table:
    """The rows of one task, checked.

    Raises TrajectoryError, which names the file and, where there is one, the row: not Parquet, another format,
    columns missing or of another type, values out of range, decisions or steps that do not grow.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise TrajectoryError(f"{path}: not readable as Parquet ({error}); delete it and collect again") from error
    found = (table.schema.metadata or {}).get(b"lrpilot.format", b"none").decode()
    if found != str(FORMAT):
        raise TrajectoryError(f"{path}: trajectory format {found}, this version reads {FORMAT}; collect again")
    if not table.schema.equals(SCHEMA):
        odd = [f.name for f in SCHEMA if f.name not in table.schema.names or table.schema.field(f.name) != f]
        extra = sorted(set(table.schema.names) - set(SCHEMA.names))
        why = f"{odd + extra} are missing, unknown or of another type" if odd + extra else "are in another order"
        raise TrajectoryError(f"{path}: columns {why}; collect again")
    _check_rows(table, path)
    return table


def _check_rows(table: pa.Table, path: Path) -> None:
    def column(name: str) -> np.ndarray:
        return table[name].to_numpy()

    def refuse(bad: np.ndarray, why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise TrajectoryError(f"{path}: row {row} (run {table['run_id'][row]}): {why}")

    if not len(table):
        raise TrajectoryError(f"{path}: no rows")
    run, decision, step, last = (
        column("run_id"),
        column("decision"),
        column("step"),
        column("reason") != "running",
    )
    same = run[1:] == run[:-1]
    grows = np.append(False, same & ((np.diff(decision) != 1) | (np.diff(step) < 0)))
    refuse(grows, "decision or step does not follow the row before")
    refuse(np.append(decision[0] != 0, ~same & (decision[1:] != 0)), "a run must start with decision 0")
    refuse(np.append(same == last[:-1], ~last[-1]), "a run must end with its reason, and only there")
    refuse(~np.isin(column("reason"), REASONS), f"reason must be one of {REASONS}")
    refuse((step < 0) | (step > column("n_steps")), "step must lie in [0, n_steps]")
    refuse(~((column("lr") >= 0) & np.isfinite(column("lr"))), "lr must be finite and not negative")
    refuse(~last & ~(np.abs(column("action")) <= 1), "action must lie in [-1, 1]")
    error = column("val_error")
    refuse((error < 0) | (error > 1), "val_error must lie in [0, 1]")


def files(folder: Path) -> list[Path]:
    """All trajectory files below `folder`, in a fixed order. Raises TrajectoryError if there is none."""
    found = sorted(folder.glob("*/*.parquet"))
    if not found:
        raise TrajectoryError(f"{folder}: holds no trajectories; run the collect stage first")
    return found


def fingerprint(paths: Iterable[Path]) -> str:
    """sha256 over names and contents: identifies a data set."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def count_runs(table: pa.Table) -> int:
    """Number of runs in a task's rows."""
    return int(np.sum(table["decision"].to_numpy() == 0))
