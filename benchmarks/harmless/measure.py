"""Healthy small trainings, each under the shipped policy, and under linear and cosine decay from usual rates.

    python -m benchmarks.harmless.measure            # writes benchmarks/results/harmless.json, docs/harmless.md
    python -m benchmarks.harmless.measure --check    # and fails where a bar is missed
    python -m benchmarks.harmless.measure --only BERT --methods pilot,unguarded
                                                     # prints the trainings whose names contain it; writes nothing

Trainings are cached in `.benchmark_cache` as they end. Those of the rivals stay valid when lrpilot changes. Keys of the
results: policy, the hash of its file; rows, see `figures`; <method>.<figure>, see `figures.summary`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harmless import page
from benchmarks.harmless.figures import HEALTHY, health, summary
from benchmarks.harmless.loops import GUARDS, METHODS, PILOT, RIVALS, run
from benchmarks.harmless.page import render
from benchmarks.harmless.trainings import CASES
from lrpilot import digests, load_policy
from pipeline import code_hash
from pipeline.engines import engine, progress, results
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import markdown
from pipeline.result_cache import through

OUT, PAGE = Path("benchmarks/results/harmless.json"), Path("docs/harmless.md")
SEEDS = 5
QUICK = 4  # cases
REGRET, ALARMED = 0.05, 0.02  # bars of the pilot: mean regret, share of the trainings with an alarm
BY_NAME = {case.name: case for case in CASES}
CODE = ("benchmarks.harmless.loops", "benchmarks.harmless.networks")
PACKAGES = ("torch", "transformers", "lightning")


class Job(NamedTuple):
    case: str
    seed: int
    method: str


def key(job: Job) -> tuple[Any, ...]:
    """Identifies everything that decides the result of a job. lrpilot is no part of a rival's."""
    case, piloted = BY_NAME[job.case], job.method in GUARDS
    others = tuple(f"lrpilot.integrations.{name}" for name in ("transformers", "lightning") if name != case.loop)
    code = code_hash.digest(*CODE, packages=PACKAGES, unused=others if piloted else ("lrpilot",))
    return "harmless", *case.key(), job.seed, job.method, code, policy() if piloted else ""


def policy() -> str:
    return digests.of_bytes(load_policy("default").content)


def trained(jobs: Sequence[Job], folder: Path) -> dict[Job, dict[str, Any]]:
    """What `loops.run` returns of all jobs. Those that `folder` lacks are trained, and cached as they end."""

    def compute(missing: Sequence[Job]) -> Iterator[dict[Job, dict[str, Any]]]:
        return progress(results(engine("local"), _train, missing), len(missing), "harmless", len, "trainings")

    return through(folder, {job: key(job) for job in jobs}, compute)


def _train(job: Job) -> dict[Job, dict[str, Any]]:
    logging.disable(logging.WARNING)  # every event of a guard is one
    return {job: run(BY_NAME[job.case], job.seed, job.method)}


def rows(names: Sequence[str], methods: Sequence[str], seeds: int, folder: Path) -> list[dict[str, Any]]:
    """A row, as `figures` reads it, of each case and seed, with `methods` and all rivals."""
    wanted = list(dict.fromkeys((*methods, *RIVALS)))
    ends = trained([Job(name, seed, method) for seed in range(seeds) for name in names for method in wanted], folder)
    out = []
    for case in map(BY_NAME.__getitem__, names):
        said = {"case": case.name, "kind": case.kind, "loop": case.loop, "steps": case.steps, "floor": case.floor}
        for seed in range(seeds):
            of = {method: ends[Job(case.name, seed, method)] for method in wanted}
            first = {"seed": seed, "first": _short(of[RIVALS[0]]["first"])}  # the same for all methods
            out.append(said | first | {method: _written(end) for method, end in of.items()})
    return out


def _written(end: Mapping[str, Any]) -> dict[str, Any]:
    """What a row holds of a training."""
    numbers = {name: _short(end[name]) for name in ("final", "level", "anchor") if name in end}
    return numbers | ({"events": dict(Counter(end["events"]))} if "events" in end else {})


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def measure(quick: bool) -> dict[str, Any]:
    names = [case.name for case in (CASES[:QUICK] if quick else CASES)]
    found = rows(names, METHODS, 1 if quick else SEEDS, BENCHMARK_CACHE)
    sums = {f"{method}.{name}": value for method in METHODS for name, value in summary(found, method).items()}
    return {"policy": policy(), **sums, "rows": found}


def missed(r: Mapping[str, Any]) -> list[str]:
    """The bars that are missed, and cases that are not healthy."""
    n, ruined, regret, alarmed = len(r["rows"]), *(r[f"{PILOT}.{name}"] for name in ("ruined", "regret", "alarmed"))
    out = []
    if ruined:
        out.append(f"the pilot ruined {ruined} of {n} trainings")
    if regret > REGRET:
        out.append(f"the pilot's mean regret is {regret:.3f}, the bar is {REGRET}")
    if alarmed > ALARMED * n:
        out.append(f"{alarmed} of {n} trainings had an alarm, the bar is {ALARMED:.0%}")
    ill = [(row["case"], row["seed"], share) for row in r["rows"] if not (share := health(row)) >= HEALTHY]
    return out + [f"{name}, seed {seed}: no rival learns it, {share:.0%} of the way" for name, seed, share in ill]


def write(r: Mapping[str, Any]) -> None:
    """Write the results, a line of each row, and the part of the page."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in r["rows"])
    head = json.dumps({name: value for name, value in r.items() if name != "rows"}, indent=1).removesuffix("\n}")
    OUT.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    PAGE.write_text(markdown.fill(PAGE.read_text(encoding="utf-8"), OUT.stem, render(r)), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Healthy small trainings, which a pilot must not ruin.")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    parser.add_argument("--quick", action="store_true", help="a few trainings, to see that it works; writes nothing")
    parser.add_argument("--only", metavar="TEXT", help="print the cases whose names contain it; writes nothing")
    parser.add_argument("--methods", metavar="A,B", help=f"print these, of {', '.join(METHODS)}; writes nothing")
    args = parser.parse_args(argv)
    if args.only is not None or args.methods:
        methods = args.methods.split(",") if args.methods else [*GUARDS]
        names = [case.name for case in CASES if (args.only or "") in case.name]
        if unknown := {*methods} - {*METHODS}:
            parser.error(f"--methods: {', '.join(sorted(unknown))}, want some of {', '.join(METHODS)}")
        if not names:
            parser.error(f"--only: no case contains {args.only!r}; they are named in benchmarks/harmless/trainings.py")
        print(page.lines(rows(names, methods, 1 if args.quick else SEEDS, BENCHMARK_CACHE), methods))
        return 0
    r = measure(args.quick)
    print(render(r))
    if not args.quick:
        write(r)
    misses = missed(r)
    print(*(f"missed  {line}" for line in misses), sep="\n", file=sys.stderr)
    return int(args.check and bool(misses))


if __name__ == "__main__":
    sys.exit(main())
