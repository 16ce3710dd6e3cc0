"""Train the offline agent on the recorded trainings, once per training seed, and its state-blind control."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import tracking
from pipeline.config import TrainConfig, load
from pipeline.engines import engine, progress, results
from pipeline.paths import parse_root
from policy import agents, observations, trajectories
from policy.mdp import Reward
from policy.store import Masks, Store, build

BLIND = "blind"  # name of the state-blind control

Curve = list[dict[str, Any]]


def train_one(job: tuple[str, int], store: Path, agent: Path, config: TrainConfig) -> tuple[str, Curve, float]:
    """Train and save the agent of (name, seed): name, learning curve, mean squared distance to the data's actions."""
    name, seed = job
    data = Store.open(store).masked(Masks(config.mask_validation, config.mask_epochs), seed)
    data = data.limited(observations.BLIND if name == BLIND else config.features)
    curve: Curve = []
    algorithm = agents.train(
        data, agents.Settings.of(config), seed, lambda s, losses: curve.append({"step": s} | losses), config.device
    )
    agents.save(algorithm, agent / f"{name}.d3")
    runs = np.arange(len(data.variants))
    rows, of = data.rows_of(runs[:: max(len(runs) // 500, 1)])
    chosen = agents.predict(algorithm, data.observations(rows, of))
    return name, curve, float(np.mean((chosen - data.store.actions[rows]) ** 2))


def main() -> None:
    paths = parse_root(__doc__)
    params = load(paths.root)
    config = params.train
    with tracking.stage(paths, "train", asdict(config) | {"reward": asdict(params.reward)}) as log:
        shutil.rmtree(paths.agent, ignore_errors=True)
        paths.agent.mkdir(parents=True)
        found = trajectories.files(paths.trajectories)
        data = trajectories.fingerprint(found)
        jobs = [*((f"seed{seed}", seed) for seed in config.seeds), (BLIND, config.seeds[0])]
        pool = engine("local")
        # Not where temporary files usually lie: that may be memory. A stage that was killed leaves it to the next one.
        with tempfile.TemporaryDirectory(dir=paths.agent, prefix="store-") as folder:
            store = Path(folder)
            reward = Reward(**asdict(params.reward))
            optimizers = build(found, reward, store, partial(results, pool))
            work = partial(train_one, store=store, agent=paths.agent, config=config)
            done = results(pool, work, jobs)
            trained = sorted(progress(done, len(jobs), "train", lambda _: 1.0, "agents"))
        metrics: dict[str, Any] = {"steps": trained[0][1][-1]["step"], "agents": len(config.seeds)}
        for name, curve, distance in trained:
            metrics |= {f"{name}.{k}": round(v, 5) for k, v in curve[-1].items() if k != "step"}
            metrics[f"{name}.distance_to_behaviour"] = round(distance, 5)
        _write_curve(trained, paths.train_curve)
        provenance = {
            "algorithm": config.algorithm, "params": asdict(config), "reward": asdict(params.reward), "data": data,
            "files": len(found), "optimizers": sorted(optimizers),
        }  # fmt: skip
        (paths.agent / "training.json").write_text(json.dumps(provenance, indent=1, sort_keys=True) + "\n")
        log.write(metrics, paths.train_metrics)
        log.tags({tracking.DATA: data})
        log.artifact(paths.train_curve)


def _write_curve(trained: list[tuple[str, Curve, float]], path: Path) -> None:
    """Long format: agent, step, name of the loss, value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("agent", "step", "name", "loss"))
        for name, curve, _ in trained:
            for point in curve:
                writer.writerows((name, point["step"], k, f"{v:.6g}") for k, v in point.items() if k != "step")


if __name__ == "__main__":
    main()
