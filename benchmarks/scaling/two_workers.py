"""What a second worker adds to the speed of a collection."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.scaling.training_loops import recorded
from benchmarks.timing import estimate, wall
from pipeline import config
from pipeline.collect import plan
from pipeline.engines import Engine, engine, results
from pipeline.simulation.recording import record
from pipeline.workloads.families import family

MEMBERS = 16  # of an item's population
PIECES, PIECE_STEPS = 8, 600  # what the workers are given: trainings of a population
MIX = 96  # tasks


def piece(seed: int, n_steps: int) -> None:
    """An item for a worker: a population as the collection records it."""
    workload = replace(family("spirals").sample(np.random.default_rng(0)), n_steps=n_steps)
    recorded(workload, range(seed, seed + MEMBERS), True)


def work(pool: Engine) -> None:
    """All pieces, done by a pool of workers."""
    list(results(pool, partial(piece, n_steps=PIECE_STEPS), range(PIECES)))


def workers(load: float) -> dict[str, float]:
    """Items per second of two workers over one, the processes' start left out; none on a machine with other work."""
    if (os.cpu_count() or 1) - load < 1.75:
        return {"workers_meaningful": 0}
    ratios: list[float] = []
    engines = [engine("local", n) for n in (1, 2)]
    for pool in engines:
        list(results(pool, partial(piece, n_steps=2), range(4)))  # imports
    for _ in range(5):
        walls = [wall(partial(work, pool)) for pool in engines]
        ratios.append(walls[0] / walls[1])
    return estimate("workers_speedup", np.array(ratios)) | {"workers_meaningful": 1, **mix()}


def mix() -> dict[str, float]:
    """What two workers that have started record of the default profile's mix of families."""
    params, pool = config.load(Path()), engine("local", 2)
    tasks = plan(params.collect, params.regimes.shares)[:MIX]
    list(results(pool, record, tasks[:2]))
    begin, runs = time.perf_counter(), sum(spec.runs for spec in tasks)
    for _ in results(pool, record, tasks):
        pass
    return {
        "mix_tasks": len(tasks), "mix_runs": runs, "mix_runs_per_hour": 3600 * runs / (time.perf_counter() - begin)
    }  # fmt: skip
