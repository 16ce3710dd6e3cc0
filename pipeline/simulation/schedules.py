"""Behaviour and baseline schedules: the learning rates of steps 0..N-1 as multiples of the rate asked for.

Every schedule is a pure function of the number of optimizer steps N (and of a generator, for the random ones).
Deterministic schedules never exceed 1, so the rate asked for is their peak. Where torch has the schedule, the numbers
equal torch's. Random schedules start at 1 and stay within REACH decades of it.

A deterministic end value belongs to "after N steps" (index N, progress 1), as in CosineAnnealingLR(T_max=N): the last
step still moves the weights. Only one-cycle reaches its minimum in step N-1, as torch defines it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter

Curve = NDArray[np.float64]  # (n_steps,) multipliers, > 0

REACH = 2.0  # decades that a random schedule may leave the learning rate asked for, up or down


@dataclass(frozen=True)
class Schedule:
    """One entry of the registry. `curve(n_steps)`, or `curve(n_steps, rng)` where `random`."""

    curve: Callable[..., Curve]
    random: bool = False


def multipliers(name: str, n_steps: int, rng: np.random.Generator | None = None) -> Curve:
    """Multipliers (n_steps,) float64 of the learning rate asked for, one per optimizer step.

    `rng` is required by the random schedules and left untouched by the deterministic ones.
    Raises ValueError for an unknown name, fewer than two steps, or a random schedule without `rng`.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule: {name!r} is unknown, want one of {', '.join(SCHEDULES)}")
    if n_steps < 2:
        raise ValueError(f"n_steps: {n_steps}, want at least 2 optimizer steps")
    schedule = SCHEDULES[name]
    if not schedule.random:
        return schedule.curve(n_steps)
    if rng is None:
        raise ValueError(f"rng: schedule {name!r} is random, pass a numpy Generator")
    return schedule.curve(n_steps, rng)


