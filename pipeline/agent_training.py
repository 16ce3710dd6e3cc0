"""One trained agent, and the key under which the train stage and the experiments cache it in `paths.AGENT_CACHE`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrpilot import digests
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
        return digests.of_json(content)[:16]


@dataclass(frozen=True)
class Agent:
    """A trained agent: its networks and facts about it."""

    networks: bytes  # of the file that `policy.agents.save` writes
    curve: list[dict[str, Any]]  # by epoch: step, and losses by name
    distance_to_behaviour: float  # mean squared difference of its actions and the data's
    first_value: float | None  # mean value that its critics give to what it does first; None without critics
    optimizers: list[str]  # kinds of them in its data


def inferred(config: TrainConfig) -> Inferred | None:
    """The departures to infer for agents that learn from departures; None if they learn from whole runs."""
    return config.inferred if config.learns_from == DEPARTURES else None


def view(config: TrainConfig, seed: int, store: Path) -> View:
    """A store in a folder, as an agent with that seed learns from it."""
    return masked(config, Store.open(store), seed)


def masked(config: TrainConfig, store: Store, seed: int) -> View:
    """A store as an agent with that seed learns from it."""
    return store.masked(Masks(config.mask_validation, config.mask_epochs), seed).limited(config.features)


def train(spec: AgentSpec, store: Path, optimizers: Iterable[str]) -> dict[AgentSpec, Agent]:
    """Train an agent on the store that was built for it."""
    from policy import agents  # the import of d3rlpy takes seconds, in vain where all agents are cached

    data, curve = view(spec.config, spec.seed, store), list[dict[str, Any]]()
    algorithm = agents.train(
        data, spec.config, spec.seed,
        lambda step, losses: curve.append({"step": step} | losses), spec.device,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent.d3")
        agents.save(algorithm, path)
        networks = path.read_bytes()
    rows, runs = data.rows_of(_every(data, SAMPLE))
    chosen = agents.predict(algorithm, data.observations(rows, runs))
    distance = float(np.mean((chosen - data.store.actions[rows]) ** 2))
    value = None if spec.config.algorithm == "bc" else _first_value(algorithm, data)
    return {spec: Agent(networks, curve, distance, value, sorted(optimizers))}


def _first_value(algorithm: Any, data: View) -> float:
    runs = _every(data, STARTS)
    first = data.observations(data.store.starts[runs], runs)
    return float(np.mean(algorithm.predict_value(first, algorithm.predict(first))))


def _every(data: View, count: int) -> np.ndarray:
    """`count` runs or up to twice as many, evenly spaced; all of them if there are fewer."""
    runs = np.arange(len(data.variants))
    return runs[:: max(len(runs) // count, 1)]
