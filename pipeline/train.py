"""Train the offline agents on the recorded trainings, one per training seed, and as many for the state-blind control.

Cached agents are not trained again.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import agent_training, recorded_facts, tracking
from pipeline.agent_training import Agent, AgentSpec
from pipeline.config import Params, arguments
from pipeline.engines import engine, progress, results
from pipeline.paths import AGENT, AGENT_CACHE, BLIND_AGENT
from pipeline.result_cache import through
from policy import allowed, observations, trajectories
from policy.settings import Reward
from policy.store import build


def plan(params: Params, data: str) -> dict[str, AgentSpec]:
    """The agents of a policy and of its control, by name. `data` is the fingerprint of the trajectories."""
    config, device = params.train, allowed.device(params.train.device)
    blind = replace(config, features=observations.BLIND)
    return {
        f"{name}{seed}": AgentSpec(data, params.reward, each, seed, device)
        for name, each in ((AGENT, config), (BLIND_AGENT, blind))
        for seed in config.seeds
    }


def train(specs: Iterable[AgentSpec], paths: Sequence[Path], reward: Reward, folder: Path) -> dict[AgentSpec, Agent]:
    """The agents. Those that are not cached are trained side by side; their training data are in `folder` meanwhile."""

    def compute(missing: Sequence[AgentSpec]) -> Iterator[dict[AgentSpec, Agent]]:
        pool, inferred = engine("local"), agent_training.inferred(missing[0].config)
        # Not where temporary files usually lie: that may be memory. A stage that was killed leaves it to the next one.
        with tempfile.TemporaryDirectory(dir=folder, prefix="store-") as store:
            optimizers = build(paths, reward, Path(store), partial(results, pool), inferred=inferred)
            work = partial(agent_training.train, store=Path(store), optimizers=optimizers)
            yield from progress(results(pool, work, missing), len(missing), "train", len, "agents")

    return through(AGENT_CACHE, {spec: spec.key() for spec in specs}, compute)


def main() -> None:
    paths, params = arguments(__doc__)
    config = params.train
    with tracking.stage(paths, "train", asdict(config) | {"reward": asdict(params.reward)}) as log:
        shutil.rmtree(paths.agent, ignore_errors=True)
        paths.agent.mkdir(parents=True)
        files = trajectories.files(paths.trajectories)
        data = trajectories.fingerprint(files)
        specs = plan(params, data)
        trained = train(specs.values(), files, params.reward, paths.agent)
        agents = {name: trained[specs[name]] for name in sorted(specs)}
        for name, agent in agents.items():
            (paths.agent / f"{name}.d3").write_bytes(agent.networks)
        _write_curve(agents, paths.train_curve)
        seeing = [agent for name, agent in agents.items() if name.startswith(AGENT)]
        provenance = {
            "algorithm": config.algorithm, "params": asdict(config), "reward": asdict(params.reward), "data": data,
            "files": len(files), "optimizers": seeing[0].optimizers,
        }  # fmt: skip
        (paths.agent / "training.json").write_text(json.dumps(provenance, indent=1, sort_keys=True) + "\n")
        metrics: dict[str, Any] = {"steps": seeing[0].curve[-1]["step"], "agents": len(config.seeds)}
        for name, agent in agents.items():
            metrics |= {f"{name}.{k}": round(v, 5) for k, v in agent.curve[-1].items() if k != "step"}
            metrics[f"{name}.distance_to_behaviour"] = round(agent.distance_to_behaviour, 5)
        log.write(metrics, paths.train_metrics)
        log.learns_from("trajectories", data, paths.trajectories, trajectories.SCHEMA, recorded_facts.summarise(files))
        log.curves(mean_curve([agent.curve for agent in seeing]))
        log.artifact(paths.train_curve)


def mean_curve(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    """(step, mean of each loss over the agents) for every epoch. A curve is as in `Agent`, and all have equal
    steps.
    """
    return [
        (int(points[0]["step"]), {k: float(np.mean([point[k] for point in points])) for k in points[0] if k != "step"})
        for points in zip(*curves, strict=True)
    ]


def _write_curve(agents: Mapping[str, Agent], path: Path) -> None:
    """Long format: agent, step, name of the loss, value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("agent", "step", "name", "loss"))
        for name, agent in agents.items():
            for point in agent.curve:
                writer.writerows((name, point["step"], k, f"{v:.6g}") for k, v in point.items() if k != "step")


if __name__ == "__main__":
    main()