def _share(n_steps: int, percent: int) -> int:
    """ceil(percent % of n_steps), in integers, so at least 1."""
    return -(-n_steps * percent // 100)


def _constant(n_steps: int) -> Curve:
    """1 throughout."""
    return np.ones(n_steps)


def _step(n_steps: int) -> Curve:
    """torch StepLR, gamma .1, step_size ceil(N/3): two drops by ten."""
    return np.power(0.1, np.arange(n_steps) // -(-n_steps // 3), dtype=np.float64)


def _exponential(n_steps: int) -> Curve:
    """torch ExponentialLR with the gamma that leaves 1 % after N steps."""
    return 0.01 ** (np.arange(n_steps) / n_steps)


def _cosine(n_steps: int) -> Curve:
    """Half a cosine from 1 to 0: Loshchilov & Hutter, SGDR, arXiv:1608.03983, eq. 5, without restarts."""
    return (1 + np.cos(np.pi * np.arange(n_steps) / n_steps)) / 2


def _linear(n_steps: int) -> Curve:
    """1 - s/N; "budgeted training", Li, Yumer & Ramanan, arXiv:1905.04753."""
    return 1 - np.arange(n_steps) / n_steps


def _onecycle(n_steps: int) -> Curve:
    """torch OneCycleLR, its defaults, relative to max_lr: super-convergence, Smith & Topin, arXiv:1708.07120.

    Cosine from 1/25 to 1 over the first 30 % of the steps, then cosine down to 1/(25 * 1e4). As in torch the
    peak lies at step .3 N - 1, which need not be an integer.
    """
    start, end, peak_at, last = 1 / 25, 1 / 25e4, 0.3 * n_steps - 1, n_steps - 1
    step = np.arange(n_steps)
    rise = 1 + (start - 1) * (1 + np.cos(np.pi * step / peak_at)) / 2
    fall = end + (1 - end) * (1 + np.cos(np.pi * (step - peak_at) / (last - peak_at))) / 2
    return np.where(step <= peak_at, rise, fall)


def _warmed_up(decay: Callable[[int], Curve], n_steps: int, percent: int) -> Curve:
    """W = ceil(percent % of N) linear steps 1/(W+1) ... W/(W+1), then `decay` over the other N - W, from 1.

    Linear warm-up: Goyal et al., arXiv:1706.02677, section 2.2; here no step is spent at a rate of 0.
    """
    warm = _share(n_steps, percent)
    return np.concatenate([np.arange(1, warm + 1) / (warm + 1), decay(n_steps - warm)])


def _stable_then_linear(n_steps: int, decay_steps: int) -> Curve:
    return np.concatenate([np.ones(n_steps - decay_steps), _linear(decay_steps)])


def _wsd(n_steps: int) -> Curve:
    """Warm-up (5 %), stable, decay (last 20 %): MiniCPM, arXiv:2404.06395, section 4.

    Unlike there, the decay is linear to 0, not exponential (Hägele et al., arXiv:2405.18392, compare the shapes).
    """
    return _warmed_up(lambda rest: _stable_then_linear(rest, _share(n_steps, 20)), n_steps, 5)


def _cyclic(n_steps: int) -> Curve:
    """torch CyclicLR, "triangular2", four triangles from .1: Smith, arXiv:1506.01186, section 3."""
    cycle, phase = np.divmod(np.arange(n_steps) * 4 / n_steps, 1.0)
    return 0.1 + 0.9 * (1 - np.abs(2 * phase - 1)) / 2**cycle


def _random_walk(n_steps: int, rng: np.random.Generator) -> Curve:
    """Ornstein-Uhlenbeck process in log10 of the rate, from 0, discretised exactly (Gillespie 1996).

    Stationary deviation U(.2, .8) decades, correlation time U(.05, .5) of the training, so paths look alike for any N.
    """
    deviation, memory = rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.5)
    keep = np.exp(-1 / (memory * n_steps))
    noise = deviation * np.sqrt(1 - keep**2) * rng.standard_normal(n_steps)
    noise[0] = 0.0
    return 10 ** np.clip(lfilter([1.0], [1.0, -keep], noise), -REACH, REACH)


def _kicks(n_steps: int, rng: np.random.Generator) -> Curve:
    """One to four deliberate jumps of U(.3, 1.5) decades, up or down, each held until the next.

    A jump that would leave REACH goes in the other direction, so every jump keeps its size.
    """
    at = _change_points(n_steps, int(rng.integers(1, 5)), rng)
    decades = np.zeros(n_steps)
    for step in at:
        jump = rng.uniform(0.3, 1.5) * rng.choice([-1, 1])
        level = decades[step - 1]
        decades[step:] = level + jump if abs(level + jump) <= REACH else level - jump
    return 10**decades


def _drift(n_steps: int, rng: np.random.Generator) -> Curve:
    """A steady geometric drift to U(.3, 2) decades above or below, reached after N steps."""
    total = rng.uniform(0.3, REACH) * rng.choice([-1, 1])
    return 10 ** (total * np.arange(n_steps) / n_steps)


def _piecewise(n_steps: int, rng: np.random.Generator) -> Curve:
    """Three to eight plateaus, random times: the first at 1, the others at independent U(-.8, .8) decades."""
    at = _change_points(n_steps, int(rng.integers(2, 8)), rng)
    levels = np.concatenate([[0.0], rng.uniform(-0.8, 0.8, len(at))])
    return 10 ** levels[np.searchsorted(at, np.arange(n_steps), side="right")]


def _change_points(n_steps: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` distinct steps in 1..N-1, ascending (all of them where N is that short)."""
    return np.sort(rng.choice(np.arange(1, n_steps), size=min(count, n_steps - 1), replace=False))


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(_constant),
    "step": Schedule(_step),
    "exponential": Schedule(_exponential),
    "cosine": Schedule(_cosine),
    "onecycle": Schedule(_onecycle),
    "linear": Schedule(_linear),
    "warmup_cosine": Schedule(lambda n: _warmed_up(_cosine, n, 5)),
    "warmup_linear": Schedule(lambda n: _warmed_up(_linear, n, 5)),
    "warmup_constant": Schedule(lambda n: _warmed_up(_constant, n, 5)),
    "wsd": Schedule(_wsd),
    "cyclic": Schedule(_cyclic),
    "random_walk": Schedule(_random_walk, random=True),
    "kicks": Schedule(_kicks, random=True),
    "drift": Schedule(_drift, random=True),
    "piecewise": Schedule(_piecewise, random=True),
}


def epsilon(start: float, decay: float, k: ArrayLike) -> NDArray[np.float64]:
    """Probability start * decay**k that decision k = 0, 1, ... of an episode is exploratory; shape of `k`.

    Epsilon-greedy: Sutton & Barto 2018, section 2.2, with a geometric decay. Raises ValueError unless `start`
    and `decay` lie in [0, 1] and k >= 0.
    """
    for name, value in (("start", start), ("decay", decay)):
        if not 0 <= value <= 1:
            raise ValueError(f"epsilon, {name}: {value}, want a number in [0, 1]")
    if np.any(np.asarray(k) < 0):
        raise ValueError(f"epsilon, k: {k}, decisions count from 0")
    return np.asarray(start * np.power(float(decay), k))


def explore(actions: NDArray[np.floating], probability: ArrayLike, rng: np.random.Generator) -> NDArray[np.floating]:
    """Replace the action of each run by a uniform one from [-1, 1), independently with `probability`.

    actions (K,) or (K, A) in [-1, 1], one row per run; probability () or (K,). Returns a new array of the same shape
    and dtype. It always takes the same number of random numbers, so what `rng` yields next does not depend on the
    probability. Raises ValueError for an action or a probability out of range.
    """
    chance = np.broadcast_to(probability, actions.shape[:1])
    if not np.all(np.abs(actions) <= 1):
        raise ValueError(f"actions: {actions[~(np.abs(actions) <= 1)][:3]} out of range, want [-1, 1]")
    if not np.all((chance >= 0) & (chance <= 1)):
        raise ValueError(f"probability: {probability}, want numbers in [0, 1]")
    random_actions = rng.uniform(-1, 1, actions.shape).astype(actions.dtype)
    chosen = rng.random(len(actions)) < chance
    return np.where(chosen.reshape(-1, *[1] * (actions.ndim - 1)), random_actions, actions)
