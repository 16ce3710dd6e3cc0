"""Offline RL agents, all d3rlpy's: configuration, training, storage. The only module that imports d3rlpy.

`td3bc` is TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860). With `n_step` at least the length of an episode and `gamma`
1 its targets are full returns: an actor-critic on Monte-Carlo returns, nothing bootstrapped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gym_notices.notices
import numpy as np
import structlog
import torch

gym_notices.notices.notices.clear()  # else gym, which d3rlpy imports, advertises its successor on stderr
import d3rlpy  # noqa: E402  (after the line above, which must come first)
from d3rlpy.dataset import (  # noqa: E402
    Episode,
    EpisodeBase,
    MultiStepTransitionPicker,
    ReplayBuffer,
    Signature,
    TransitionMiniBatch,
)
from d3rlpy.dataset.buffers import BufferProtocol  # noqa: E402

from lrpilot.features import NAMES  # noqa: E402
from policy.store import View  # noqa: E402

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
    alpha: float  # td3bc: weight of the critic against imitation; cql, discretecql: of the conservative term; awac: λ
    hidden: tuple[int, ...]
    dropout: float = 0.0  # share of the hidden units left out while training (Srivastava et al. 2014, JMLR 15)

    @classmethod
    def of(cls, config: Any) -> Settings:
        """Those of a dataclass that holds others as well."""
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
    "discretecql": lambda s, common: d3rlpy.algos.DiscreteCQLConfig(
        learning_rate=s.learning_rate, alpha=s.alpha, **common
    ),
}  # fmt: skip


def _actor(common: dict[str, Any]) -> dict[str, Any]:
    return {("actor_encoder_factory" if k == "encoder_factory" else k): v for k, v in common.items()}


class Runs(BufferProtocol):
    """The runs of a view as d3rlpy keeps them, each made when it is asked for; read only."""

    def __init__(self, data: View, discrete: bool) -> None:
        self._data, self._discrete = data, discrete
        starts = data.store.starts
        self.before = starts - np.arange(len(starts))  # (R + 1,) decisions before a run: a row less for each run
        self.longest = int(np.diff(self.before).max())

    def __len__(self) -> int:
        return int(self.before[-1])

    @property
    def transition_count(self) -> int:
        return len(self)

    def __getitem__(self, index: int) -> tuple[Episode, int]:
        run = int(self.of(np.array([index]))[0])
        return self.episode(run), index - int(self.before[run])

    def of(self, index: np.ndarray) -> np.ndarray:
        """Runs (n,) that the decisions (n,) belong to, counted through all runs."""
        return np.searchsorted(self.before, index, side="right") - 1

    @property
    def episodes(self) -> list[EpisodeBase]:
        return [self.episode(run) for run in range(len(self.before) - 1)]

    def episode(self, run: int) -> Episode:
        """One run; it is terminal at its last decision."""
        rows, runs = self._data.rows_of(np.array([run]))
        return Episode(
            self._data.observations(rows, runs), self.actions(rows), self._data.store.rewards[rows, None], True
        )

    def actions(self, rows: np.ndarray) -> np.ndarray:
        """Actions (n, 1) as the agent takes them."""
        found = self._data.store.actions[rows, None]
        return to_grid(found) if self._discrete else found

    def append(self, episode: EpisodeBase, index: int) -> None:
        raise NotImplementedError("recorded runs are only read; record more of them with the collect stage")


class Transitions(ReplayBuffer):
    """A replay buffer that draws and picks a batch as arrays; first decisions are drawn more often.

    Transitions are those of d3rlpy's own buffer with a `MultiStepTransitionPicker`, which picks one after another in
    Python, for longer than a gradient step takes. `first_share` 0 also draws them as it does: all equally often.
    """

    def __init__(self, data: View, settings: Settings, first_share: float = FIRST_SHARE) -> None:
        discrete = settings.algorithm == "discretecql"
        self._data, self._runs, self._first_share = data, Runs(data, discrete), first_share
        # An episode ends within as many decisions as the longest has, so a longer look ahead finds nothing more.
        self._ahead = min(settings.n_step, self._runs.longest)
        self._discounts = settings.gamma ** np.arange(self._ahead)
        super().__init__(
            self._runs,
            transition_picker=MultiStepTransitionPicker(settings.n_step, settings.gamma),
            observation_signature=Signature([np.dtype(np.float32)], [(len(NAMES),)]),
            action_signature=Signature([np.dtype(np.int64 if discrete else np.float32)], [(1,)]),
            reward_signature=Signature([np.dtype(np.float32)], [(1,)]),
            action_space=d3rlpy.ActionSpace.DISCRETE if discrete else d3rlpy.ActionSpace.CONTINUOUS,
            action_size=len(GRID) if discrete else 1,
        )

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        index = np.random.randint(len(self._runs), size=batch_size)  # d3rlpy.seed seeds numpy's generator
        first = np.random.random(batch_size) < self._first_share
        index[first] = self._runs.before[np.random.randint(len(self._runs.before) - 1, size=first.sum())]
        return self.pick(index)

    def pick(self, index: np.ndarray) -> TransitionMiniBatch:
        """The transitions of the decisions `index` (n,), counted through all runs."""
        store, runs = self._data.store, self._runs.of(index)
        rows, ends = index + runs, store.starts[runs + 1] - 1
        following = np.minimum(rows + self._ahead, ends)
        terminal = following == ends
        window = np.minimum(rows[:, None] + np.arange(self._ahead), ends[:, None])  # an end's reward is 0
        going = ~terminal  # after an end d3rlpy sees zeros
        next_observations = np.zeros((len(index), len(NAMES)), np.float32)
        next_observations[going] = self._data.observations(following[going], runs[going])
        next_actions = np.zeros((len(index), 1), np.float32)
        next_actions[going] = self._runs.actions(following[going])
        return TransitionMiniBatch(
            self._data.observations(rows, runs),
            self._runs.actions(rows).astype(np.float32),
            (store.rewards[window] @ self._discounts).astype(np.float32)[:, None],
            next_observations,
            next_actions,
            terminal.astype(np.float32)[:, None],
            (following - rows).astype(np.float32)[:, None],
            transitions=[],
        )


def to_grid(actions: np.ndarray) -> np.ndarray:
    """Index (T, 1) int64 of the grid's action nearest to each of actions (T, 1)."""
    return np.abs(actions - GRID).argmin(axis=1, keepdims=True)


