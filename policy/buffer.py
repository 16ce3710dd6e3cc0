"""The replay buffer that agents are trained from: the runs of a view of a store, drawn as batches of transitions.

This module imports d3rlpy first and silences its log, so other modules import d3rlpy after this one.
"""

from __future__ import annotations

import logging

import gym_notices.notices
import numpy as np
import structlog

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

from lrpilot.decisions.features import NAMES  # noqa: E402
from policy.store import View  # noqa: E402

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

GRID = np.linspace(-1.0, 1.0, 21)  # actions of a discrete agent
FIRST_SHARE = 0.15  # of a batch are first decisions: one in 43 of the data, but they set the level of the whole run


class Runs(BufferProtocol):
    """The runs of a view as d3rlpy episodes, read only. Each episode is made when it is asked for."""

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
        """Runs (n,) that the decisions (n,) belong to. Decisions are counted through all runs."""
        return np.searchsorted(self.before, index, side="right") - 1

    @property
    def episodes(self) -> list[EpisodeBase]:
        return [self.episode(run) for run in range(len(self.before) - 1)]

    def episode(self, run: int) -> Episode:
        """One run as an episode. It is terminal at its last decision."""
        rows, runs = self._data.rows_of(np.array([run]))
        return Episode(
            self._data.observations(rows, runs), self.actions(rows), self._data.store.rewards[rows, None], True
        )

    def actions(self, rows: np.ndarray) -> np.ndarray:
        """Actions (n, 1) in the form that the agent uses."""
        actions = self._data.store.actions[rows, None]
        return to_grid(actions) if self._discrete else actions

    def append(self, episode: EpisodeBase, index: int) -> None:
        raise NotImplementedError("recorded runs are only read; record more of them with the collect stage")


class Transitions(ReplayBuffer):
    """A replay buffer that draws and picks a whole batch as arrays. First decisions are drawn more often.

    The transitions equal those of d3rlpy's own buffer with a `MultiStepTransitionPicker`. That one picks them one by
    one in Python, which takes longer than a gradient step. With `first_share` 0 all decisions are also drawn equally
    often, as d3rlpy does.
    """

    def __init__(
        self,
        data: View,
        n_step: int,
        gamma: float,
        discrete: bool = False,
        first_share: float = FIRST_SHARE,
        drawn: np.ndarray | None = None,
    ) -> None:
        """`n_step` and `gamma` are the decisions of a return and its discount per decision; `discrete` means actions of
        GRID.

        With `drawn` (n,), runs, only the first decisions of these runs are drawn, each run as often as it appears
        there.
        """
        self._data, self._runs, self._first_share, self._drawn = data, Runs(data, discrete), first_share, drawn
        # An episode ends within as many decisions as the longest has, so a longer look ahead meets nothing more.
        self._ahead = min(n_step, self._runs.longest)
        self._discounts = gamma ** np.arange(self._ahead)
        super().__init__(
            self._runs,
            transition_picker=MultiStepTransitionPicker(n_step, gamma),
            observation_signature=Signature([np.dtype(np.float32)], [(len(NAMES),)]),
            action_signature=Signature([np.dtype(np.int64 if discrete else np.float32)], [(1,)]),
            reward_signature=Signature([np.dtype(np.float32)], [(1,)]),
            action_space=d3rlpy.ActionSpace.DISCRETE if discrete else d3rlpy.ActionSpace.CONTINUOUS,
            action_size=len(GRID) if discrete else 1,
        )

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        if self._drawn is not None:
            return self.pick(self._runs.before[np.random.choice(self._drawn, batch_size)])
        index = np.random.randint(len(self._runs), size=batch_size)  # d3rlpy.seed seeds numpy's generator
        first = np.random.random(batch_size) < self._first_share
        index[first] = self._runs.before[np.random.randint(len(self._runs.before) - 1, size=first.sum())]
        return self.pick(index)

    def pick(self, index: np.ndarray) -> TransitionMiniBatch:
        """The transitions of the decisions `index` (n,), which are counted through all runs."""
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
    """Indices (T, 1) int64 of the grid's actions that are nearest to the actions (T, 1)."""
    return np.abs(actions - GRID).argmin(axis=1, keepdims=True)
