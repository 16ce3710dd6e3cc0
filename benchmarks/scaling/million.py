"""A training on 10^6 recorded runs within 8 GiB of memory, on files made for it.

    python -m benchmarks.scaling.million                  # half an hour and 12 GB of disk, given back; writes
                                                  # benchmarks/results/million.json, docs/scaling.md
    python -m benchmarks.scaling.million --runs 20000     # three minutes; with --out elsewhere, to see that it works

Some tasks of the default mix are recorded. Every file holds one of them under another name, with its telemetry and
actions disturbed, so that no two files are equal. A process of its own, which may have no more than `limit_bytes` of
data (RLIMIT_DATA), then builds the store and trains on it as the train stage does. Keys:

    runs, files, transitions    what was made, of `recorded` tasks
    files_bytes, generate_s     all files, and how long it took to make them, recording left out
    load_s, load_cpu_s          from the files to the store, in one process: by the wall, of processor time
    view_s                      one agent's masks, and the scale of its observations
    store_bytes                 the store, mapped into memory from disk
    peak_anonymous_bytes        largest RssAnon of the process: what it cannot give back
    peak_resident_bytes         largest VmHWM: with the pages of the store that it looked at, which it can give back
    steps, rounds               gradient steps of a round
    steps_per_s                 with the store in the page cache
    cold_steps_per_s            the first `cold_steps` after its pages were dropped: every batch reads from disk
    over_small                  steps per second over those on a store of `small_runs` runs, medians of paired rounds,
                                with _low and _high of the 95 % interval

and torch, numpy, onnxruntime, python, processor, threads.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.environment import environment
from benchmarks.scaling.disturbed_copies import RUNS, generate, recorded
from benchmarks.scaling.process_memory import Memory
from benchmarks.scaling.replay_buffers import LEARNING, N_STEP, agent, fit
from benchmarks.timing import estimate, wall
from pipeline import config
from pipeline.engines import engine, results
from pipeline.reporting import markdown
from policy import trajectories
from policy.store import Masks, Store, View, build

OUT, PAGE = Path("benchmarks/results/million.json"), Path("docs/scaling.md")
LIMIT = 8 << 30
SMALL = 20  # files of the small store
ROOM = 400_000  # bytes of disk that a task needs at most: its file, and its share of the store


@dataclass(frozen=True)
class Effort:
    """How much is measured of the training."""

    steps: int  # gradient steps of a round
    rounds: int
    cold: int  # gradient steps without the page cache


FULL = Effort(steps=50, rounds=10, cold=20)


def prove(folder: Path, store: Path, small: Path, effort: Effort) -> dict[str, Any]:
    """Build the store of the files below `folder`, train on it and on a store of a few of them; the figures."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    memory, files, reward = Memory(), trajectories.files(folder), config.load(Path()).reward
    begin, cpu = time.perf_counter(), time.process_time()
    build(files, reward, store)
    loaded = time.perf_counter()
    figures = {"load_s": loaded - begin, "load_cpu_s": time.process_time() - cpu}
    view = look(store)
    view.moments()
    figures |= {
        "transitions": int(view.store.starts[-1]) - len(view.variants), "store_bytes": view.store.nbytes,
        "view_s": time.perf_counter() - loaded,
    }  # fmt: skip
    del view
    build(files[:: -(-len(files) // SMALL)], reward, small)
    return figures | steps(store, small, effort) | memory.stop()


def look(store: Path) -> View:
    """A store as an agent sees it."""
    return Store.open(store).masked(Masks(0.5, 0.5), 0)


def steps(large: Path, small: Path, effort: Effort) -> dict[str, Any]:
    """Gradient steps on both stores, in rounds of shuffled order, and on the large one without the page cache."""
    from policy import agents
    from policy.buffer import Transitions

    agents.d3rlpy.seed(0)
    views = {"large": look(large), "small": look(small)}
    algorithms = {name: agent(view) for name, view in views.items()}
    algorithms["cold"] = agent(views["small"])
    buffers = {name: Transitions(view, N_STEP, LEARNING.gamma) for name, view in views.items()}
    small_runs = len(views.pop("small").variants)
    views.pop("large").store.scatter()
    for algorithm in algorithms.values():
        fit(algorithm, buffers["small"], 2)
    names, order = list(buffers), np.random.default_rng(0)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(effort.rounds):
        for i in order.permutation(len(names)):
            taken[names[i]].append(wall(partial(fit, algorithms[names[i]], buffers[names[i]], effort.steps)))
    buffers.clear()  # a page that is mapped cannot be dropped
    drop(large)
    dropped = look(large)
    dropped.store.scatter()
    cold_buffer = Transitions(dropped, N_STEP, LEARNING.gamma)
    cold = wall(partial(fit, algorithms["cold"], cold_buffer, effort.cold))
    seconds = {name: np.array(walls) for name, walls in taken.items()}
    return {
        "steps": effort.steps, "rounds": effort.rounds, "cold_steps": effort.cold, "small_runs": small_runs,
        "steps_per_s": effort.steps / float(np.median(seconds["large"])), "cold_steps_per_s": effort.cold / cold,
        **estimate("over_small", seconds["small"] / seconds["large"]),
    }  # fmt: skip


def drop(store: Path) -> None:
    """Make the page cache forget the store."""
    for path in store.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(runs: int, where: Path) -> dict[str, Any]:
    """All figures, flat. Files written below `where` are deleted again."""
    need, free = -(-runs // RUNS) * ROOM, shutil.disk_usage(where).free
    if need > free:
        raise SystemExit(f"{where}: {runs} runs need up to {need:,} bytes, {free:,} are free; make room, or --where")
    with tempfile.TemporaryDirectory(dir=where, prefix="million-") as scratch:
        folder, store, small = (Path(scratch) / name for name in ("trajectories", "store", "small"))
        for path in (folder, store, small):
            path.mkdir()
        made = generate(runs, recorded(), folder)
        work = partial(prove, store=store, small=small, effort=FULL)
        (proven,) = results(engine("local", 1), work, [folder])
    return made | {"limit_bytes": LIMIT} | proven | environment()


def render(r: Mapping[str, Any]) -> str:
    """Markdown: the figures, and where they were measured."""
    gib = {key: f"{r[key] / 2**30:.2f} GiB" for key in r if key.endswith("_bytes")}
    rows = [
        ("runs, transitions", f"{r['runs']:,}, {r['transitions']:,}"),
        ("files", f"{r['files']:,}, {gib['files_bytes']}"),
        ("building the store, processor time", f"{r['load_cpu_s'] / 60:.1f} min"),
        ("the store, mapped from disk", gib["store_bytes"]),
        ("an agent's masks and the scale of its observations", f"{r['view_s']:.0f} s"),
        ("peak of anonymous memory", gib["peak_anonymous_bytes"]),
        ("peak of resident memory, including pages of the store", gib["peak_resident_bytes"]),
        ("gradient steps per second", f"{r['steps_per_s']:.0f}"),
        (
            f"ratio to the same on {r['small_runs']:,} runs, 95 % interval",
            f"{r['over_small']:.2f} ({r['over_small_low']:.2f} to {r['over_small_high']:.2f})",
        ),
        ("gradient steps per second, every batch from disk", f"{r['cold_steps_per_s']:.1f}"),
    ]
    last = f"Under a limit of {r['limit_bytes'] >> 30} GiB of data. Measured with torch {r['torch']}, {r['processor']}."
    return f"{markdown.table(('', ''), rows)}\n\n{last}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A training on many recorded runs within 8 GiB.")
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many are made up (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where the figures go (default: {OUT})")
    parser.add_argument("--where", type=Path, default=Path("."), help="folder for files and store (default: .)")
    args = parser.parse_args(argv)
    figures = measure(args.runs, args.where)
    command.write(figures, render(figures), args.out, PAGE if args.out == OUT else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
