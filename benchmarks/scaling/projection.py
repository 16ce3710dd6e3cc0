"""What 10^7 recorded runs would take, by arithmetic on what the other benchmarks measured.

    python -m benchmarks.scaling.projection    # seconds; writes benchmarks/results/projection.json, docs/scaling.md

It reads vectorising.json, storage.json and million.json beside its own file, where they were measured with two workers.
Assumed, not measured: PRICE per core-hour, and that costs grow in proportion to the runs. Keys:

    runs, files, core_hours, money       of the collection; `money` in dollars, at `price` per core-hour
    hours_on_2, hours_on_64, hours_on_512    cores, by the wall; no less than one process takes to write all files
    most_cores                           beyond which that process is what the others wait for
    files_gb, store_gb                   on disk: what is collected, what agents are trained on
    read_hours, load_hours               to check every file, to make the store of them: on one core
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.scaling.million import RUNS
from pipeline.reporting import markdown

OUT, PAGE = Path("benchmarks/results/projection.json"), Path("docs/scaling.md")
TARGET = 10**7  # runs
PRICE = 0.04  # dollars per core-hour: a cloud's list price of general-purpose machines is about that
CORES = (2, 64, 512)


def arithmetic(collection: Mapping[str, Any], storage: Mapping[str, Any], million: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, flat. Raises KeyError if workers were not measured."""
    per_core_hour = collection["mix_runs_per_hour"] / 2
    core_hours, files, scale = TARGET / per_core_hour, TARGET / RUNS, TARGET / million["runs"]
    writing = files * storage["store_ms"] / 3.6e6  # hours, of the one process that writes
    return {
        "runs": TARGET, "files": round(files), "core_hours": core_hours, "price": PRICE, "money": core_hours * PRICE,
        **{f"hours_on_{n}": max(core_hours / n, writing) for n in CORES}, "most_cores": core_hours / writing,
        "files_gb": TARGET * storage["chosen.bytes_per_run"] / 1e9, "store_gb": scale * million["store_bytes"] / 1e9,
        "read_hours": files / storage["many_files"] * storage["read_s"] / 3600,
        "load_hours": scale * million["load_cpu_s"] / 3600,
    }  # fmt: skip


def render(r: Mapping[str, Any]) -> str:
    rows = [
        ("processor time of the collection", f"{r['core_hours']:,.0f} core-hours"),
        *((f"wall time on {n} cores", f"{r[f'hours_on_{n}']:,.1f} hours") for n in CORES),
        (f"price, at {r['price']} $ per core-hour", f"{r['money']:,.0f} $"),
        ("cores that one writing process can keep busy", f"{r['most_cores']:,.0f}"),
        ("files", f"{r['files']:,}, {r['files_gb']:,.0f} GB"),
        ("reading and checking all files, one core", f"{r['read_hours']:.1f} hours"),
        ("the store that agents are trained on", f"{r['store_gb']:,.0f} GB"),
        ("building the store, one core", f"{r['load_hours']:.1f} hours"),
    ]
    return markdown.table(("10⁷ runs", ""), rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What 10^7 recorded runs would take.")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where the figures go (default: {OUT})")
    args = parser.parse_args(argv)
    measured = [json.loads((OUT.parent / f"{name}.json").read_text()) for name in ("vectorising", "storage", "million")]
    if "mix_runs_per_hour" not in measured[0]:
        raise SystemExit(
            "vectorising.json has no mix_runs_per_hour; run benchmarks.scaling.vectorising on an idle machine"
        )
    figures = arithmetic(*measured)
    command.write(figures, render(figures), args.out, PAGE if args.out == OUT else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
