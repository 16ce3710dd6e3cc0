"""What guards are worth: the policy with them minus the policy without, wherever both were measured.

    python -m benchmarks.guard_worth          # a second; writes its table of docs/guards.md
    python -m benchmarks.guard_worth --check  # and fails where guards cost something

It trains nothing: it reads the results of `benchmarks.shipped` (the selection split, by regime), of
`benchmarks.harmless.measure` (healthy trainings, by kind) and of `benchmarks.guards.injected` (faults). Differences are
of regrets; negative is better with guards.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import shipped
from benchmarks.guards.injected import PAGE, RESULTS, lg_ratio
from benchmarks.harmless import measure
from benchmarks.harmless.figures import LEAST, MOST, regret, ruined
from benchmarks.harmless.loops import PILOT, UNGUARDED
from pipeline.reporting import markdown, verdict
from pipeline.reporting.result_keys import ResultKey
from pipeline.reporting.scores import REGIMES

COST = 0.005  # upper end of the interval that no regime may exceed
GROUP = "control.unguarded"
RESAMPLES = 2000


class Worth(NamedTuple):
    """On minus off: its mean and its interval, and trainings ruined with guards and without, where that is counted."""

    where: str
    minus: float
    low: float
    high: float
    ruined: str = ""


def by_regime(r: Mapping[str, Any]) -> list[Worth]:
    """Of the selection split, over all and by regime."""

    def of(prefix: str, title: str) -> Worth:
        values = [
            r[ResultKey(shipped.SPLIT, GROUP, f"{prefix}policy_minus{end}").encode()] for end in ("", "_low", "_high")
        ]
        return Worth(title, *values)

    return [of("", "selection, all"), *(of(f"{name}_", f"selection, {title}") for name, title in REGIMES.items())]


def by_kind(rows: Sequence[Mapping[str, Any]]) -> list[Worth]:
    """Of the healthy trainings, over all and by kind of difficulty; seeds are resampled."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    parts = {"healthy, all": list(rows)} | {f"healthy, {k}": [row for row in rows if row["kind"] == k] for k in kinds}
    return [_of_rows(title, part) for title, part in parts.items()]


def _of_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Worth:
    with_guards, without = (
        np.clip([regret(row, method) for row in rows], LEAST, MOST) for method in (PILOT, UNGUARDED)
    )
    gap = with_guards - without
    draws = np.random.default_rng(0).choice(gap, (RESAMPLES, len(gap))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    lost = f"{len(ruined(rows, PILOT))} and {len(ruined(rows, UNGUARDED))} of {len(rows)}"
    return Worth(title, float(gap.mean()), float(low), float(high), lost)


def faults(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many of the injected faults guards make better, worse, or survivable."""
    ratios = [lg_ratio(dict(row)) for row in rows if row["with"] != row["without"]]
    gained = sum(ratio is None or ratio > 0.01 for ratio in ratios)
    lost = sum(ratio is not None and ratio < -0.01 for ratio in ratios)
    return f"Of {len(rows)} faults injected, guards make {gained} better and {lost} worse."


def render(worth: Sequence[Worth], of_faults: str) -> str:
    """Markdown: a row of each group of trainings."""
    head = ["trainings", "on minus off", "95 %", "ruined with guards, and without"]
    rows = [[w.where, verdict.number(w.minus), verdict.interval(w.low, w.high), w.ruined or "–"] for w in worth]
    return f"{markdown.table(head, rows)}\n\n{of_faults}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What guards are worth.")
    parser.add_argument("--check", action="store_true", help="exit with 1 where guards cost something")
    args = parser.parse_args(argv)
    selection, healthy, injected = (json.loads(path.read_text()) for path in (shipped.OUT, measure.OUT, RESULTS))
    regimes = by_regime(selection)
    table = render([*regimes, *by_kind(healthy["rows"])], faults(injected["faults"]))
    PAGE.write_text(markdown.fill(PAGE.read_text(), "worth", table))
    print(table)
    costly = [w for w in regimes if w.high > COST]
    print(*(f"missed  {w.where}: guards cost up to {w.high:.3f}" for w in costly), sep="\n", file=sys.stderr)
    return int(args.check and bool(costly))


if __name__ == "__main__":
    sys.exit(main())
