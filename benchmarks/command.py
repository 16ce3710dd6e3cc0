"""The command lines that benchmarks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.reporting import markdown


def run(
    argv: Sequence[str] | None,
    what: str,
    out: Path,
    page: Path,
    measure: Callable[[bool], dict[str, Any]],
    render: Callable[[Mapping[str, Any]], str],
    missed: Callable[[Mapping[str, Any]], list[str]],
) -> int:
    """Measure and write the figures, and, if they go to `out`, the part of `page` with its name. Returns the exit
    status.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--out", type=Path, default=out, help=f"where the figures go (default: {out})")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works; figures mean nothing")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    args = parser.parse_args(argv)
    results = measure(args.quick)
    write(results, render(results), args.out, page if args.out == out else None)
    misses = missed(results)
    print(*(f"missed  {line}" for line in misses), sep="\n", file=sys.stderr)
    return int(args.check and bool(misses))


def of_profile(
    argv: Sequence[str] | None,
    what: str,
    out: Path,
    page: Path,
    measure: Callable[[Path], dict[str, Any]],
    render: Callable[[Mapping[str, Any]], str],
) -> int:
    """The same of the recorded trainings in a profile's folder, which `measure` is given. Returns the exit status."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("profile", type=Path, help="a folder with params.yaml and recorded trainings")
    parser.add_argument("--out", type=Path, default=out, help=f"where the figures go (default: {out})")
    args = parser.parse_args(argv)
    results = measure(args.profile)
    write(results, render(results), args.out, page if args.out == out else None)
    return 0


def write(results: Mapping[str, Any], table: str, out: Path, page: Path | None) -> None:
    """Write the figures, put the table into the part of `page` that has their name, and print it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        page.write_text(markdown.fill(page.read_text(encoding="utf-8"), out.stem, table), encoding="utf-8")
    print(table)
