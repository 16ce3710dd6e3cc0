"""The benchmark's tasks: the first draws of every family, frozen in splits.json.

    python -m pipeline.evaluation.splits    # draws them again; earlier figures do not compare with later ones

A task is a workload drawn from a family by a seed. The file holds the seeds and the properties of the draws, so a
change of a family cannot change the benchmark silently (a test checks this). Families of the training split, and
families that define their number of tasks, have their first draws. The others have one task for each of three
optimizers. The optimizer of the first task rotates from family to family, so even a small benchmark with one task each
includes all three.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lrpilot import digests
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.families import FAMILIES, family, names
from pipeline.workloads.training.population import Population

MANIFEST = Path(__file__).with_name("splits.json")
SEED = 2
SPLITS = ("train", "selection", "heldout")
# Optimizers of the families that do not say how many tasks they have: those that policies know.
KINDS = tuple(kind.name for kind in OPTIMIZERS.values() if kind.reference is not None)
POOL = 2  # draws of each of these, of which the shorter training comes first
SAMPLED = 16  # workloads that a process keeps: some are pre-trained when they are made


@dataclass(frozen=True)
class Task:
    """A workload by name and seed. `sample` makes it."""

    split: str
    family: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.seed}"

    def sample(self) -> Workload:
        return _sampled(self)


@lru_cache(SAMPLED)
def _sampled(task: Task) -> Workload:
    return family(task.family).sample(np.random.default_rng(task.seed))


def tasks(families: Iterable[str], per_family: int) -> list[Task]:
    """For each family its own number of tasks, or else the first `per_family`.

    Tasks that the file lacks are drawn. Raises KeyError for an unknown family.
    """
    out: list[Task] = []
    for name in families:
        count, known = family(name).frozen or per_family, _entries(name)
        drawn = [Task(family(name).split, name, said["seed"]) for said in known]
        out += drawn[:count] if len(drawn) >= count else draw(name, count)
    return out


def full(name: str) -> int:
    """The number of a family's tasks in the whole benchmark."""
    return family(name).frozen or (1 if family(name).split == "train" else len(KINDS))


def entry(task: Task) -> dict[str, Any] | None:
    """The file's entry for a task; None if there is none."""
    return next((said for said in _entries(task.family) if said["seed"] == task.seed), None)


def _entries(name: str) -> list[dict[str, Any]]:
    return json.loads(MANIFEST.read_text(encoding="utf-8"))["tasks"].get(name, [])


def draw(name: str, count: int, seed: int = SEED) -> list[Task]:
    """The first `count` tasks of a family, drawn from `seed`."""
    digest = digests.of_bytes(f"{name} {seed}".encode())
    rng, split = np.random.default_rng(int(digest[:8], 16)), family(name).split

    def following() -> Task:
        return Task(split, name, int(rng.integers(2**31)))

    if split == "train" or family(name).frozen:
        return [following() for _ in range(count)]
    rounds = max(POOL, -(-count // len(KINDS)))
    pools: dict[str, list[tuple[int, Task]]] = {kind: [] for kind in KINDS}
    while any(len(pool) < rounds for pool in pools.values()):
        task = following()
        workload = task.sample()
        if len(pool := pools.get(workload.optimizer, [])) < rounds:
            pool.append((workload.n_steps, task))
    shift = names(split).index(name) % len(KINDS)
    order = KINDS[shift:] + KINDS[:shift]
    ranked = {kind: sorted(pool, key=lambda pair: pair[0]) for kind, pool in pools.items()}
    return [ranked[kind][i][1] for i in range(rounds) for kind in order][:count]


def facts(task: Task) -> dict[str, Any]:
    """The properties of a task: settings and sizes exactly, integers of its data by hash, other numbers rounded."""
    workload = task.sample()
    population = Population(workload, [0])
    (initial,), _ = population.score(workload.test)
    parts = {"train": workload.train, "val": workload.val, "test": workload.test}
    return {
        "seed": task.seed, "workload": workload.name, "regime": family(task.family).regime,
        "optimizer": workload.optimizer, "default": list(workload.default), "n_steps": workload.n_steps,
        "batch_size": workload.batch_size, "epochs": round(workload.n_steps / workload.steps_per_epoch, 2),
        "parameters": population.n_params, "sizes": {name: len(part) for name, part in parts.items()},
        "integers": _hash(parts.values()), "mean_square": _mean_square(workload.train),
        "baseline_loss": _rounded(workload.baseline_loss), "initial_loss": _rounded(initial),
    }  # fmt: skip


def _hash(parts: Iterable[Data]) -> str:
    """Hash of tokens and classes, and of the shapes of all data. Computed floats differ between machines."""
    tensors = [values for part in parts for values in (part.x, part.y)]
    return digests.of_parts(
        str(tuple(values.shape)).encode() + (b"" if values.is_floating_point() else values.numpy().tobytes())
        for values in tensors
    )[:16]


def _mean_square(data: Data) -> float:
    return _rounded(sum(float(values.double().square().mean()) for values in (data.x, data.y)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def manifest() -> dict[str, Any]:
    """The file's content, computed."""
    drawn = {name: [facts(task) for task in draw(name, full(name))] for name in FAMILIES}
    return {"python": platform.python_version(), "tasks": drawn}


if __name__ == "__main__":
    MANIFEST.write_text(json.dumps(manifest(), indent=1) + "\n", encoding="utf-8")
