"""Train the plan's two agents offline on the recordings, and write each as an equivalent ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.original.agents import epoch_agents, epochs
from experiments.original.agents.epoch_policy import EpochPolicy
from experiments.original.plan.catalogue import AGENTS
from experiments.original.plan.config import AgentsConfig, load
from experiments.original.plan.paths import original_root
from lrpilot import digests
from pipeline import tracking

TOLERANCE = 1e-5  # of a factor


def episodes(results: Sequence[dict[str, Any]]) -> list[epoch_agents.Episode]:
    """Recorded trainings as the agents see them: observations, actions and rewards of their decisions."""
    out = []
    for result in results:
        names = epochs.Telemetry.__dataclass_fields__
        curve = [epochs.Telemetry(**{name: row[name] for name in names}) for row in result["curve"]]
        actions = [row["action"] for row in result["curve"] if "action" in row]
        observations = [epochs.observation(now, curve[max(i - 1, 0)]) for i, now in enumerate(curve[: len(actions)])]
        # Nothing is decided at the last row, whether the budget or a divergence ended the training.
        gains = epochs.rewards([telemetry.val_loss for telemetry in curve[: len(actions) + 1]])
        out.append(epoch_agents.Episode(np.stack(observations), np.array(actions), gains))
    return out


def learn(kind: str, own: Sequence[epoch_agents.Episode], config: AgentsConfig, path: Path) -> dict[str, Any]:
    """Train one agent, write its file, and return its figures. Raises SystemExit if the file's answers differ."""
    losses: dict[str, float] = {}
    agent = epoch_agents.train(own, kind, config, lambda _, new: losses.update(new))
    wanted = epoch_agents.write(agent, {"kind": kind, "trained": asdict(config), "episodes": len(own)}, path)
    policy = EpochPolicy(path)
    parity = float(np.abs(policy(epoch_agents.examples()) - wanted[:, 0]).max())
    if not parity <= TOLERANCE:
        raise SystemExit(f"learn: {path} differs from its agent by {parity:.2g}, at most {TOLERANCE} is allowed")
    answers = policy(np.concatenate([e.observations for e in own]))
    return {name: round(value, 5) for name, value in losses.items()} | {
        "episodes": len(own), "decisions": sum(len(e.actions) for e in own), "parity": float(f"{parity:.1g}"),
        "mean_factor": round(float(answers.mean()), 4), "sha256": digests.of_file(path),
    }  # fmt: skip


def main() -> None:
    paths = original_root(__doc__)
    config = load(paths.root).agents
    with tracking.stage(paths, "learn", asdict(config)) as log:
        results = [json.loads(path.read_text()) for path in sorted(paths.recordings.glob("*.json"))]
        metrics: dict[str, Any] = {}
        for kind in AGENTS:
            path: Path = getattr(paths, kind)
            figures = learn(kind, episodes([r for r in results if r["scheduler"] == kind]), config, path)
            metrics |= {f"{kind}.{name}": value for name, value in figures.items()}
            log.artifact(path)
        log.write(metrics, paths.learn_metrics)
        log.metrics(metrics)


if __name__ == "__main__":
    main()
