"""One policy of a variant: its cached agents as one ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from experiments.policy.variant import DISTILLED, Variant
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.cadence import CadenceSpec
from lrpilot.decisions.features import NAMES, VERSION
from lrpilot.decisions.protocol import Protocol
from lrpilot.policy_file.manifest import FORMAT, Manifest
from pipeline import agent_training
from pipeline.agent_training import Agent
from pipeline.config import Params
from pipeline.result_cache import open_cache
from policy import agents, graph
from policy.choice import policy_of
from policy.later_moves import FIRST, Factor
from policy.observations import mask
from policy.settings import TrainConfig
from policy.store import View

Job = tuple[str, Sequence[str], Variant]  # name of the policy, keys of its agents, what it is of
SEED = 10  # of an agent that imitates others


def write(job: Job, params: Params, golden: np.ndarray, folder: Path, cache: Path, store: Path) -> str:
    """Export agents of `cache` as one policy below `folder`, completely or not at all; returns its name.

    `store` is the store that the agents learned from.
    """
    name, keys, variant = job
    config, reward = variant.settings(params)
    trained = loaded(keys, cache)
    if variant.agents == DISTILLED:
        data = agent_training.view(config, SEED, store)
        trained = [distil(trained, data, replace(config, algorithm="bc"))]
    origin = {"algorithm": config.algorithm, "params": asdict(config), "reward": asdict(reward), "agents": [*keys]}
    protocol = Protocol(CadenceSpec(**variant.cadence), ActionEquation(**variant.action))
    manifest = Manifest(FORMAT, VERSION, NAMES, protocol, ("adam", "adamw", "sgd"), origin, {})
    network = graph.Masked(policy_of(trained, variant.choice(params)), mask(config.features))
    written = folder / f"{name}.written"
    try:
        graph.write(network, manifest, golden, written, Factor(variant.later, FIRST))
        written.replace(folder / f"{name}.onnx")
    finally:
        written.unlink(missing_ok=True)
    return name


def loaded(keys: Sequence[str], folder: Path) -> list[Any]:
    """The agents that the cache at `folder` holds under these keys."""
    with open_cache(folder) as cache, tempfile.TemporaryDirectory() as unpacked:
        out = []
        for key in keys:
            path = Path(unpacked, f"{key}.d3")
            path.write_bytes(cast(Agent, cache[key]).networks)
            out.append(agents.load(path))
        return out


def distil(trained: Sequence[Any], data: View, config: TrainConfig) -> Any:
    """An agent that is trained to answer as the mean of others does, on all recorded decisions."""
    actions = np.zeros_like(data.store.actions)
    rows, runs = data.rows_of(np.arange(len(data.variants)))
    for part in np.array_split(np.arange(len(rows)), max(len(rows) // 50_000, 1)):
        observations = data.observations(rows[part], runs[part])
        actions[rows[part]] = np.mean([agents.predict(agent, observations) for agent in trained], axis=0)
    taught = replace(data, store=replace(data.store, actions=actions))
    return agents.train(taught, config, SEED)
