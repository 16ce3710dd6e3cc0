"""Trained agents, each cached under the hash of everything that decides it, so none is trained twice.

The train stage and the experiments share the cache. An agent is two files: `<key>.json` and, written last, `<key>.d3`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import code_hash
from policy.settings import DEPARTURES, Inferred, Reward, TrainConfig
from policy.store import Masks, Store, View

SAMPLE = 500  # runs, or up to twice as many, whose actions are compared with the data's
STARTS = 10_000  # first decisions, or up to twice as many, that the critics value


@dataclass(frozen=True)
class AgentSpec:
    """Everything that decides one agent."""

    data: str  # fingerprint of the recorded trainings
    reward: Reward
    config: TrainConfig  # but for its seeds and device, in place of which are the next two
    seed: int
    device: str  # cpu or cuda
    selection: str = ""  # what it learns of the recorded trainings, where that is not all of them as they are

    def key(self) -> str:
        """16 hex digits that identify the agent, with the current code and packages."""
        content: dict[str, Any] = asdict(self) | {"code": code_hash.digest(__name__, packages=("d3rlpy", "torch"))}
        content["config"] = {k: v for k, v in content["config"].items() if k not in ("seeds", "device")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Summary:
    """Facts about a trained agent besides its networks."""

    curve: list[dict[str, Any]]  # by epoch: step, and losses by name
    distance_to_behaviour: float  # mean squared difference of its actions and the data's
    first_value: float | None  # mean value that its critics give to what it does first; None without critics
    optimizers: list[str]  # kinds of them in its data


def file(key: str, folder: Path) -> Path:
    """The cache file of the agent with that key."""
    return folder / f"{key}.d3"


def cached(key: str, folder: Path) -> bool:
    """Whether the agent with that key was trained before."""
    return file(key, folder).exists()


def summary(key: str, folder: Path) -> Summary:
    """The summary of a cached agent."""
    return Summary(**json.loads((folder / f"{key}.json").read_text(encoding="utf-8")))


def inferred(config: TrainConfig) -> Inferred | None:
    """The departures to infer for agents that learn from departures; None if they learn from whole runs."""
    return config.inferred if config.learns_from == DEPARTURES else None


def view(config: TrainConfig, seed: int, store: Path) -> View:
    """A store in a folder, as an agent with that seed learns from it."""
    return masked(config, Store.open(store), seed)


def masked(config: TrainConfig, store: Store, seed: int) -> View:
    """A store as an agent with that seed learns from it."""
    return store.masked(Masks(config.mask_validation, config.mask_epochs), seed).limited(config.features)


def train(spec: AgentSpec, store: Path, optimizers: Iterable[str], folder: Path) -> str:
    """Train an agent on the store that was built for it, cache it in `folder` completely or not at all, and return its
    key.
    """
    from policy import agents  # the import of d3rlpy takes seconds, in vain where all agents are cached

    key, data, curve = spec.key(), view(spec.config, spec.seed, store), list[dict[str, Any]]()
    algorithm = agents.train(
        data, spec.config, spec.seed,
        lambda step, losses: curve.append({"step": step} | losses), spec.device,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{key}-") as partial:
        networks, facts = Path(partial, "agent.d3"), Path(partial, "agent.json")
        agents.save(algorithm, networks)
        rows, runs = data.rows_of(_every(data, SAMPLE))
        chosen = agents.predict(algorithm, data.observations(rows, runs))
        distance = float(np.mean((chosen - data.store.actions[rows]) ** 2))
        value = None if spec.config.algorithm == "bc" else _first_value(algorithm, data)
        known = Summary(curve, distance, value, sorted(optimizers))
        facts.write_text(json.dumps(asdict(known)) + "\n", encoding="utf-8")
        facts.replace(folder / f"{key}.json")
        networks.replace(file(key, folder))
    return key


def _first_value(algorithm: Any, data: View) -> float:
    runs = _every(data, STARTS)
    first = data.observations(data.store.starts[runs], runs)
    return float(np.mean(algorithm.predict_value(first, algorithm.predict(first))))


def _every(data: View, count: int) -> np.ndarray:
    """`count` runs or up to twice as many, evenly spaced; all of them if there are fewer."""
    runs = np.arange(len(data.variants))
    return runs[:: max(len(runs) // count, 1)]
