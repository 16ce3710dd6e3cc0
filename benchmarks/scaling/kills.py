"""Kills while a first `make repro` sets everything up: does the next call go on, and does it end the same?

    python -m benchmarks.scaling.kills            # an hour and a half; writes kills.json and a part of docs/pipeline.md
    python -m benchmarks.scaling.kills --check    # and fails where a call did not go on

A clone is a committed copy of the working tree, in which nothing ran before; `.venv` is this environment. For every
half second of the first 30, `make repro PROFILE=tiny` starts in a clone of its own. After that time, its whole process
group is killed with signal 9. Then the same command is called again, with no file touched in between. Every tenth of
these calls runs to its end, and all that it made is compared with a run that nothing disturbed. The others end when
they have gone on: when they recorded a task that the killed call had not recorded, or began a later stage than it. A
task is recorded after the stores, locks and caches of the set-up are open. Rows are kept in `.benchmark_cache`, so a
study that ended early goes on where it was, unless a file of the repository has changed since. Keys:

    kills, every_s                        how many, and the time between two of them
    before, making, recording, later      kills before the first stage began; in it, before MLflow's database was whole;
                                          in it, after that; in a later stage
    went_on                               next calls that went on
    stopped                               the moments, in seconds, of those after which it did not
    completed, outs                       next calls that ran to their end; files and folders compared in each
    differing                             of these, in all calls, the ones that differ from the undisturbed run's

and quick, processor.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import command
from benchmarks.environment import processor
from pipeline.config import read
from pipeline.paths import BENCHMARK_CACHE, Paths
from pipeline.result_cache import through

OUT, PAGE = Path("benchmarks/results/kills.json"), Path("docs/pipeline.md")
PROFILE = "tiny"
ROOT = Path("profiles") / PROFILE
EVERY = 0.5  # s between two moments of a kill
COMPLETED = 10  # one in so many calls after a kill runs to its end
FIRST, PHASES = "collect", ("before", "making", "recording", "later")
LIMIT = 1800  # s in which a call must go on
UNDISTURBED = 0.0  # in place of the moment of a kill
# They state how long something took.
TIMED = {str(ROOT / artefact.path) for artefact in (Paths.collect_metrics, Paths.evaluation, Paths.report)}
DATE = "2020-01-01T00:00:00Z"  # of the commit, whose hash, which policies state, then follows from its files


@dataclass(frozen=True)
class Call:
    """A `make repro`, with all its processes in one group."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def stage(self) -> str | None:
        """The stage that DVC began last."""
        begun = re.findall(r"Running stage '(?:.*:)?(\w+)'", self.said)
        return begun[-1] if begun else None


