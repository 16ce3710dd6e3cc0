"""Record trainings under many learning-rate schedules.

One file per task; its name is the hash of everything that decides its content, so an interrupted collection goes on
with what is missing and a changed parameter recollects what it touches.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from lrpilot import load_policy, telemetry
from lrpilot.pilot import Protocol
from pipeline import tracking
from pipeline.behaviour import Behaviour
from pipeline.config import CollectConfig, load
from pipeline.engines import imap_unordered, progress
from pipeline.paths import parse_root
from pipeline.simulate import Recording, simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.registry import family
from policy import trajectories

# What shapes a recorded training (features do, since policies follow them). The reward is computed from the recording.
SOURCES = (
    "pipeline/behaviour.py", "pipeline/collect.py", "pipeline/schedules.py", "pipeline/simulate.py",
    "pipeline/workloads/*.py", "policy/trajectories.py",
    *(f"runtime/lrpilot/{m}.py" for m in ("actions", "cadence", "features", "pilot", "probe", "telemetry")),
)  # fmt: skip


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
    val_examples: int
    device: str  # devices round differently
    code: str

    def name(self) -> str:
        """16 hex digits that stand for this spec; a policy counts by content, not by path."""
        content = asdict(self) | {"policies": [digest for _, digest in self.policies]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def plan(config: CollectConfig) -> list[Spec]:
    """The tasks of a collection: every family gets its share, in an order drawn from the seed."""
    rng = np.random.default_rng(config.seed)
    weights = np.array(list(config.families.values()))
    # Systematic sampling: each family's count is its exact share, rounded.
    points = (np.arange(config.tasks) + rng.random()) / config.tasks
    picks = rng.permutation(np.searchsorted(np.cumsum(weights / weights.sum()), points, side="right"))
    names = list(config.families)
    policies = tuple((path, _graph(path)) for path in config.behaviour_policies)
    code = _code()
    return [
        Spec(
            family(names[min(i, len(names) - 1)]).name, int(rng.integers(2**31)), config.runs_per_task,
            bool(rng.random() >= config.no_probe_share), tuple(config.schedules.items()), policies,
            (config.epsilon, config.epsilon_decay), config.val_examples, config.device, code,
        )
        for i in picks
    ]  # fmt: skip


def _graph(path: str) -> str:
    """What a behaviour policy answers by: the hash of its graph, whatever its manifest tells of its making."""
    manifest = load_policy(path).manifest
    if manifest.protocol != Protocol():
        raise ValueError(
            f"collect.behaviour_policies: {path!r} was trained in another protocol ({manifest.protocol}), "
            "want this version's; train it again"
        )
    return manifest.graph


def _code() -> str:
    digest = hashlib.sha256()
    top = Path(__file__).parents[1]
    for path in sorted(p for pattern in SOURCES for p in top.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def record(spec: Spec, folder: Path) -> int:
    """Run one task and write its file; number of runs."""
    workload = family(spec.family).sample(np.random.default_rng(spec.task_seed))
    policies = [load_policy(path) for path, _ in spec.policies]
    behaviour = Behaviour(
        dict(spec.schedules), spec.runs, workload.n_steps, np.random.default_rng([spec.task_seed, 1]),
        policies, spec.exploration,
    )  # fmt: skip
    seeds = [spec.task_seed + i for i in range(spec.runs)]
    recording = simulate(
        workload,
        seeds,
        Protocol(),
        behaviour.act,
        probed=spec.probed,
        val_examples=spec.val_examples,
        show_validation=behaviour.shows_validation,
        device=spec.device,
    )
    rows = _table(spec, workload, seeds, behaviour, recording)
    trajectories.store(trajectories.encode(rows), _file(spec, folder))
    return spec.runs


def _file(spec: Spec, folder: Path) -> Path:
    return folder / spec.family / f"{spec.name()}.parquet"


def _table(spec: Spec, workload: Workload, seeds: list[int], behaviour: Behaviour, recording: Recording) -> pa.Table:
    """A recording as rows of `trajectories.SCHEMA`."""
    rows: dict[str, list[Any]] = {name: [] for name in trajectories.SCHEMA.names}
    ends = len(recording.steps) - 1
    losses = np.stack([t["loss_mean"] for t in recording.telemetry[1:]] + [recording.val_loss[-1]])
    for i, seed in enumerate(seeds):
        broken = ~np.isfinite(losses[:, i]) | ~np.isfinite(np.append(np.stack(recording.val_loss)[1:, i], 0.0))
        last = min(int(np.argmax(broken)) + 1, ends) if broken.any() else ends
        for d in range(last + 1):
            reason = "running" if d < last else ("diverged" if broken.any() else "budget")
            seen = {name: float(recording.telemetry[d][name][i]) for name in telemetry.INTERVAL}
            step = int(recording.steps[d][i])
            row = seen | {
                "run_id": f"{spec.name()}-{i:03d}", "family": workload.family, "workload": workload.name,
                "task": spec.name(), "seed": seed, "optimizer": workload.optimizer,
                "schedule": behaviour.names[i], "lr0": float(behaviour.lr0[i]), "n_steps": workload.n_steps,
                "steps_per_epoch": workload.steps_per_epoch, "baseline_loss": workload.baseline_loss,
                "probed": recording.probe is not None, "decision": d, "step": step,
                "progress": step / workload.n_steps, "lr": float(recording.rates[d][i]),
                "level": float(recording.levels[d][i]), "anchor": float(recording.anchor[i]),
                "action": float(behaviour.actions[d][i]) if d < last else np.nan,
                "train_loss": seen["loss_mean"], "val_loss": float(recording.val_loss[d][i]),
                "val_error": float(recording.val_error[d][i]),
                "probe_loss": None, "probe_grad": None, "probe_used": None,
                "terminated": reason != "running", "truncated": False, "reason": reason,
            }  # fmt: skip
            if d == 0 and recording.probe is not None:
                loss, grad, used = recording.probe
                row |= {
                    "probe_loss": loss[i].tolist(),
                    "probe_grad": grad[i].tolist(),
                    "probe_used": int(used[i]),
                }
            for name, column in rows.items():
                column.append(row[name])
    return pa.table(rows, schema=trajectories.SCHEMA)


def missing(specs: list[Spec], folder: Path) -> list[Spec]:
    """Specs without a sound file; a corrupt one is named and removed, so that it is collected again."""
    out = []
    for spec in specs:
        path = _file(spec, folder)
        if path.exists():
            try:
                trajectories.read(path)
                continue
            except trajectories.TrajectoryError as error:
                print(f"collect: recollecting a damaged file: {error}", flush=True)
                path.unlink()
        out.append(spec)
    return out


def remove_strangers(specs: list[Spec], folder: Path) -> None:
    """Delete what earlier parameters, code or interruptions left: the folder holds this collection alone."""
    wanted = {_file(spec, folder) for spec in specs}
    strangers = [p for p in folder.rglob("*") if p.is_file() and p not in wanted]
    for path in strangers:
        path.unlink()
    for path in folder.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if strangers:
        print(f"collect: removed {len(strangers)} files of other parameters or code", flush=True)


def main() -> None:
    paths = parse_root(__doc__)
    config = load(paths.root).collect
    with tracking.stage(paths, "collect", asdict(config)) as log:
        start, specs = time.monotonic(), plan(config)
        paths.trajectories.mkdir(parents=True, exist_ok=True)
        lock = FileLock(paths.trajectories.with_suffix(".lock"))  # beside the folder: its content is DVC's
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise SystemExit(
                f"collect: another collection writes {paths.trajectories}; wait for it, or end it"
            ) from None
        todo = missing(specs, paths.trajectories)
        work = partial(record, folder=paths.trajectories)
        results = imap_unordered(work, todo, config.workers)
        total = config.runs_per_task * len(todo)
        collected = sum(progress(results, total, "collect", float, "runs"))
        remove_strangers(specs, paths.trajectories)
        wall = time.monotonic() - start
        found = trajectories.files(paths.trajectories)
        metrics = summarise(found) | {
            "wall_s": round(wall, 1),
            "runs_per_hour": round(collected / wall * 3600),
        }
        paths.collect_metrics.parent.mkdir(parents=True, exist_ok=True)
        paths.collect_metrics.write_text(json.dumps(metrics, indent=1) + "\n")
        log.metrics(metrics)
        log.tags({tracking.DATA: trajectories.fingerprint(found)})


def summarise(found: list[Path]) -> dict[str, Any]:
    """What a collection holds, flat."""
    runs: Counter[str] = Counter()
    seen: dict[str, set[str]] = {"family": set(), "optimizer": set(), "schedule": set()}
    decisions = diverged = 0
    for path in found:
        table = trajectories.read(path)
        runs[table["family"][0].as_py()] += trajectories.count_runs(table)
        for name, values in seen.items():
            values.update(table[name].unique().to_pylist())
        decisions += len(table)
        diverged += sum(r == "diverged" for r in table["reason"].to_pylist())
    return {
        "runs": runs.total(), "families": len(seen["family"]), "optimizers": len(seen["optimizer"]),
        "schedules": len(seen["schedule"]), "decisions": decisions - runs.total(),
        "divergent_share": round(diverged / runs.total(), 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
