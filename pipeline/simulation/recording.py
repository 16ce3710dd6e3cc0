"""One task of a collection: everything that decides its content, and the trainings that produce it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrpilot import digests, load_policy
from lrpilot.decisions import telemetry
from lrpilot.decisions.cadence import Cadence, CadenceSpec
from lrpilot.decisions.network_size import UNKNOWN
from lrpilot.decisions.protocol import Protocol
from lrpilot.policy_file.bundle import Bundle
from pipeline import code_hash
from pipeline.config import BranchesConfig
from pipeline.simulation.behaviour import Behaviour
from pipeline.simulation.behaviour_policy import BehaviourPolicy
from pipeline.simulation.branching import NEVER, Branches
from pipeline.simulation.recorder import ProbeRecording, Recording
from pipeline.simulation.simulate import Lineage, simulate
from pipeline.workloads.base import Workload, find
from pipeline.workloads.recorded.families import FAMILIES
from policy import trajectories


@dataclass(frozen=True)
class Spec:
    """Everything that decides one task's file."""

    family: str
    task_seed: int
    runs: int
    probed: bool
    schedules: tuple[tuple[str, float], ...]
    policies: tuple[tuple[str, str], ...]  # path, sha256 of the graph
    exploration: tuple[float, float]
    groups: BranchesConfig | None  # of twins, which its runs are, and share is 1; None: they follow schedules
    val_examples: int
    device: str  # devices round differently
    code: str

    def name(self) -> str:
        """16 hex digits that identify this spec. A policy counts by its content, not by its path."""
        content = asdict(self) | {"policies": [digest for _, digest in self.policies]}
        return digests.of_json(content)[:16]

    def file(self) -> str:
        """Its file below a collection's folder. Sorted by file, specs keep their order when the code changes."""
        return f"{self.family}/{self.task_seed:010d}-{self.name()}.parquet"


def code(name: str) -> str:
    """Hash the code that shapes a recording of that family. (The reward is computed later, from the recording.)"""
    family = find(FAMILIES, name)
    return code_hash.digest(__name__, family.module, packages=family.packages)


def record(spec: Spec, cadence: CadenceSpec | None = None) -> bytes:
    """Run one task and return the content of its file. A `cadence` replaces the default one of policies.

    Raises ValueError if a policy that it follows is not the one in the spec.
    """
    prepared = prepare(spec, cadence or CadenceSpec())
    return trajectories.encode(_table(spec, prepared, trained(spec, prepared)))


class Prepared(NamedTuple):
    """A task before anything is trained."""

    workload: Workload
    seeds: list[int]  # (K,)
    behaviour: BehaviourPolicy
    lineage: Lineage | None
    cadence: CadenceSpec


def prepare(spec: Spec, cadence: CadenceSpec) -> Prepared:
    """Draw a task's workload and the behaviour policy of its runs."""
    workload = find(FAMILIES, spec.family).sample(np.random.default_rng(spec.task_seed))
    rng, policies = np.random.default_rng([spec.task_seed, 1]), [_policy(*policy) for policy in spec.policies]
    if spec.groups is None:
        behaviour: BehaviourPolicy = Behaviour(
            dict(spec.schedules), spec.runs, workload.n_steps, rng, policies, spec.exploration
        )  # fmt: skip
        return Prepared(workload, [spec.task_seed + i for i in range(spec.runs)], behaviour, None, cadence)
    twins = Branches(spec.groups, Cadence(cadence, workload.n_steps, spec.probed), rng, policies)
    seeds = [spec.task_seed + i for i in twins.group.tolist()]
    return Prepared(workload, seeds, twins, Lineage(twins.base, twins.departs_at), cadence)


def trained(spec: Spec, task: Prepared) -> Recording:
    """Train a task's runs."""
    return simulate(
        task.workload, task.seeds, Protocol(task.cadence), task.behaviour.act, probed=spec.probed,
        val_examples=spec.val_examples, show_validation=task.behaviour.shows_validation,
        show_epochs=task.behaviour.shows_epochs, lineage=task.lineage, device=spec.device,
    )  # fmt: skip


def _policy(path: str, graph: str) -> Bundle:
    bundle = load_policy(path)
    if bundle.manifest.graph != graph:
        raise ValueError(f"{path}: the policy changed since the collection began; run collect again")
    return bundle


