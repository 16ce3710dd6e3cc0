"""Write the agents as one self-describing ONNX file, and check that it answers as they do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lrpilot import digests, load_policy
from lrpilot.decisions import features
from lrpilot.decisions.protocol import Protocol
from lrpilot.policy_file.manifest import FORMAT, BundleError, Manifest
from pipeline import tracking
from pipeline.config import arguments
from pipeline.paths import AGENT, BLIND_AGENT
from policy import agents, graph
from policy.by_size import Small
from policy.choice import chooses, chosen, policy_of
from policy.observations import BLIND, mask

TOLERANCE = 5e-5  # of an action: a choice between critics magnifies what float32 rounds
GOLDEN = 8  # recorded observations whose answers travel with a policy


def main() -> None:
    paths, params = arguments(__doc__)
    with tracking.stage(paths, "export", {"opset": graph.OPSET} | asdict(params.export)) as log:
        training = json.loads((paths.agent / "training.json").read_text())
        trained, blind = (
            [agents.load(path) for path in sorted(paths.agent.glob(f"{name}*.d3"))] for name in (AGENT, BLIND_AGENT)
        )
        optimizers = tuple(training.pop("optimizers"))
        cautious = chooses(trained)
        small = None if params.export.small is None else small_policy(Path(params.export.small))
        manifest = Manifest(
            FORMAT,
            features.VERSION,
            features.NAMES,
            Protocol(),
            optimizers,
            training
            | {"commit": _commit()}
            | ({"caution": asdict(params.export)} if cautious else {})
            | ({"small": small.graph} if small else {}),
            {},
        )
        golden = graph.recorded_observations(paths.trajectories, GOLDEN)
        shown = mask(training["params"]["features"])
        graph.write(graph.Masked(policy_of(trained, params.export), shown), manifest, golden, paths.policy, small=small)
        graph.write(graph.Masked(policy_of(blind, params.export), mask(BLIND)), manifest, golden, paths.blind_policy)
        examples = graph.example_observations(257)
        if cautious:
            wanted = chosen(params.export, examples, np.stack([agents.values(a, examples * shown) for a in trained]))
        else:
            wanted = np.mean([agents.predict(a, examples * shown) for a in trained], axis=0)
        if small is not None:
            wanted = small.of(examples, wanted)
        difference = float(np.abs(load_policy(paths.policy)(examples) - wanted).max())
        if not difference <= TOLERANCE:
            raise SystemExit(
                f"export: the ONNX policy differs from the agents by {difference:.2g}, at most {TOLERANCE} is allowed"
            )
        content = paths.policy.read_bytes()
        metrics: dict[str, Any] = {
            "parity": float(f"{difference:.1g}"), "bytes": len(content), "agents": len(trained),
            "sha256": digests.of_bytes(content),
        }  # fmt: skip
        log.write(metrics, paths.export_metrics)
        log.metrics({"parity": metrics["parity"]})
        log.tags({"sha256": metrics["sha256"]})
        log.artifact(paths.policy)


def small_policy(path: Path) -> Small:
    """The policy for small networks in a file. Raises SystemExit if it cannot be put beside this version's."""
    try:
        bundle = load_policy(path)
    except BundleError as error:
        raise SystemExit(f"lrpilot: export.small: {error}") from None
    if bundle.protocol != Protocol():
        raise SystemExit(
            f"lrpilot: export.small: {path}, a policy of another decision process; export it again, or write null"
        )
    return Small(bundle)


def _commit() -> str:
    """The current commit of the code, for the manifest; empty outside git."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
