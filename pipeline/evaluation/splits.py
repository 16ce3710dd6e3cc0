"""The benchmark's tasks: of every family the first draws of each optimizer, frozen in splits.json.

    python -m pipeline.evaluation.splits    # draws them anew; figures of before do not compare with those that follow

A task is a workload drawn from a family by a seed. The file holds, beside the seeds, what the draws come to, so that a
change of a family cannot change the benchmark silently (a test holds it). Which optimizer a family's first task
has goes round from family to family: one task of each makes a small benchmark in which all optimizers take part.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.workloads.base import OPTIMIZERS, Data, Workload
from pipeline.workloads.families import FAMILIES, family, names
from pipeline.workloads.population import Population

MANIFEST = Path(__file__).with_name("splits.json")
SEED = 2
ROUNDS = {"train": 1, "selection": 2, "heldout": 2}  # tasks of every family and optimizer
SPLITS = tuple(ROUNDS)


@dataclass(frozen=True)
class Task:
    """A workload by name and seed; `sample` makes it."""

    split: str
    family: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.seed}"

    def sample(self) -> Workload:
        return family(self.family).sample(np.random.default_rng(self.seed))


def tasks(families: Iterable[str], per_family: int) -> list[Task]:
    """The first so many tasks of each family; what the file does not hold is drawn.

    Raises KeyError for an unknown family.
    """
    frozen, out = json.loads(MANIFEST.read_text(encoding="utf-8"))["tasks"], []
    for name in families:
        known = [Task(family(name).split, name, entry["seed"]) for entry in frozen.get(name, [])]
        out += (known if len(known) >= per_family else draw(name, -(-per_family // len(OPTIMIZERS))))[:per_family]
    return out


def draw(name: str, rounds: int, seed: int = SEED) -> list[Task]:
    """In every round one task of each optimizer, the shorter training in the earlier round."""
    digest = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4])
    rng, drawn = np.random.default_rng(digest), {optimizer: list[tuple[int, Task]]() for optimizer in OPTIMIZERS}
    while any(len(of_optimizer) < rounds for of_optimizer in drawn.values()):
        task = Task(family(name).split, name, int(rng.integers(2**31)))
        workload = task.sample()
        if len(of_optimizer := drawn[workload.optimizer]) < rounds:
            of_optimizer.append((workload.n_steps, task))
    shift = names(family(name).split).index(name) % len(OPTIMIZERS)
    order = OPTIMIZERS[shift:] + OPTIMIZERS[:shift]
    ranked = {optimizer: sorted(of_optimizer, key=lambda pair: pair[0]) for optimizer, of_optimizer in drawn.items()}
    return [ranked[optimizer][i][1] for i in range(rounds) for optimizer in order]


def facts(task: Task) -> dict[str, Any]:
    """What a task is: settings and sizes exactly, integers of its data by hash, other numbers to some digits."""
    workload = task.sample()
    population = Population(workload, [0])
    (initial,), _ = population.score(workload.test)
    parts = {"train": workload.train, "val": workload.val, "test": workload.test}
    return {
        "seed": task.seed, "workload": workload.name, "optimizer": workload.optimizer, "n_steps": workload.n_steps,
        "batch_size": workload.batch_size, "epochs": round(workload.n_steps / workload.steps_per_epoch, 2),
        "parameters": population.n_params, "sizes": {name: len(part) for name, part in parts.items()},
        "integers": _hash(parts.values()), "mean_square": _mean_square(workload.train),
        "baseline_loss": _rounded(workload.baseline_loss), "initial_loss": _rounded(initial),
    }  # fmt: skip


def _hash(parts: Iterable[Data]) -> str:
    """Of tokens and classes, and of the shapes of all; what is computed in floats differs between machines."""
    digest = hashlib.sha256()
    for part in parts:
        for values in (part.x, part.y):
            digest.update(str(tuple(values.shape)).encode())
            if not values.is_floating_point():
                digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def _mean_square(data: Data) -> float:
    return _rounded(sum(float(values.double().square().mean()) for values in (data.x, data.y)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def manifest() -> dict[str, Any]:
    """The file's content, computed."""
    drawn = {name: [facts(task) for task in draw(name, ROUNDS[item.split])] for name, item in FAMILIES.items()}
    return {"python": platform.python_version(), "tasks": drawn}


if __name__ == "__main__":
    MANIFEST.write_text(json.dumps(manifest(), indent=1) + "\n", encoding="utf-8")