def train(
    data: View,
    settings: Settings,
    seed: int,
    note: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    device: str = "cpu",
) -> Any:
    """Train one agent; `note(step, losses)` hears of each of 20 epochs. Returns the d3rlpy algorithm.

    `device` is cpu, cuda or auto: cuda where there is one. Bit-identical for equal inputs on one thread of a CPU.
    """
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    algorithm = create(data, settings, device)
    data.store.scatter()  # not before the scale of the observations is found, which takes one decision after the other
    per_epoch = max(settings.steps // 20, 1)
    steps = settings.steps // per_epoch * per_epoch  # d3rlpy trains whole epochs only
    algorithm.fit(
        Transitions(data, settings), n_steps=steps, n_steps_per_epoch=per_epoch, show_progress=False,
        logger_adapter=Notes(note),
    )  # fmt: skip
    return algorithm


def encoder(settings: Settings) -> Any:
    """The hidden layers of actors and critics."""
    return d3rlpy.models.VectorEncoderFactory(hidden_units=list(settings.hidden), dropout_rate=settings.dropout or None)


def create(data: View, settings: Settings, device: str) -> Any:
    """An untrained d3rlpy algorithm that knows the scale of the data's observations."""
    mean, std = data.moments()  # as d3rlpy would find them, episode by episode
    common: dict[str, Any] = {
        "batch_size": settings.batch_size, "gamma": settings.gamma,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(mean=mean, std=std),
        "encoder_factory": encoder(settings),
    }  # fmt: skip
    config = ALGORITHMS[settings.algorithm](settings, common)
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return config.create(device="cuda:0" if cuda else "cpu")


class Notes:
    """A d3rlpy logger adapter, and its own factory, that passes each epoch's losses on."""

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
