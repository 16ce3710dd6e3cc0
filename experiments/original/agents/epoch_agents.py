"""Agents for `epochs.py`, trained offline by d3rlpy, and their ONNX files, which answer with factors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.original.agents.epoch_policy import KEY
from experiments.original.agents.epochs import DISCRETE, FEATURES, SPAN
from experiments.original.plan.config import AgentsConfig
from policy import graph
from policy.agents import Notes, configured

import d3rlpy  # isort: skip  (after policy.agents, which quietens it)

OUTPUT = "factor"


@dataclass(frozen=True)
class Episode:
    """One training of D decisions. It ends with its budget or a divergence, and both are terminal."""

    observations: np.ndarray  # (D, F) float32
    actions: np.ndarray  # (D,) as `experiments.original.agents.epochs.factor` takes them
    rewards: np.ndarray  # (D,) float32


def train(
    episodes: Sequence[Episode], kind: str, config: AgentsConfig,
    note: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> Any:  # fmt: skip
    """A d3rlpy algorithm. `note(step, losses)` is called after each of 10 epochs. Equal inputs give equal bits on a
    CPU.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(config.seed)
    discrete = kind == "discrete"
    observations = np.concatenate([e.observations for e in episodes])
    moments = observations.mean(0, np.float64), observations.std(0, dtype=np.float64)
    algorithm = configured(getattr(config, kind), config, moments).create(device="cpu")
    buffer = d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=[
            d3rlpy.dataset.Episode(
                e.observations, e.actions[:, None].astype(np.int64 if discrete else np.float32),
                e.rewards[:, None], terminated=True,
            )
            for e in episodes
        ],
        action_space=d3rlpy.ActionSpace.DISCRETE if discrete else d3rlpy.ActionSpace.CONTINUOUS,
        action_size=len(DISCRETE) if discrete else 1,
    )  # fmt: skip
    per_epoch = max(config.steps // 10, 1)
    algorithm.fit(
        buffer, n_steps=config.steps // per_epoch * per_epoch, n_steps_per_epoch=per_epoch, show_progress=False,
        logger_adapter=Notes(note),
    )  # fmt: skip
    return algorithm


class Factors(torch.nn.Module):
    """An agent as a plain module: raw observations (n, F) -> factors (n, 1) on the learning rate."""

    factors: torch.Tensor

    def __init__(self, algorithm: Any) -> None:
        super().__init__()
        self._parts = torch.nn.ModuleList(algorithm.impl.modules.get_torch_modules().values())
        self._algorithm, self._scaler = algorithm, algorithm.config.observation_scaler
        self._discrete = algorithm.get_action_type() == d3rlpy.ActionSpace.DISCRETE
        self.register_buffer("factors", torch.tensor(DISCRETE, dtype=torch.float32))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        action = self._algorithm.impl.inner_predict_best_action(self._scaler.transform(observation))
        return self.factors[action][:, None] if self._discrete else SPAN ** action.clamp(-1.0, 1.0)


def write(algorithm: Any, about: Mapping[str, Any], path: Path) -> np.ndarray:
    """Export an agent. Its file also contains its features and `about` it. Returns its answers to `examples()`."""
    network = Factors(algorithm).eval()
    with torch.no_grad():  # also makes the scaler's tensors, which must not happen inside the exporter
        answers = network(torch.from_numpy(examples())).numpy()
    model = graph.traced(network, len(FEATURES), OUTPUT)
    graph.save(model, {KEY: json.dumps({"features": FEATURES, **about}, sort_keys=True)}, path)
    return answers


def examples() -> np.ndarray:
    """Observations (64, F) float32 to compare two implementations."""
    return np.random.default_rng(0).normal(0, 2, (64, len(FEATURES))).clip(-8, 5).astype(np.float32)
