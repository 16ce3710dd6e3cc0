"""How recordings are best stored: bytes, and time to write and read them, of one layout of the file and of others.

    python -m benchmarks.scaling.storage    # 4 minutes, 4 GB of temporary files; writes docs/trajectories.md and
                                            # benchmarks/results/storage.json

The first 32 tasks of the default collection are recorded, then written and read in every layout of VARIANTS. All take
turns in one process, in an order shuffled anew in every round. Medians over the rounds, as <variant>.<figure>:

    bytes_per_run    of the files, over the runs in them
    encode_ms        processor time per task, from rows to the content of a file
    read_ms          processor time per task, from a file to rows, with the checks of `trajectories.read`

`chosen` is what `trajectories.encode` writes; every other variant differs from it by what its words say. Then, on
`many_files` copies of the recordings, just written (so in memory, where there is room), in seconds of wall time:

    many_gigabytes   size of them all
    files_s          to list them with `trajectories.files`
    fingerprint_s    to hash them all with `trajectories.fingerprint`
    read_s           to read and check them all with `trajectories.read`
    store_ms         of one file with `trajectories.store`, which waits for the disk: mean
    unsynced_ms      of the same without waiting for the disk

Beside these: quick, tasks, runs, rows, pyarrow, processor.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks import command
from benchmarks.environment import THREADS, processor
from benchmarks.scaling.layouts import VARIANTS
from benchmarks.timing import clock, wall
from pipeline.collect import plan
from pipeline.config import load
from pipeline.reporting import markdown
from pipeline.simulation.recording import Spec, record
from policy import trajectories

OUT, PAGE = Path("benchmarks/results/storage.json"), Path("docs/trajectories.md")
RUNS_PER_TASK = 32  # of the default collection, for sizes of larger ones


def read(path: Path) -> None:
    """As `trajectories.read` does, of any schema."""
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        trajectories.check_rows(file.read(use_threads=False), path)


def compare(tables: Sequence[pa.Table], rounds: int, folder: Path) -> dict[str, float]:
    """The figures of every variant."""
    runs = sum(map(trajectories.count_runs, tables))
    figures: dict[str, float] = {}
    paths: dict[str, list[Path]] = {}
    for name, variant in VARIANTS.items():
        contents = variant.encode(tables)
        paths[name] = [folder / f"{name}-{i}.parquet" for i in range(len(contents))]
        for path, content in zip(paths[name], contents, strict=True):
            path.write_bytes(content)
        figures[f"{name}.bytes_per_run"] = sum(map(len, contents)) / runs
    taken: dict[str, list[float]] = {f"{name}.{what}_ms": [] for name in VARIANTS for what in ("encode", "read")}
    names, order = list(VARIANTS), np.random.default_rng(0)
    for _ in range(rounds):
        for name in order.permutation(names).tolist():
            loops: dict[str, Callable[[], object]] = {
                "encode": lambda name=name: VARIANTS[name].encode(tables),
                "read": lambda name=name: [read(path) for path in paths[name]],
            }
            for what, loop in loops.items():
                taken[f"{name}.{what}_ms"].append(1e3 * clock(loop) / len(tables))
    return figures | {key: float(np.median(times)) for key, times in taken.items()}


def many(contents: Sequence[bytes], copies: int, folder: Path) -> dict[str, float]:
    """The figures of `copies` files."""

    def read_all() -> None:
        for path in paths:
            trajectories.read(path)

    def unsynced(content: bytes, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)

    paths = [folder / str(i % len(contents)) / f"{i:016x}.parquet" for i in range(copies)]
    content_of = [contents[i % len(contents)] for i in range(copies)]
    synced = min(copies, 300)
    store_s = wall(lambda: [*map(trajectories.store, content_of[:synced], paths)])
    unsynced_s = wall(lambda: [*map(unsynced, content_of, paths)])
    return {
        "many_files": copies,
        "many_gigabytes": sum(map(len, content_of)) / 1e9,
        "files_s": wall(lambda: trajectories.files(folder)),
        "fingerprint_s": wall(lambda: trajectories.fingerprint(paths)),
        "read_s": wall(read_all),
        "store_ms": 1e3 * store_s / synced,
        "unsynced_ms": 1e3 * unsynced_s / copies,
    }


def specs(quick: bool) -> list[Spec]:
    """Tasks of the default profile, or two small ones."""
    params = load(Path())
    if not quick:
        return plan(params.collect, params.regimes.shares)
    return plan(replace(params.collect, families={"illconditioned": 1.0}, tasks=2, runs_per_task=3), {"odd": 1.0})


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = [folder / f"{i}.parquet" for i in range(2 if quick else 32)]
        for path, spec in zip(paths, specs(quick), strict=False):
            trajectories.store(record(spec), path)
        tables = [trajectories.read(path) for path in paths]
        results = {
            "quick": quick, "pyarrow": pa.__version__, "processor": processor(), "tasks": len(tables),
            "runs": sum(map(trajectories.count_runs, tables)), "rows": sum(map(len, tables)),
        }  # fmt: skip
        results |= compare(tables, 1 if quick else 9, folder)
        copies = 4 if quick else 10**6 // RUNS_PER_TASK
        return results | many([path.read_bytes() for path in paths], copies, folder / "many")


def render(results: Mapping[str, Any]) -> str:
    """Markdown: a row of each variant, then what large collections take."""
    head = ["layout", "bytes per run", "encode, ms per task", "read, ms per task"]
    rows = []
    for name, variant in VARIANTS.items():
        size, encode, read = (results[f"{name}.{figure}"] for figure in ("bytes_per_run", "encode_ms", "read_ms"))
        rows.append([variant.words, f"{size:,.0f}", f"{encode:.2f}", f"{read:.2f}"])
    size = results["chosen.bytes_per_run"]
    last = f"""
Measured on {results["tasks"]} tasks ({results["runs"]:,} runs, {results["rows"]:,} rows) of the default collection,
with pyarrow {results["pyarrow"]}, one thread, {results["processor"]}.

A run takes {size:,.0f} bytes: 10⁶ runs {size / 1e3:.1f} GB in {10**6 // RUNS_PER_TASK:,} files, 10⁷ runs {size / 1e2:.0f} GB.
On {results["many_files"]:,} files, {results["many_gigabytes"]:.1f} GB, just written: listing takes {results["files_s"]:.1f} s, hashing
{results["fingerprint_s"]:.0f} s, reading and checking {results["read_s"]:.0f} s. Storing one file takes {results["store_ms"]:.1f} ms, or {results["unsynced_ms"]:.1f} ms without waiting for the disk."""  # noqa: E501
    return f"{markdown.table(head, rows)}\n{last}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "How recordings are best stored.", OUT, PAGE, measure, render, lambda _: [])


if __name__ == "__main__":
    sys.exit(main())