def _table(spec: Spec, task: Prepared, recording: Recording) -> pa.Table:
    """Turn a recording, arrays (decision, run), into rows of `trajectories.SCHEMA`, cut where each run ends."""
    workload, seeds, behaviour, *_ = task
    decisions, runs = len(recording.steps) - 1, len(seeds)
    intervals = {name: np.stack([t[name] for t in recording.telemetry]) for name in telemetry.INTERVAL}
    val_loss = np.stack(recording.val_loss)
    broken = ~(np.isfinite(intervals["loss_mean"]) & np.isfinite(val_loss))[1:]  # row 0 has no interval before it
    diverged = np.any(broken, axis=0)
    last = np.where(diverged, broken.argmax(0) + 1, decisions)
    run, decision = np.nonzero(np.arange(decisions + 1) <= last[:, None])  # of every row; (K, D + 1) cells
    ends = decision == last[run]

    def rows(by_decision: list[np.ndarray] | np.ndarray) -> np.ndarray:
        return np.asarray(by_decision)[decision, run]

    name, step = spec.name(), rows(recording.steps).astype(np.int64)
    action = np.where(ends, np.nan, rows([*behaviour.actions, np.full(runs, np.nan)]))
    columns = {column: rows(values) for column, values in intervals.items()} | {
        "run_id": _texts([f"{name}-{i:03d}" for i in range(runs)], run),
        "seed": np.array(seeds)[run], "schedule": _texts(behaviour.names, run), "lr0": behaviour.lr0[run],
        "decision": decision, "step": step, "progress": step / workload.n_steps, "lr": rows(recording.rates),
        "level": rows(recording.levels), "anchor": np.asarray(recording.anchor)[run], "action": action,
        "train_loss": rows(intervals["loss_mean"]), "val_loss": rows(val_loss), "val_error": rows(recording.val_error),
        **{name: values[run] for name, values in _lineage(behaviour, recording, last).items()},
        "tells_size": behaviour.shows_epochs[run], "shows_validation": behaviour.shows_validation[run],
        **_size(recording, run), **_probe(recording, decision == 0), "terminated": ends,
        "reason": _texts(["running", "budget", "diverged"], ends * (1 + diverged[run])),
    }  # fmt: skip
    same = {
        "family": workload.family, "workload": workload.name, "task": name, "optimizer": workload.optimizer,
        "n_steps": workload.n_steps, "steps_per_epoch": float(workload.steps_per_epoch),
        "examples": len(workload.train), "baseline_loss": workload.baseline_loss,
        "probed": recording.probe is not None, "truncated": False,
    } | _settings(spec, workload)  # fmt: skip
    columns |= {column: pa.repeat(value, len(run)) for column, value in same.items()}
    return pa.table({field.name: columns[field.name] for field in trajectories.SCHEMA}, schema=trajectories.SCHEMA)


def _lineage(behaviour: BehaviourPolicy, recording: Recording, last: np.ndarray) -> dict[str, np.ndarray]:
    """Return each run's group, its number in the group, and decision and size of its departure from the base.

    A run that ends before it departs counts as one that never departed. last (K,) int: decision at which a run ends.
    """
    runs = np.arange(len(last))
    if not isinstance(behaviour, Branches):
        nothing = np.full(len(runs), NEVER)
        return {"group": nothing, "twin": nothing, "departs_at": nothing, "departs_by": np.full(len(runs), np.nan)}
    at, level = np.where(behaviour.departs_at < last, behaviour.departs_at, NEVER), np.stack(recording.levels)
    by = np.where(at == NEVER, 0.0, level[at, runs] - level[at, behaviour.base])
    return {"group": behaviour.group, "twin": behaviour.twin, "departs_at": at, "departs_by": by}


def _size(recording: Recording, run: np.ndarray) -> dict[str, np.ndarray]:
    """The networks' size: columns of what `Pilot.set_network_size` was given."""
    size = recording.size or UNKNOWN
    facts = {"fan_in": size.fan_in, "matrices": size.matrices, "weight_scale": size.scale}
    return {name: np.broadcast_to(np.asarray(fact, float), run.max() + 1)[run] for name, fact in facts.items()}


def _settings(spec: Spec, workload: Workload) -> dict[str, Any]:
    """The settings of the training that the pilot does not observe."""
    model = workload.initialise(spec.task_seed)
    return {
        "regime": find(FAMILIES, spec.family).regime, "batch_size": workload.batch_size,
        "weights": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "batch_norm": any(isinstance(module, _BatchNorm) for module in model.modules()),
        "dropout": any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()),
        "clipped": workload.clip is not None,
    }  # fmt: skip


def _texts(words: list[str], which: np.ndarray) -> pa.Array:
    return pa.array(words).take(pa.array(which))


def _probe(recording: Recording, first: np.ndarray) -> dict[str, pa.Array]:
    """The probe's columns: values in the first row of every run with a probe, else null."""
    columns = {}
    for field in ProbeRecording._fields:
        name, column = f"probe_{field}", [None] * len(first)
        if recording.probe is not None:
            for row, value in zip(np.flatnonzero(first), getattr(recording.probe, field), strict=True):
                column[row] = value
        columns[name] = pa.array(column, type=trajectories.SCHEMA.field(name).type)
    return columns
