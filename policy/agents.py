"""Offline RL agents: configuration, training and storage. All algorithms are d3rlpy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.advantage import AdvantageFactory
from policy.algorithms import ALGORITHMS
from policy.buffer import GRID, Transitions
from policy.settings import DEPARTURES, Learning, TrainConfig
from policy.store import View

import d3rlpy  # isort: skip  (after policy.buffer, which quietens it)


def train(
    data: View,
    settings: TrainConfig,
    seed: int,
    note: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    device: str = "cpu",
) -> Any:
    """Train one agent and return the d3rlpy algorithm. `note(step, losses)` is called after each of 20 epochs.

    `device` is cpu or cuda. On one thread of a CPU, equal inputs give bit-identical results.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    algorithm = create(data, settings, device)
    data.store.scatter()  # not before `create` has computed the moments, which takes one decision after the other
    per_epoch = max(settings.steps // 20, 1)
    steps = settings.steps // per_epoch * per_epoch  # d3rlpy trains whole epochs only
    drawn = data.resampled(seed) if settings.learns_from == DEPARTURES else None  # so that critics differ
    buffer = Transitions(data, settings.n_step, settings.gamma, ALGORITHMS[settings.algorithm].discrete, drawn=drawn)
    algorithm.fit(buffer, n_steps=steps, n_steps_per_epoch=per_epoch, show_progress=False, logger_adapter=Notes(note))
    return algorithm


def create(data: View, settings: TrainConfig, device: str) -> Any:
    """An untrained d3rlpy algorithm whose scaler is fitted to the observations of the data."""
    values = AdvantageFactory() if settings.learns_from == DEPARTURES else None
    # The moments are those that d3rlpy would compute, episode by episode.
    config = configured(settings.algorithm, settings, data.moments(), settings.dropout, values)
    return config.create(device="cuda:0" if device == "cuda" else "cpu")


def configured(
    name: str, settings: Learning, moments: tuple[np.ndarray, np.ndarray], dropout: float = 0.0, values: Any = None
) -> Any:
    """d3rlpy's config of an algorithm of `ALGORITHMS`, for observations with these means and deviations (F,) each.

    `values` makes the critics of a discrete algorithm, which else are d3rlpy's plain ones.
    """
    algorithm, (mean, std) = ALGORITHMS[name], moments
    config = getattr(d3rlpy.algos, algorithm.config)
    encoder = d3rlpy.models.VectorEncoderFactory(hidden_units=list(settings.hidden), dropout_rate=dropout or None)
    arguments = {
        "batch_size": settings.batch_size, "gamma": settings.gamma,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(mean=mean, std=std),
        **dict.fromkeys(("learning_rate", "actor_learning_rate", "critic_learning_rate"), settings.learning_rate),
        **{f"{part}encoder_factory": encoder for part in ("", "actor_", "critic_", "value_")},
    }  # fmt: skip
    if algorithm.alpha:
        arguments[algorithm.alpha] = settings.alpha
    if algorithm.discrete and values is not None:
        arguments["q_func_factory"] = values
    known = {field.name for field in fields(config)}
    return config(**{key: value for key, value in arguments.items() if key in known})


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
