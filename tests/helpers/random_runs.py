"""Runs of random numbers: what an agent is fed, worth nothing; and what d3rlpy's own picker makes of them."""

from collections.abc import Sequence

import numpy as np

from policy.buffer import TransitionMiniBatch, Transitions
from policy.store import DECISION, RUN, Store


def drawn(lengths: Sequence[int], seed: int) -> Store:
    """A store of runs of `lengths` decisions, all of one task."""
    rng, starts = np.random.default_rng(seed), np.append(0, np.cumsum(np.array(lengths) + 1))
    rows = int(starts[-1])
    decisions = rng.normal(size=(rows, len(DECISION))).astype(np.float32)
    constants = rng.normal(size=(len(lengths), len(RUN))).astype(np.float32)
    actions, rewards = (rng.uniform(-1, 1, rows).astype(np.float32) for _ in range(2))
    constants[:, -1] = 0
    for array in (decisions, actions, rewards):
        array[starts[1:] - 1] = 0
    return Store(decisions, actions, rewards, constants, starts, np.array([len(lengths)]))


def pick_difference(buffer: Transitions) -> float:
    """The largest difference in any column between our picks and d3rlpy's, over all decisions."""
    count, picker = buffer.transition_count, buffer.transition_picker
    wanted = TransitionMiniBatch.from_transitions([picker(*buffer.buffer[i]) for i in range(count)])
    ours = buffer.pick(np.arange(count))
    names = "observations actions rewards next_observations next_actions terminals intervals"
    return max(float(np.abs(getattr(ours, n) - getattr(wanted, n)).max()) for n in names.split())
