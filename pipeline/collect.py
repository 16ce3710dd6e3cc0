"""Record trainings under many learning-rate schedules.

There is one file per task. Its name contains the hash of everything that decides its content. So an interrupted
collection continues with the missing files, and a changed parameter records only what it affects. Workers record, and
only this process writes.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from filelock import FileLock, Timeout

from lrpilot import BundleError, load_policy
from lrpilot.decisions.protocol import Protocol
from pipeline import recorded_facts, tracking
from pipeline.config import CollectConfig, arguments
from pipeline.engines import Failure, engine, progress
from pipeline.simulation.recording import Spec, code, record
from pipeline.workloads.base import find
from pipeline.workloads.recorded.families import FAMILIES
from policy import trajectories

UNWRITTEN = "unwritten"  # a failure of this process; those of workers are the engine's
REMEDIES = {
    "raised": "mend the family, or take it out of collect.families",
    "timeout": "raise collect.time_limit, or take the family out of collect.families",
    "lost": "its worker died each time, mostly for want of memory: fewer collect.workers",
    UNWRITTEN: "make room or allow writing there; what is collected stays, and a new run goes on with what is missing",
}


def plan(config: CollectConfig, shares: Mapping[str, float]) -> list[Spec]:
    """The tasks of a collection: `collect.extra` of single families, then `collect.tasks` of all regimes by their
    `shares`, and within each regime of the families by `collect.families`.

    With fewer tasks and the same seed it has the first of them. Raises ValueError for a regime with a share but no
    family, and for a behaviour policy that cannot be used.
    """
    policies = tuple((_portable(path), _graph(path)) for path in config.behaviour_policies)
    branches, specs = config.branches, []
    extra = [(name, [crc32(name.encode()), k]) for name, count in config.extra.items() for k in range(count)]
    drawn = [(name, [i]) for i, name in enumerate(drawn_families(config.families, shares, config.tasks))]
    for name, own in [*extra, *drawn]:
        rng = np.random.default_rng([config.seed, *own])
        seed, probed = int(rng.integers(2**31)), bool(rng.random() >= config.no_probe_share)
        twins = replace(branches, share=1.0) if rng.random() < branches.share else None
        twins = branches.of_dear() if find(FAMILIES, name).dear else twins
        specs.append(Spec(
            name, seed, config.runs_per_task if twins is None else twins.runs, probed,
            tuple(config.schedules.items()) if twins is None else (), policies, (config.epsilon, config.epsilon_decay),
            twins, config.val_examples, config.device, code(name),
        ))  # fmt: skip
    return specs


def drawn_families(weights: Mapping[str, float], shares: Mapping[str, float], count: int) -> list[str]:
    """A family for each of `count` tasks. Any number of the first tasks has the shares of the regimes, and of each
    regime's families by their weights.

    Raises ValueError for a regime that has a share, but no family among the weights.
    """
    within = {regime: {n: w for n, w in weights.items() if find(FAMILIES, n).regime == regime} for regime in shares}
    for regime, families in within.items():
        if shares[regime] and not families:
            known = ", ".join(name for name, item in FAMILIES.items() if item.regime == regime)
            raise ValueError(
                f"collect.families: none is of the regime {regime!r}, whose share regimes.{regime} is "
                f"{shares[regime]:g}; add one of {known}, or set the share to 0"
            )
    order = turns({regime: share for regime, share in shares.items() if share}, count)
    families = {regime: iter(turns(within[regime], order.count(regime))) for regime in set(order)}
    return [next(families[regime]) for regime in order]


def turns(weights: Mapping[str, float], count: int) -> list[str]:
    """Names in proportion to their weights: after any number of turns each is less than one turn from its share.

    A name's k-th turn opens when its share exceeds k - 1 and is due when it reaches k. Of the open turns the one that
    is due first comes next (proportionate progress: Baruah et al. 1996, Algorithmica 15; one processor).
    """
    names, share = list(weights), np.array(list(weights.values())) / sum(weights.values())
    had, out = np.zeros(len(names), int), []
    for turn in range(1, count + 1):
        due = np.where(share * turn > had, (had + 1) / share, np.inf)
        had[due.argmin()] += 1
        out.append(names[due.argmin()])
    return out


def _graph(path: str) -> str:
    """What identifies a behaviour policy's answers: the hash of its graph, whatever its manifest says about its
    origin.
    """
    try:
        manifest = load_policy(path).manifest
    except BundleError as error:
        raise ValueError(f"collect.behaviour_policies: {error}") from error
    if manifest.protocol.cadence != Protocol().cadence:
        raise ValueError(
            f"collect.behaviour_policies: {path!r} was trained in another cadence ({manifest.protocol.cadence}), "
            "want this version's; train it again"
        )
    return manifest.graph


def _portable(path: str) -> str:
    """A bundle's path for a worker on another machine, which works in a copy of this folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other collections from writing `folder`. Raises SystemExit, which names the process that does."""
    lock = FileLock(folder.with_suffix(".lock"))  # beside the folder: its content is DVC's
    owner = folder.with_suffix(".owner")  # not in the lock's file, whose content is filelock's
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = f" ({owner.read_text()})" if owner.exists() else ""
        raise SystemExit(f"collect: another collection{who} writes {folder}; wait for it, or end it") from None
    with lock:
        owner.write_text(f"process {os.getpid()} on {platform.node()}")
        yield
        owner.unlink()


