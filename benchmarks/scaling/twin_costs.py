"""What twins cost: a task of groups of twins against as many separate runs of it, and what a machine records an hour.

    python -m benchmarks.scaling.twin_costs            # 20 minutes; writes docs/scaling.md and
                                                       # benchmarks/results/twin_costs.json
    python -m benchmarks.scaling.twin_costs --check    # and fails where a bar is missed

The first tasks of the default collection whose runs are twins are recorded twice, in one process on one thread: as
they are, and with a row for every run from the beginning. Keys: cost, processor time of the former over the latter, all
tasks together; cost_low and cost_high of its 95 % interval, over tasks; tasks; twins; and but for --quick per_hour,
twins that all cores record in an hour of the wall, on the tasks after these.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.environment import environment
from benchmarks.timing import clock
from lrpilot.decisions.cadence import CadenceSpec
from pipeline.collect import plan
from pipeline.config import load
from pipeline.engines import engine, results, settle
from pipeline.reporting import markdown
from pipeline.simulation.recording import Spec, prepare, record, trained

OUT, PAGE = Path("benchmarks/results/twin_costs.json"), Path("docs/scaling.md")
PAIRED, RECORDED = 20, 40  # tasks that are recorded twice, and that all cores record
COST, PER_HOUR = 0.6, 40_000  # bars: at most, at least
RESAMPLES = 2000


def twins(count: int) -> list[Spec]:
    """The first tasks of the default collection whose runs are twins."""
    params = load(Path())
    tasks = replace(params.collect, tasks=4 * count)
    return [spec for spec in plan(tasks, params.regimes.shares) if spec.groups is not None][:count]


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    settle()
    specs = twins(2 if quick else PAIRED + RECORDED)
    paired = specs[: 2 if quick else PAIRED]
    taken = np.array([[seconds(spec, apart) for apart in (False, True)] for spec in paired])
    rng = np.random.default_rng(0)
    drawn = taken[rng.integers(len(taken), size=(RESAMPLES, len(taken)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    together, apart = taken.sum(axis=0)
    out = {"cost": together / apart, "cost_low": float(low), "cost_high": float(high), "tasks": len(paired)}
    out |= {"twins": sum(spec.runs for spec in paired), "quick": quick}
    return out | ({} if quick else {"per_hour": per_hour(specs[PAIRED:])}) | environment()


def seconds(spec: Spec, apart: bool) -> float:
    """Processor time of a task's trainings; `apart`: every run has a row of its own from the beginning."""
    task = prepare(spec, CadenceSpec())
    return clock(lambda: trained(spec, task._replace(lineage=None) if apart else task))


def per_hour(specs: Sequence[Spec]) -> float:
    """Twins that all cores record, by the wall."""
    pool = engine("local", os.cpu_count() or 1)
    start = time.monotonic()
    for _ in results(pool, record, specs):
        pass
    return 3600 * sum(spec.runs for spec in specs) / (time.monotonic() - start)


def missed(r: Mapping[str, Any]) -> list[str]:
    """Bars that the figures miss."""
    out = [f"a group costs {r['cost']:.2f} of as many separate runs, want {COST:g} at most"] if r["cost"] > COST else []
    if r.get("per_hour", PER_HOUR) < PER_HOUR:
        out.append(f"{r['per_hour']:,.0f} twins an hour, want {PER_HOUR:,}")
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown."""
    cost = [f"{r['cost']:.2f}", f"{r['cost_low']:.2f} to {r['cost_high']:.2f}", str(r["tasks"]), f"{r['twins']:,}"]
    table = markdown.table(["a group costs", "95 % interval", "tasks", "twins"], [cost], "rrrr")
    rate = f"\n\n{r['per_hour']:,.0f} twins an hour on all cores." if "per_hour" in r else ""
    return f"{table}{rate}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "What twins cost.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