def prepare(clone: Path) -> str:
    """Make `clone` a committed copy of the working tree; returns the commit's hash."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in subprocess.check_output(listed, text=True).split("\0"):
        if Path(name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, clone / name)
    return commit(clone)


def commit(clone: Path) -> str:
    """Commit all files of a folder, and give it this environment as `.venv`; returns the commit's hash."""
    env = os.environ | {"GIT_AUTHOR_DATE": DATE, "GIT_COMMITTER_DATE": DATE}
    author = ("-c", "user.name=kills", "-c", "user.email=kills@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*author, "commit", "-qm", "all")):
        subprocess.run(("git", *words), cwd=clone, env=env, check=True)
    venv = clone / ".venv"
    venv.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "ready":
            (venv / path.name).symlink_to(path)
    (venv / "ready").touch()  # newer than what it is made from, so that make sets up nothing
    return subprocess.check_output(("git", "rev-parse", "HEAD"), cwd=clone, text=True).strip()


@contextmanager
def repro(clone: Path) -> Iterator[Call]:
    """Call make. Whatever of it still runs at the end of the block is killed at once."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(clone / "runtime"), str(clone))),
        "DVC_SITE_CACHE_DIR": str(clone.with_name("site")),
    }
    env.pop("MLFLOW_TRACKING_URI", None)
    path, words = clone.with_name("log"), ("make", "repro", f"PROFILE={PROFILE}")
    with path.open("wb") as log:
        process = subprocess.Popen(words, cwd=clone, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield Call(process, path)
        finally:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group, and wait until none of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while any(_in_group(each, process.pid) for each in psutil.process_iter()):
        time.sleep(0.01)


def _in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def results(clone: Path) -> dict[str, str]:
    """What a whole pipeline made, by path: the hashes that DVC noted, except for files that state how long it took."""
    stages = read(clone / ROOT / "dvc.lock")["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    return {path: digest for path, digest in outs.items() if path not in TIMED}


def one(moment: float, whole: bool, source: Path) -> dict[str, Any]:
    """Kill a call in a copy of the clone after `moment` seconds, and call again: to the end, or until that went on."""
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        clone = Path(made, "clone")
        shutil.copytree(source, clone, symlinks=True)
        killed, stored = None, False
        if moment != UNDISTURBED:
            with repro(clone) as call, suppress(subprocess.TimeoutExpired):
                call.process.wait(moment)
            killed, stored = call.stage, (clone / ROOT / "mlflow.db").exists()
        before = recordings(clone)
        with repro(clone) as call:
            stages, end = list(read(source / "dvc.yaml")["stages"]), time.monotonic() + LIMIT
            while (status := call.process.poll()) is None and time.monotonic() < end:
                if not whole and (is_later(call.stage, killed, stages) or recordings(clone) - before):
                    status = 0
                    break
                time.sleep(0.1)
        went_on = status == 0
        if not went_on:
            print(f"after a kill at {moment:g} s:\n{call.said}", file=sys.stderr)
        made_all = results(clone) if whole and went_on else {}
    return {"stage": killed, "stored": stored, "went_on": went_on, "made": made_all}


def recordings(clone: Path) -> set[Path]:
    """The recorded tasks. A stage records one only after it has opened all that the set-up makes."""
    return set((clone / ROOT / Paths.trajectories.path).glob("*/*.parquet"))


def is_later(stage: str | None, killed: str | None, stages: Sequence[str]) -> bool:
    """Whether a stage comes after the one that was killed; if that had not begun, after the first one."""
    return stage is not None and stages.index(stage) > stages.index(killed or stages[0])


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    moments = [EVERY * (i + 1) for i in range(2 if quick else 60)]
    whole = {UNDISTURBED, *moments[COMPLETED - 1 :: COMPLETED]}
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        source = Path(made, "source")
        revision = prepare(source)
        keys = {moment: ("kills", revision, moment) for moment in (UNDISTURBED, *moments)}
        return figures(through(BENCHMARK_CACHE, keys, partial(rows, whole=whole, source=source))) | {"quick": quick}


def rows(moments: Sequence[float], whole: Collection[float], source: Path) -> Iterator[dict[float, dict[str, Any]]]:
    """The result of `one` for each moment, as soon as it is there."""
    for moment in moments:
        row = one(moment, moment in whole, source)
        print(f"{moment:g} s: {row['stage'] or 'before the stages'}, went on: {row['went_on']}", file=sys.stderr)
        yield {moment: row}


def figures(rows: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    """All figures but one, flat, from the result of `one` by moment."""
    wanted = rows[UNDISTURBED]["made"]
    kills = {moment: row for moment, row in rows.items() if moment != UNDISTURBED}
    completed = [row["made"] for row in kills.values() if row["made"]]
    phases = [_phase(row["stage"], row["stored"]) for row in kills.values()]
    return {
        "processor": processor(), "kills": len(kills), "every_s": EVERY,
        **{phase: phases.count(phase) for phase in PHASES},
        "went_on": sum(row["went_on"] for row in kills.values()),
        "stopped": [moment for moment, row in kills.items() if not row["went_on"]],
        "completed": len(completed), "outs": len(wanted),
        "differing": sum(made.get(path) != digest for made in completed for path, digest in wanted.items()),
    }  # fmt: skip


def _phase(stage: str | None, stored: bool) -> str:
    if stage is None:
        return "before"
    if stage != FIRST:
        return "later"
    return "recording" if stored else "making"


def missed(r: Mapping[str, Any]) -> list[str]:
    """A message for each call that did not go on, and for results that differ."""
    stopped = [f"the call after a kill at {moment:g} s did not go on" for moment in r["stopped"]]
    return stopped + ([f"differing: {r['differing']}, want 0"] if r["differing"] else [])


def render(r: Mapping[str, Any]) -> str:
    """Markdown: what was done, and the result."""
    return (
        f"In {r['kills']} fresh clones the first `make repro PROFILE={PROFILE}` was killed, in each of them "
        f"{r['every_s']:g} s later than in the one before: {r['before']} times before the first stage began, "
        f"{r['making']} times in it, before MLflow's database was there, {r['recording']} times in it after that, and "
        f"{r['later']} times in a later stage. {r['went_on']} of the {r['kills']} next calls went on by themselves. "
        f"{r['completed']} of them ran to the end: of the {r['outs']} files and folders that each made, "
        f"{r['differing']} differ from those of an undisturbed run."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "Kills of a first `make repro`.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
