"""Collections whose processes are killed at random for twenty minutes: is anything lost, damaged or there twice?

    python -m benchmarks.scaling.soak            # 25 minutes; writes benchmarks/results/soak.json, docs/scaling.md
    python -m benchmarks.scaling.soak --check    # and fails where anything was lost

Collections of the default mix follow one another, each with another seed, until `minutes` are over; the last one goes
on to its end. Every `every_s` seconds one process is killed with signal 9: a worker or, at one time in five, the
driver, which is then run again as `dvc repro` would be. So is one that gave a task up, its worker having been killed
three times: its exit status asks for that. All the while the files that are there are noted. Keys:

    minutes, every_s                  until no new collection began; between two kills
    killed_workers, killed_drivers    how often
    collections, tasks, runs          what was asked for, and is there: `found_tasks`, `found_runs`
    lost, changed                     files that were there once and later were not, or had other bytes
    damaged                           files that cannot be read at the end
    twice                             runs with an id that another run has
    strays                            files that no task asked for
    compared, differing               tasks recorded again without disturbance; those whose bytes are others
    given_up                          times that a collection gave a task up, said so, and a new run recorded it
    failed                            tasks that are missing in the end
    wall_s, runs_per_hour             of all collections, kills included

and quick, workers, processor.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import command
from benchmarks.environment import processor
from lrpilot import digests
from pipeline.collect import plan
from pipeline.config import load, overlay, read
from pipeline.engines import engine
from pipeline.paths import Paths
from pipeline.simulation.recording import record
from policy import trajectories

OUT, PAGE = Path("benchmarks/results/soak.json"), Path("docs/scaling.md")
NOTHING = ("lost", "changed", "damaged", "twice", "strays", "differing", "failed")  # bars: none of any
DRIVER = 0.2  # probability that a kill meets the driver
COMPARED = 4  # tasks of each collection
MOST_RUNS = 100  # of each collection: what fails as often is broken


@dataclass(frozen=True)
class Effort:
    """How long, and what is collected."""

    minutes: float
    every_s: float
    kills: int  # at most
    collect: Mapping[str, Any]  # in place of the default profile's
    regimes: Mapping[str, float] = field(default_factory=dict)  # likewise


FULL = Effort(20, 20, sys.maxsize, {"tasks": 160})
QUICK = Effort(
    0, 5, 3,
    {
        "tasks": 12, "runs_per_task": 3, "families": {"illconditioned": 1.0, "spirals": 1.0},
        "branches": {"share": 0.5, "levels": 1, "moves": 0, "twins": 3, "dear": 3, "base": "hold", "rolled_in": 0.0},
    },
    {"ordinary": 0.0, "finetuning": 0.0, "small_noisy": 0.0, "odd": 1.0},
)  # fmt: skip


@dataclass
class Watch:
    """The files of one collection as they appear, and what happens to them later."""

    folder: Path
    digests: dict[Path, str] = field(default_factory=dict)  # sha256
    stamps: dict[Path, int] = field(default_factory=dict)  # ns, of the last change

    def look(self) -> None:
        """Record new files, by the time of their last change."""
        for path in self.folder.glob("*/*.parquet"):
            stamp = path.stat().st_mtime_ns
            if path not in self.stamps:
                self.digests[path], self.stamps[path] = digests.of_file(path), stamp

    def verdict(self) -> dict[str, int]:
        """How many of the recorded files are gone, and how many have changed."""
        there = [path for path in self.digests if path.exists()]
        changed = sum(digests.of_file(p) != self.digests[p] or p.stat().st_mtime_ns != self.stamps[p] for p in there)
        return {"lost": len(self.digests) - len(there), "changed": changed}


def workers(driver: int) -> list[psutil.Process]:
    """Processes that the local engine of a process runs."""
    processes = []
    for process in psutil.Process(driver).children():
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            if "spawn_main" in " ".join(process.cmdline()):
                processes.append(process)
    return processes


@dataclass
class Killer:
    """Kills a process every so many seconds, up to a number of times."""

    every: float
    most: int
    rng: random.Random
    workers: int = 0
    drivers: int = 0
    _next: float = 0.0  # at once

    def strike(self, driver: subprocess.Popen[bytes]) -> None:
        """If it is time, kill the driver or one of its workers."""
        if time.monotonic() < self._next or self.workers + self.drivers >= self.most:
            return
        victims = workers(driver.pid)
        if self.rng.random() < DRIVER:
            driver.kill()
            self.drivers += 1
        elif victims:
            self.rng.choice(victims).kill()
            self.workers += 1
        else:
            return  # it has no workers yet: a moment later
        self._next = time.monotonic() + self.every


def failures(root: Path) -> int:
    """Tasks that the last run gave up."""
    return json.loads(Paths(root).collect_metrics.read_text())["failed"]


def collect(root: Path, killer: Killer, deadline: float) -> tuple[Watch, int]:
    """One collection, run again as often as needed; returns how often it gave a task up. Kills end at the deadline."""
    watch, given_up = Watch(Paths(root).trajectories), 0
    for runs in itertools.count():
        call = [sys.executable, "-m", "pipeline.collect", "--root", str(root)]
        with (root / "log").open("ab") as log, subprocess.Popen(call, stdout=log, stderr=log) as driver:
            while driver.poll() is None:
                time.sleep(0.2)
                watch.look()
                if watch.digests and time.monotonic() < deadline:
                    killer.strike(driver)
        watch.look()
        if driver.returncode >= 0:
            if not Paths(root).collect_metrics.exists():
                raise SystemExit(f"the collection ended with {driver.returncode}:\n{(root / 'log').read_text()}")
            given_up += failures(root)
            if driver.returncode == 0 or runs > MOST_RUNS:
                break
    return watch, given_up


def check(root: Path, watch: Watch) -> dict[str, int]:
    """The result of one collection."""
    params = load(root)
    specs = plan(params.collect, params.regimes.shares)
    wanted = {spec.file(): spec for spec in specs}
    there = {str(path.relative_to(watch.folder)): path for path in watch.folder.rglob("*") if path.is_file()}
    runs: list[str] = []
    damaged = 0
    for path in watch.folder.glob("*/*.parquet"):
        try:
            runs += trajectories.read(path)["run_id"].unique().to_pylist()
        except trajectories.TrajectoryError:
            damaged += 1
    again = {wanted[name]: there[name] for name in list(wanted)[:COMPARED] if name in there}
    done = list(engine("local", 1).imap_unordered(record, list(again)))  # with more threads, sums round otherwise
    return watch.verdict() | {
        "collections": 1, "tasks": len(specs), "runs": sum(spec.runs for spec in specs),
        "found_tasks": len(wanted.keys() & there.keys()), "found_runs": len(runs), "damaged": damaged,
        "twice": len(runs) - len(set(runs)), "strays": len(there.keys() - wanted.keys()), "compared": len(again),
        "differing": sum(outcome.result != again[outcome.item].read_bytes() for outcome in done),
        "failed": failures(root),
    }  # fmt: skip


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    effort = QUICK if quick else FULL
    begin, totals, wall = time.monotonic(), dict[str, int](), 0.0
    killer, deadline = Killer(effort.every_s, effort.kills, random.Random(0)), begin + 60 * effort.minutes
    while not totals or time.monotonic() < deadline:
        with tempfile.TemporaryDirectory(prefix="soak-") as made:
            root, start = Path(made), time.monotonic()
            changes = {**effort.collect, "seed": totals.get("collections", 0)}
            params = overlay(read(Path("params.yaml")), {"regimes": dict(effort.regimes), "collect": changes})
            (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
            watch, given_up = collect(root, killer, math.inf if quick else deadline)
            wall += time.monotonic() - start
            for key, value in (check(root, watch) | {"given_up": given_up}).items():
                totals[key] = totals.get(key, 0) + value
    return {
        "quick": quick, "processor": processor(), "workers": os.cpu_count() or 1, "minutes": effort.minutes,
        "every_s": effort.every_s, "killed_workers": killer.workers, "killed_drivers": killer.drivers, **totals,
        "wall_s": wall, "runs_per_hour": totals["found_runs"] / wall * 3600,
    }  # fmt: skip


def missed(results: Mapping[str, Any]) -> list[str]:
    """A message for everything that was lost."""
    losses = [f"{key}: {results[key]}, want 0" for key in NOTHING if results[key]]
    return losses + [
        f"found_{what}: {results[f'found_{what}']}, want {results[what]}"
        for what in ("tasks", "runs")
        if results[f"found_{what}"] != results[what]
    ]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: what was done, and the result."""
    lost = ", ".join(f"{key} {r[key]}" for key in NOTHING)
    return (
        f"In {r['minutes']:g} minutes {r['killed_workers']} workers and {r['killed_drivers']} drivers were killed, one "
        f"every {r['every_s']:g} s, during {r['collections']} collections of {r['tasks']:,} tasks in all. At the end "
        f"{r['found_runs']:,} of {r['runs']:,} runs and {r['found_tasks']:,} of {r['tasks']:,} files were there; "
        f"{lost}. {r['given_up']} times a task was given up after three kills, and a new run recorded it. For "
        f"comparison, {r['compared']} tasks were recorded again without kills: {r['differing']} of their files "
        f"differed. Speed, with kills and starts: {r['runs_per_hour']:,.0f} runs an hour on {r['workers']} cores, "
        f"{r['processor']}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "Collections whose processes are killed at random.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
