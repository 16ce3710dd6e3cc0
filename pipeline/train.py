"""Train the offline agents on the recorded trainings, one per training seed, and as many for the state-blind control.

Cached agents are not trained again.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import agent_cache, recorded_facts, tracking
from pipeline.agent_cache import AgentSpec, Summary
from pipeline.config import Params, arguments
from pipeline.engines import engine, progress, results
from pipeline.paths import AGENT, AGENT_CACHE, BLIND_AGENT
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


def train(specs: Iterable[AgentSpec], paths: Sequence[Path], reward: Reward, folder: Path) -> None:
    """Train the agents that are not cached, side by side. Their training data are in `folder` meanwhile."""
    AGENT_CACHE.mkdir(exist_ok=True)
    missing = [spec for spec in dict.fromkeys(specs) if not agent_cache.cached(spec.key(), AGENT_CACHE)]
    if not missing:
        return
    pool = engine("local")
    # Not where temporary files usually lie: that may be memory. A stage that was killed leaves it to the next one.
    with tempfile.TemporaryDirectory(dir=folder, prefix="store-") as store:
        optimizers = build(
            paths, reward, Path(store), partial(results, pool), inferred=agent_cache.inferred(missing[0].config)
        )
        work = partial(agent_cache.train, store=Path(store), optimizers=optimizers, folder=AGENT_CACHE)
        for _ in progress(results(pool, work, missing), len(missing), "train", lambda _: 1.0, "agents"):
            pass


def main() -> None:
    paths, params = arguments(__doc__)
    config = params.train
    with tracking.stage(paths, "train", asdict(config) | {"reward": asdict(params.reward)}) as log:
        shutil.rmtree(paths.agent, ignore_errors=True)
        paths.agent.mkdir(parents=True)
        files = trajectories.files(paths.trajectories)
        data = trajectories.fingerprint(files)
        specs = plan(params, data)
        train(specs.values(), files, params.reward, paths.agent)
        summaries = dict[str, Summary]()
        for name, spec in sorted(specs.items(), key=lambda item: item[0]):
            summaries[name] = agent_cache.summary(spec.key(), AGENT_CACHE)
            shutil.copyfile(agent_cache.file(spec.key(), AGENT_CACHE), paths.agent / f"{name}.d3")
        _write_curve(summaries, paths.train_curve)
        seeing = [summary for name, summary in summaries.items() if name.startswith(AGENT)]
        provenance = {
            "algorithm": config.algorithm, "params": asdict(config), "reward": asdict(params.reward), "data": data,
            "files": len(files), "optimizers": seeing[0].optimizers,
        }  # fmt: skip
        (paths.agent / "training.json").write_text(json.dumps(provenance, indent=1, sort_keys=True) + "\n")
        metrics: dict[str, Any] = {"steps": seeing[0].curve[-1]["step"], "agents": len(config.seeds)}
        for name, summary in summaries.items():
            metrics |= {f"{name}.{k}": round(v, 5) for k, v in summary.curve[-1].items() if k != "step"}
            metrics[f"{name}.distance_to_behaviour"] = round(summary.distance_to_behaviour, 5)
        log.write(metrics, paths.train_metrics)
        log.learns_from("trajectories", data, paths.trajectories, trajectories.SCHEMA, recorded_facts.summarise(files))
        log.curves(mean_curve([summary.curve for summary in seeing]))
        log.artifact(paths.train_curve)


def mean_curve(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    """(step, mean of each loss over the agents) for every epoch. A curve is as in `Summary`, and all have equal
    steps.
    """
    return [
        (int(points[0]["step"]), {k: float(np.mean([point[k] for point in points])) for k in points[0] if k != "step"})
        for points in zip(*curves, strict=True)
    ]


def _write_curve(summaries: Mapping[str, Summary], path: Path) -> None:
    """Long format: agent, step, name of the loss, value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("agent", "step", "name", "loss"))
        for name, summary in summaries.items():
            for point in summary.curve:
                writer.writerows((name, point["step"], k, f"{v:.6g}") for k, v in point.items() if k != "step")


if __name__ == "__main__":
    main()