def missing(specs: list[Spec], folder: Path) -> list[Spec]:
    """Specs without a valid file. A corrupt file is reported and removed, so it is recorded again."""
    out = []
    for spec in specs:
        path = folder / spec.file()
        if path.exists():
            try:
                trajectories.read(path)
                continue
            except trajectories.TrajectoryError as error:
                print(f"collect: recollecting a damaged file: {error}", flush=True)
                path.unlink()
        out.append(spec)
    return out


def gather(specs: list[Spec], config: CollectConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """Record the tasks and write their files. Returns, by spec, the failures of those that have no file.

    A failed task does not affect the others. Only if a file cannot be written, nothing more is recorded.
    """
    pool = engine(config.engine, config.workers, device=config.device, time_limit=config.time_limit)
    failures: dict[str, dict[str, Any]] = {}
    with closing(pool.imap_unordered(record, specs)) as outcomes:
        total = sum(spec.runs for spec in specs)
        for outcome in progress(outcomes, total, "collect", lambda outcome: outcome.item.runs, "runs"):
            spec = outcome.item
            failure = outcome.failure
            if outcome.result is not None:
                failure = _stored(outcome.result, folder / spec.file())
            if failure is not None:
                facts = {"family": spec.family, "task_seed": spec.task_seed, "kind": failure.kind}
                failures[spec.name()] = facts | {"told": failure.message}
                print(
                    f"collect: no file of family {spec.family}, task seed {spec.task_seed}: {failure.kind}, "
                    f"{failure.message}; {REMEDIES[failure.kind]}",
                    file=sys.stderr,
                    flush=True,
                )
                if failure.kind == UNWRITTEN:
                    break
    return failures


def _stored(content: bytes, path: Path) -> Failure | None:
    try:
        trajectories.store(content, path)
    except OSError as error:
        return Failure(UNWRITTEN, f"{path}: {error.strerror}")
    return None


def remove_strangers(specs: list[Spec], folder: Path) -> None:
    """Delete files of earlier parameters, code or interruptions, so the folder holds only this collection."""
    wanted = {folder / spec.file() for spec in specs}
    strangers = [p for p in folder.rglob("*") if p.is_file() and p not in wanted]
    for path in strangers:
        path.unlink()
    for path in folder.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if strangers:
        print(f"collect: removed {len(strangers)} files of other parameters or code", flush=True)


def main() -> None:
    paths, params = arguments(__doc__)
    config = params.collect
    try:
        specs = plan(config, params.regimes.shares)
    except ValueError as error:
        raise SystemExit(f"collect: {error}") from error
    with tracking.stage(paths, "collect", asdict(config)) as log:
        start, folder = time.monotonic(), paths.trajectories
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            paths.collect_metrics.unlink(missing_ok=True)  # its figures were of an earlier collection
            todo = missing(specs, folder)
            failures = gather(todo, config, folder)
            stopped = any(failure["kind"] == UNWRITTEN for failure in failures.values())
            if not stopped:
                remove_strangers(specs, folder)
            files = sorted(path for spec in specs if (path := folder / spec.file()).exists())
            wall = time.monotonic() - start
            recorded = sum(spec.runs for spec in todo if (folder / spec.file()).exists())
            metrics = recorded_facts.summarise(files) | {
                "wall_s": round(wall, 1),
                "runs_per_hour": round(recorded / wall * 3600),
                "failed": len(failures),
            }
            written = write(metrics | ({"failures": failures} if failures else {}), paths.collect_metrics)
        if written and not stopped:  # else MLflow's file, mostly on the same disk, would not take them
            log.metrics({name: metrics[name] for name in ("runs", "decisions", "divergent_share")})
            log.artifact(paths.collect_metrics)
        if failures:
            left = len(specs) - len(files)
            raise SystemExit(f"collect: {left} of {len(specs)} tasks have no file; a new run collects these alone")
        if not written:
            raise SystemExit(1)
        log.tags({tracking.DATA: trajectories.fingerprint(files)})


def write(metrics: dict[str, Any], path: Path) -> bool:
    """Write collect.json completely or not at all. Returns whether it could, and prints a message if not: the disk may
    be full.
    """
    try:
        trajectories.store((json.dumps(metrics, indent=1) + "\n").encode(), path)
    except OSError as error:
        print(f"collect: cannot write {path}: {error.strerror}; make room or allow it", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
