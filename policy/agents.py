"""Offline RL agents: configuration, training and storage. All algorithms are d3rlpy's.

`td3bc` is TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860). If `n_step` is at least the length of an episode and `gamma`
is 1, its targets are full returns: an actor-critic on Monte-Carlo returns, without bootstrapping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.advantage import AdvantageFactory
from policy.buffer import GRID, Transitions
from policy.departures import DEPARTURES
from policy.store import View

import d3rlpy  # isort: skip  (after policy.buffer, which quietens it)

DISCRETE = ("dqn", "discretecql")  # algorithms whose actions are those of GRID


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one agent; see `params.yaml`, section train."""

    algorithm: str
    steps: int
    batch_size: int
    learning_rate: float
    gamma: float
    n_step: int
    alpha: float  # td3bc: weight of the critic against imitation; cql, discretecql: of the conservative term; awac: λ
    hidden: tuple[int, ...]
    learns_from: str = "runs"  # or DEPARTURES
    dropout: float = 0.0  # share of the hidden units left out while training (Srivastava et al. 2014, JMLR 15)

    @classmethod
    def of(cls, config: Any) -> Settings:
        """The settings in a dataclass that has these fields among others."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})


ALGORITHMS: dict[str, Callable[[Settings, dict[str, Any]], Any]] = {
    "bc": lambda s, common: d3rlpy.algos.BCConfig(learning_rate=s.learning_rate, **common),
    "iql": lambda s, common: d3rlpy.algos.IQLConfig(
        actor_learning_rate=s.learning_rate, critic_learning_rate=s.learning_rate,
        critic_encoder_factory=common["encoder_factory"], value_encoder_factory=common["encoder_factory"],
        **_actor(common),
    ),
    "cql": lambda s, common: d3rlpy.algos.CQLConfig(
        actor_learning_rate=s.learning_rate, critic_learning_rate=s.learning_rate, conservative_weight=s.alpha,
        critic_encoder_factory=common["encoder_factory"], **_actor(common),
    ),
    "td3bc": lambda s, common: d3rlpy.algos.TD3PlusBCConfig(
        actor_learning_rate=s.learning_rate, critic_learning_rate=s.learning_rate, alpha=s.alpha,
        critic_encoder_factory=common["encoder_factory"], **_actor(common),
    ),
    "awac": lambda s, common: d3rlpy.algos.AWACConfig(
        actor_learning_rate=s.learning_rate, critic_learning_rate=s.learning_rate, lam=s.alpha,
        critic_encoder_factory=common["encoder_factory"], **_actor(common),
    ),
    "dqn": lambda s, common: d3rlpy.algos.DQNConfig(
        learning_rate=s.learning_rate, q_func_factory=_values(s), **common
    ),
    "discretecql": lambda s, common: d3rlpy.algos.DiscreteCQLConfig(
        learning_rate=s.learning_rate, alpha=s.alpha, q_func_factory=_values(s), **common
    ),
}  # fmt: skip


def _values(settings: Settings) -> Any:
    """What the critics of discrete algorithms are."""
    return AdvantageFactory() if settings.learns_from == DEPARTURES else d3rlpy.models.MeanQFunctionFactory()


def _actor(common: dict[str, Any]) -> dict[str, Any]:
    return {("actor_encoder_factory" if k == "encoder_factory" else k): v for k, v in common.items()}


def train(
    data: View,
    settings: Settings,
    seed: int,
    note: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    device: str = "cpu",
) -> Any:
    """Train one agent and return the d3rlpy algorithm. `note(step, losses)` is called after each of 20 epochs.

    `device` is cpu, cuda or auto (cuda if there is one). On one thread of a CPU, equal inputs give bit-identical
    results.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    algorithm = create(data, settings, device)
    data.store.scatter()  # not before `create` has computed the moments, which takes one decision after the other
    per_epoch = max(settings.steps // 20, 1)
    steps = settings.steps // per_epoch * per_epoch  # d3rlpy trains whole epochs only
    drawn = data.resampled(seed) if settings.learns_from == DEPARTURES else None  # so that critics differ
    buffer = Transitions(data, settings.n_step, settings.gamma, settings.algorithm in DISCRETE, drawn=drawn)
    algorithm.fit(buffer, n_steps=steps, n_steps_per_epoch=per_epoch, show_progress=False, logger_adapter=Notes(note))
    return algorithm


def encoder(settings: Settings) -> Any:
    """The hidden layers of actors and critics."""
    return d3rlpy.models.VectorEncoderFactory(hidden_units=list(settings.hidden), dropout_rate=settings.dropout or None)


def create(data: View, settings: Settings, device: str) -> Any:
    """An untrained d3rlpy algorithm whose scaler is fitted to the observations of the data."""
    mean, std = data.moments()  # as d3rlpy would compute them, episode by episode
    common: dict[str, Any] = {
        "batch_size": settings.batch_size, "gamma": settings.gamma,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(mean=mean, std=std),
        "encoder_factory": encoder(settings),
    }  # fmt: skip
    config = ALGORITHMS[settings.algorithm](settings, common)
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return config.create(device="cuda:0" if cuda else "cpu")


class Notes:
    """A d3rlpy logger adapter, and its own factory, that passes on the losses of each epoch."""

    def __init__(self, note: Callable[[int, dict[str, float]], None]) -> None:
        self._note, self._losses = note, {}

    def create(self, algo: Any, experiment_name: str, n_steps_per_epoch: int) -> Notes:
        return self

    def write_params(self, params: dict[str, Any]) -> None: ...

    def before_write_metric(self, epoch: int, step: int) -> None:
        self._losses = {}

    def write_metric(self, epoch: int, step: int, name: str, value: float) -> None:
        if not name.startswith("time_"):
            self._losses[name] = float(value)

    def after_write_metric(self, epoch: int, step: int) -> None:
        self._note(step, self._losses)

    def save_model(self, epoch: int, algo: Any) -> None: ...

    def watch_model(self, epoch: int, step: int) -> None: ...

    def close(self) -> None: ...


def save(algorithm: Any, path: Path) -> None:
    """Write an agent as .d3. The file is a pickle, so load only files that you wrote yourself."""
    algorithm.save(str(path))


def load(path: Path) -> Any:
    """Read an agent that `save` wrote."""
    return d3rlpy.load_learnable(str(path), device="cpu")


def predict(algorithm: Any, observations: np.ndarray) -> np.ndarray:
    """Greedy actions (n,) in [-1, 1] for observations (n, F)."""
    actions = algorithm.predict(observations)
    return GRID[actions] if np.issubdtype(actions.dtype, np.integer) else actions[:, 0]


def values(algorithm: Any, observations: np.ndarray) -> np.ndarray:
    """The critic's values (n, len(GRID)) of every action of GRID, for observations (n, F) of a discrete agent."""
    algorithm.impl.modules.set_eval()  # no dropout
    with torch.no_grad():
        scaled = algorithm.config.observation_scaler.transform(torch.from_numpy(observations))
        return algorithm.impl.modules.q_funcs[0](scaled).q_value.numpy()


class Network(torch.nn.Module):
    """An agent as a plain module with the normalisation inside: raw observations (n, F) -> actions (n, 1)."""

    grid: torch.Tensor | None  # actions of a discrete agent

    def __init__(self, algorithm: Any) -> None:
        super().__init__()
        self._parts = torch.nn.ModuleList(algorithm.impl.modules.get_torch_modules().values())
        self._algorithm = algorithm
        self._scaler = algorithm.config.observation_scaler
        discrete = algorithm.get_action_type() == d3rlpy.ActionSpace.DISCRETE
        self.register_buffer("grid", torch.tensor(GRID, dtype=torch.float32) if discrete else None)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        actions = self._algorithm.impl.inner_predict_best_action(self._scaler.transform(observation))
        return actions if self.grid is None else self.grid[actions][:, None]
