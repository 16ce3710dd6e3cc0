"""Offline RL agents, all d3rlpy's: configuration, training, storage. The only module that imports d3rlpy.

`td3bc` is TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860). With `n_step` at least the length of an episode and `gamma`
1 its targets are full returns: an actor-critic on Monte-Carlo returns, nothing bootstrapped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gym_notices.notices
import numpy as np
import structlog
import torch

gym_notices.notices.notices.clear()  # else gym, which d3rlpy imports, advertises its successor on stderr
import d3rlpy  # noqa: E402  (after the line above, which must come first)
from d3rlpy.dataset import (  # noqa: E402
    BasicTransitionPicker,
    InfiniteBuffer,
    MultiStepTransitionPicker,
    ReplayBuffer,
    TransitionMiniBatch,
)

from policy.dataset import Episode  # noqa: E402

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

GRID = np.linspace(-1.0, 1.0, 9)  # actions of a discrete agent
FIRST_SHARE = 0.15  # of a batch are first decisions: one in 43 of the data, but they set the level of the whole run


@dataclass(frozen=True)
class Settings:
    """What an agent is trained with; see `params.yaml`, section train."""

    algorithm: str
    steps: int
    batch_size: int
    learning_rate: float
    gamma: float
    n_step: int
    alpha: float  # td3bc: weight of the critic against imitation; cql, discretecql: of the conservative term
    hidden: tuple[int, ...]


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
    "discretecql": lambda s, common: d3rlpy.algos.DiscreteCQLConfig(
        learning_rate=s.learning_rate, alpha=s.alpha, **common
    ),
}  # fmt: skip


def _actor(common: dict[str, Any]) -> dict[str, Any]:
    return {("actor_encoder_factory" if k == "encoder_factory" else k): v for k, v in common.items()}


class Transitions(ReplayBuffer):
    """A replay buffer whose transitions are picked once and sampled as arrays; first decisions are drawn more often.

    d3rlpy's own buffer picks every transition of every batch anew in Python, 40 % of a training step.
    """

    def __init__(self, episodes: list[Any], picker: Any, **kwargs: Any) -> None:
        super().__init__(InfiniteBuffer(), episodes=episodes, transition_picker=picker, **kwargs)
        picked = [(i, picker(e, i)) for e in episodes for i in range(e.transition_count)]
        batch = TransitionMiniBatch.from_transitions([t for _, t in picked])
        names = "observations actions rewards next_observations next_actions terminals intervals"
        self._columns = [getattr(batch, name) for name in names.split()]
        self._first = np.flatnonzero([i == 0 for i, _ in picked])

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        index = np.random.randint(self.transition_count, size=batch_size)  # d3rlpy.seed seeds numpy's generator
        first = np.random.random(batch_size) < FIRST_SHARE
        index[first] = np.random.choice(self._first, first.sum())
        return TransitionMiniBatch(*(c[index] for c in self._columns), transitions=[])


def buffer(episodes: Sequence[Episode], settings: Settings) -> Transitions:
    """Episodes as a d3rlpy replay buffer; every episode is terminal at its last decision."""
    discrete = settings.algorithm == "discretecql"
    native = [
        d3rlpy.dataset.Episode(
            e.observations, to_grid(e.actions) if discrete else e.actions, e.rewards, terminated=True
        )
        for e in episodes
    ]
    picker = (
        BasicTransitionPicker() if settings.n_step == 1 else MultiStepTransitionPicker(settings.n_step, settings.gamma)
    )
    space = d3rlpy.ActionSpace.DISCRETE if discrete else d3rlpy.ActionSpace.CONTINUOUS
    return Transitions(native, picker, action_space=space, action_size=len(GRID) if discrete else 1)


def to_grid(actions: np.ndarray) -> np.ndarray:
    """Index (T, 1) int64 of the grid's action nearest to each of actions (T, 1)."""
    return np.abs(actions - GRID).argmin(axis=1, keepdims=True)


def train(
    episodes: Sequence[Episode],
    settings: Settings,
    seed: int,
    note: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    device: str = "cpu",
) -> Any:
    """Train one agent; `note(step, losses)` hears of each of 20 epochs. Returns the d3rlpy algorithm.

    Bit-identical for equal inputs on one thread.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    common: dict[str, Any] = {
        "batch_size": settings.batch_size, "gamma": settings.gamma,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(),
        "encoder_factory": d3rlpy.models.VectorEncoderFactory(hidden_units=list(settings.hidden)),
    }  # fmt: skip
    config = ALGORITHMS[settings.algorithm](settings, common)
    algorithm = config.create(device="cuda:0" if device == "cuda" else "cpu")
    per_epoch = max(settings.steps // 20, 1)
    steps = settings.steps // per_epoch * per_epoch  # d3rlpy trains whole epochs only
    algorithm.fit(
        buffer(episodes, settings), n_steps=steps, n_steps_per_epoch=per_epoch, show_progress=False,
        logger_adapter=_Notes(note),
    )  # fmt: skip
    return algorithm


class _Notes:
    """A d3rlpy logger adapter, and its own factory, that passes each epoch's losses on."""

    def __init__(self, note: Callable[[int, dict[str, float]], None]) -> None:
        self._note, self._losses = note, {}

    def create(self, algo: Any, experiment_name: str, n_steps_per_epoch: int) -> _Notes:
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
    """Write an agent as .d3 (a pickle: load only what you wrote yourself)."""
    algorithm.save(str(path))


def load(path: Path) -> Any:
    """Read what `save` wrote."""
    return d3rlpy.load_learnable(str(path), device="cpu")


def predict(algorithm: Any, observations: np.ndarray) -> np.ndarray:
    """Greedy actions (n,) in [-1, 1] for observations (n, F)."""
    found = algorithm.predict(observations)
    return GRID[found] if np.issubdtype(found.dtype, np.integer) else found[:, 0]


class Network(torch.nn.Module):
    """An agent as a plain module: raw observations (n, F) -> actions (n, 1), normalisation inside."""

    grid: torch.Tensor | None  # actions of a discrete agent

    def __init__(self, algorithm: Any) -> None:
        super().__init__()
        self._parts = torch.nn.ModuleList(algorithm.impl.modules.get_torch_modules().values())
        self._algorithm = algorithm
        self._scaler = algorithm.config.observation_scaler
        discrete = algorithm.get_action_type() == d3rlpy.ActionSpace.DISCRETE
        self.register_buffer("grid", torch.tensor(GRID, dtype=torch.float32) if discrete else None)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        found = self._algorithm.impl.inner_predict_best_action(self._scaler.transform(observation))
        return found if self.grid is None else self.grid[found][:, None]
