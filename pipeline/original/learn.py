"""Train the plan's two agents offline on the recordings, and write each as an ONNX file that answers as it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import tracking
from pipeline.original.catalogue import AGENTS
from pipeline.original.config import AgentsConfig, load
from pipeline.original.paths import original_root
from policy import epoch_agents, epochs
from policy.agents import Settings
from policy.epoch_policy import EpochPolicy

TOLERANCE = 1e-5  # of a factor


def episodes(results: Sequence[dict[str, Any]]) -> list[epoch_agents.Episode]:
    """Recorded trainings as the agents see them: what the training saw at each decision, and what it gained."""
    found = []
    for result in results:
        names = epochs.Seen.__dataclass_fields__
        seen = [epochs.Seen(**{name: row[name] for name in names}) for row in result["curve"]]
        actions = [row["action"] for row in result["curve"] if "action" in row]
        observations = [epochs.observation(now, seen[max(i - 1, 0)]) for i, now in enumerate(seen[: len(actions)])]
        # A training that diverged has no decision at its last row; one that ended with its budget has none there either.
        gains = epochs.rewards([s.val_loss for s in seen[: len(actions) + 1]])
        found.append(epoch_agents.Episode(np.stack(observations), np.array(actions), gains))
    return found


def settings(config: AgentsConfig, kind: str) -> Settings:
    """What d3rlpy is given; the plan knows no returns over several decisions."""
    return Settings(
        getattr(config, kind), config.steps, config.batch_size, config.learning_rate, config.gamma, 1, config.alpha,
        config.hidden,
    )  # fmt: skip


def main() -> None:
    paths = original_root(__doc__)
    config = load(paths.root).agents
    with tracking.stage(paths, "learn", asdict(config)) as log:
        results = [json.loads(path.read_text()) for path in sorted(paths.recordings.glob("*.json"))]
        metrics: dict[str, Any] = {}
        for kind in AGENTS:
            own = episodes([result for result in results if result["scheduler"] == kind])
            losses: dict[str, float] = {}
            agent = epoch_agents.train(own, kind, settings(config, kind), config.seed, lambda _, new: losses.update(new))  # noqa: B023
            path: Path = getattr(paths, kind)
            wanted = epoch_agents.write(agent, {"kind": kind, "trained": asdict(config), "episodes": len(own)}, path)
            parity = float(np.abs(EpochPolicy(path)(epoch_agents.examples()) - wanted[:, 0]).max())
            if not parity <= TOLERANCE:
                raise SystemExit(f"learn: {path} differs from its agent by {parity:.2g}, at most {TOLERANCE} is allowed")
            answers = EpochPolicy(path)(np.concatenate([e.observations for e in own]))
            metrics |= {f"{kind}.{name}": round(value, 5) for name, value in losses.items()}
            metrics |= {
                f"{kind}.episodes": len(own), f"{kind}.decisions": sum(len(e.actions) for e in own),
                f"{kind}.mean_factor": round(float(answers.mean()), 4), f"{kind}.parity": float(f"{parity:.1g}"),
                f"{kind}.sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }  # fmt: skip
            log.artifact(path)
        paths.learn_metrics.parent.mkdir(parents=True, exist_ok=True)
        paths.learn_metrics.write_text(json.dumps(metrics, indent=1) + "\n")
        log.metrics(metrics)


if __name__ == "__main__":
    main()
