"""Train the offline agent on the recorded trainings, once per training seed, and its state-blind control."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import tracking
from pipeline.config import RewardConfig, TrainConfig, load
from pipeline.engines import imap_unordered, progress
from pipeline.paths import parse_root
from policy import agents, trajectories
from policy.dataset import Masks, blinded, episodes
from policy.mdp import Reward

BLIND = "blind"  # name of the state-blind control

Curve = list[dict[str, Any]]


def train_one(
    job: tuple[str, int], folder: Path, agent: Path, reward: RewardConfig, config: TrainConfig
) -> tuple[str, Curve, float]:
    """Train and save the agent of (name, seed): name, learning curve, mean squared distance to the data's actions."""
    name, seed = job
    data = episodes(
        trajectories.files(folder),
        Reward(**asdict(reward)),
        Masks(config.mask_validation, config.mask_epochs),
        seed,
    )
    if name == BLIND:
        data = blinded(data)
    fields = {k: v for k, v in asdict(config).items() if k in agents.Settings.__dataclass_fields__}
    curve: Curve = []
    algorithm = agents.train(
        data, agents.Settings(**fields), seed, lambda s, losses: curve.append({"step": s} | losses)
    )
    agents.save(algorithm, agent / f"{name}.d3")
    sample = data[:: max(len(data) // 500, 1)]
    chosen = agents.predict(algorithm, np.concatenate([e.observations for e in sample]))
    return name, curve, float(np.mean((chosen - np.concatenate([e.actions[:, 0] for e in sample])) ** 2))


def main() -> None:
    paths = parse_root(__doc__)
    params = load(paths.root)
    config = params.train
    with tracking.stage(paths, "train", asdict(config) | {"reward": asdict(params.reward)}) as log:
        shutil.rmtree(paths.agent, ignore_errors=True)
        paths.agent.mkdir(parents=True)
        found = trajectories.files(paths.trajectories)
        data = trajectories.fingerprint(found)
        work = partial(train_one, folder=paths.trajectories, agent=paths.agent, reward=params.reward, config=config)
        jobs = [*((f"seed{seed}", seed) for seed in config.seeds), (BLIND, config.seeds[0])]
        results = sorted(progress(imap_unordered(work, jobs, 0), len(jobs), "train", lambda _: 1.0, "agents"))
        metrics: dict[str, Any] = {"steps": results[0][1][-1]["step"], "agents": len(config.seeds)}
        for name, curve, distance in results:
            metrics |= {f"{name}.{k}": round(v, 5) for k, v in curve[-1].items() if k != "step"}
            metrics[f"{name}.distance_to_behaviour"] = round(distance, 5)
        _write_curve(results, paths.train_curve)
        provenance = {
            "algorithm": config.algorithm, "params": asdict(config), "reward": asdict(params.reward), "data": data,
            "files": len(found), "optimizers": _optimizers(found),
        }  # fmt: skip
        (paths.agent / "training.json").write_text(json.dumps(provenance, indent=1, sort_keys=True) + "\n")
        paths.train_metrics.parent.mkdir(parents=True, exist_ok=True)
        paths.train_metrics.write_text(json.dumps(metrics, indent=1) + "\n")
        log.metrics(metrics)
        log.tags({tracking.DATA: data})
        log.artifact(paths.train_curve)


def _optimizers(found: list[Path]) -> list[str]:
    return sorted({trajectories.read(path)["optimizer"][0].as_py() for path in found})


def _write_curve(results: list[tuple[str, Curve, float]], path: Path) -> None:
    """Long format: agent, step, name of the loss, value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("agent", "step", "name", "loss"))
        for name, curve, _ in results:
            for point in curve:
                writer.writerows((name, point["step"], k, f"{v:.6g}") for k, v in point.items() if k != "step")


if __name__ == "__main__":
    main()
