"""Generated data of held-out tasks, in any amount: strokes, reports, pendulums, bodies, waves, tables of rules.

Every generator draws its parameters (an alphabet, a lexicon, a medium) and the examples from `rng`. Examples have noise
that no network can learn, so even the best network is not perfect. Only held-out tasks use them.
"""

from __future__ import annotations

import math

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

_TURN = np.linspace(0, 1, 12)[:, None]
_BEZIER = np.concatenate(  # (12 places, 4 control points) of a cubic curve
    [(1 - _TURN) ** 3, 3 * _TURN * (1 - _TURN) ** 2, 3 * _TURN**2 * (1 - _TURN), _TURN**3], axis=1
)


def alphabet(rng: np.random.Generator, letters: int) -> np.ndarray:
    """Control points (letters, 2 curves, 4, 2) in [-.8, .8]: every letter is two random cubic curves."""
    return rng.uniform(-0.8, 0.8, (letters, 2, 4, 2))


def _render(points: np.ndarray, width: np.ndarray, side: int) -> np.ndarray:
    """Images (n, side, side) in [0, 1] of ink at points (n, P, 2) in [-1, 1], with pens of `width` (n,)."""
    places = np.linspace(-1, 1, side, dtype=np.float32)
    reach = np.exp(-(((points.astype(np.float32)[:, :, :, None] - places) / width[:, None, None, None]) ** 2))
    return 1 - np.exp(-2 * reach[:, :, 1].transpose(0, 2, 1) @ reach[:, :, 0])


def _written(rng: np.random.Generator, letters: np.ndarray, side: int) -> np.ndarray:
    """Images of given letters (n, 2, 4, 2), each shaken, turned, sized, moved, and written with a pen of its own."""
    n = len(letters)
    control = letters + 0.12 * rng.standard_normal(letters.shape)
    points = (_BEZIER @ control).reshape(n, -1, 2)
    angle, size = rng.normal(0, 0.25, n), rng.uniform(0.7, 1.1, n)
    turn = size[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1
    )
    points = points @ turn + rng.normal(0, 0.12, (n, 1, 2))
    return _render(points, rng.uniform(0.1, 0.28, n).astype(np.float32), side)


def strokes(rng: np.random.Generator, letters: np.ndarray, n: int, side: int, noise: float) -> Arrays:
    """Letters of an alphabet: x (n, 1, side, side), y (n,) the letter. A stray curve crosses each; grey noise."""
    y = rng.integers(0, len(letters), n)
    stray = _render(_BEZIER @ rng.uniform(-1.2, 1.2, (n, 4, 2)), np.full(n, 0.1, np.float32), side)
    image = np.maximum(_written(rng, letters[y], side), 0.5 * stray)
    x = image + noise * rng.standard_normal(image.shape)
    return ((x - 0.35) / 0.35).astype(np.float32)[:, None], y


def clean_strokes(rng: np.random.Generator, letters: np.ndarray, n: int, side: int) -> np.ndarray:
    """Letters without noise (n, 1, side, side), about standardised: for autoencoders and denoisers."""
    image = _written(rng, letters[rng.integers(0, len(letters), n)], side)
    return ((image - 0.35) / 0.35).astype(np.float32)[:, None]


def crossed_strokes(rng: np.random.Generator, letters: np.ndarray, n: int, side: int, noise: float) -> Arrays:
    """Two letters on one sheet: x (n, 1, side, side), y (n, side, side) per pixel: paper, the first, the second.

    The first letter is of the alphabet's first half, the second of the other half and lies on top.
    """
    half = len(letters) // 2
    below = _written(rng, letters[rng.integers(0, half, n)], side)
    above = _written(rng, letters[rng.integers(half, len(letters), n)], side)
    y = np.where(above > 0.4, 2, np.where(below > 0.4, 1, 0))
    x = np.maximum(below, above) + noise * rng.standard_normal(above.shape)
    return ((x - 0.45) / 0.4).astype(np.float32)[:, None], y


N_REPORT = 48  # tokens of reports; 0 fills up, 1 opens
REPORT_LENGTH = 16


def reports(rng: np.random.Generator, lexicon: np.random.Generator, n: int, noise: float = 0.04) -> Arrays:
    """Reports of two clauses, x (n, 16) tokens, y (n,) their verdict: bad, mixed, good.

    A clause has a determiner, a noun, perhaps an attribute, a verb, perhaps "not", perhaps "very", an adjective. A
    clause says +1 or -1: the sign of its adjective, turned round by "not"; after "but" the second clause counts alone.
    Nouns go with some verbs only. `lexicon` draws signs and company; a share `noise` of all tokens is random.
    """
    determiners, nouns, attributes, verbs, adjectives = (
        np.arange(a, b) for a, b in ((2, 5), (5, 17), (17, 23), (23, 33), (33, 43))
    )
    negation, emphasis, conjunction, but, stop = range(43, 48)
    signs = lexicon.permutation(np.repeat([-1, 1], 5))
    company = lexicon.dirichlet(np.full(len(verbs), 0.3), len(nouns)).cumsum(1)
    liked = lexicon.dirichlet(np.full(len(attributes), 0.4), len(nouns)).cumsum(1)

    def drawn(tokens: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
        return tokens[(rng.random((n, 1)) > cumulative).sum(1).clip(max=len(tokens) - 1)]

    def maybe(tokens: np.ndarray | int, share: float) -> np.ndarray:
        return np.where(rng.random(n) < share, tokens, -1)

    slots, says = [np.ones(n, np.int64)], []
    contrast = rng.random(n) < 0.2
    for clause in range(2):
        noun, adjective = rng.integers(0, len(nouns), n), rng.integers(0, len(adjectives), n)
        attribute, denied = maybe(drawn(attributes, liked[noun]), 0.4), rng.random(n) < 0.2
        slots += [determiners[noun % 3], nouns[noun], attribute, drawn(verbs, company[noun])]
        slots += [np.where(denied, negation, -1), maybe(emphasis, 0.3), adjectives[adjective]]
        slots.append(np.where(contrast, but, conjunction) if clause == 0 else np.full(n, stop))
        says.append(signs[adjective] * np.where(denied, -1, 1))
    y = np.where(contrast, says[1], np.sign(says[0] + says[1])) + 1
    x = _close_up(np.stack(slots, axis=1))[:, :REPORT_LENGTH]
    random = (rng.random(x.shape) < noise) & (x > 1)
    return np.where(random, rng.integers(2, N_REPORT, x.shape), x), y


def _close_up(slots: np.ndarray) -> np.ndarray:
    """Rows without their -1, zeros at the end."""
    order = np.argsort(slots < 0, axis=1, kind="stable")
    return np.maximum(np.take_along_axis(slots, order, 1), 0)


def pendulums(rng: np.random.Generator, n: int, steps: int, noise: float) -> np.ndarray:
    """Double pendulums seen with noise: (n, steps, 4) sines and cosines of both angles; masses and lengths 1.

    Equations: https://en.wikipedia.org/wiki/Double_pendulum, fourth-order Runge-Kutta, five steps of .03 between rows.
    """

    def slope(state: np.ndarray) -> np.ndarray:
        a, b, p, q = state
        gap = a - b
        below = 3 - np.cos(2 * gap)
        return np.stack([
            p,
            q,
            (-29.43 * np.sin(a) - 9.81 * np.sin(a - 2 * b) - 2 * np.sin(gap) * (q**2 + p**2 * np.cos(gap))) / below,
            2 * np.sin(gap) * (2 * p**2 + 19.62 * np.cos(a) + q**2 * np.cos(gap)) / below,
        ])  # fmt: skip

    state = rng.normal(0, 1, (4, n)) * np.array([1.2, 1.2, 1.5, 1.5])[:, None]
    rows, dt = [], 0.03
    for _ in range(steps):
        rows.append(np.stack([np.sin(state[0]), np.cos(state[0]), np.sin(state[1]), np.cos(state[1])], 1))
        for _ in range(5):
            one = slope(state)
            two = slope(state + dt / 2 * one)
            three = slope(state + dt / 2 * two)
            state = state + dt / 6 * (one + 2 * two + 2 * three + slope(state + dt * three))
    x = np.stack(rows, axis=1)
    return (x + noise * rng.standard_normal(x.shape)).astype(np.float32)


def bodies(rng: np.random.Generator, n: int, noise: float) -> Arrays:
    """Four bodies in a plane under softened gravity.

    x (n, 20): masses in [.3, 2], places, speeds; y (n, 8): how far each went in a unit of time, with noise, its
    deviation about 1. Leapfrog in 16 steps.
    """
    mass, place, speed = rng.uniform(0.3, 2, (n, 4)), rng.normal(0, 1, (n, 4, 2)), rng.normal(0, 0.5, (n, 4, 2))
    x = np.concatenate([mass, place.reshape(n, 8), speed.reshape(n, 8)], axis=1).astype(np.float32)
    mass, place, speed = (values.astype(np.float32) for values in (mass, place, speed))
    begin, dt = place, np.float32(1 / 16)

    def pull(place: np.ndarray) -> np.ndarray:
        gap = place[:, None] - place[:, :, None]  # (n, of whom, to whom, 2)
        weight = mass[:, None] / ((gap**2).sum(-1) + np.float32(0.1)) ** 1.5
        return (weight[..., None] * gap).sum(2)

    force = pull(place)
    for _ in range(16):
        speed = speed + dt / 2 * force
        place = place + dt * speed
        force = pull(place)
        speed = speed + dt / 2 * force
    moved = (place - begin).reshape(n, 8)
    moved = moved + noise * moved.std() * rng.standard_normal(moved.shape)
    return x, (moved / moved.std()).astype(np.float32)


def ponds(rng: np.random.Generator, n: int, side: int, noise: float) -> Arrays:
    """Waves on a pond of which a part is shallow: x (n, 3, side, side), y (n, side, side, 1).

    x holds the surface now and shortly before, seen with noise, and the depth; y is the surface later. Finite
    differences of the wave equation, periodic; about standardised.
    """
    place = np.linspace(0, 2 * math.pi, side, endpoint=False)
    modes = rng.normal(0, 1, (n, 4, 4)) + 1j * rng.normal(0, 1, (n, 4, 4))
    modes /= 1 + np.hypot(*np.meshgrid(range(4), range(4)))
    wave = np.exp(1j * np.arange(4)[:, None] * place)
    height = np.einsum("nij,ik,jl->nkl", modes, wave, wave).real
    shallow = np.real(np.exp(1j * rng.uniform(0, 2 * math.pi, (n, 1, 1))) * wave[1][:, None] * wave[1][None]) > 0.2
    speed = np.where(shallow, 0.06, 0.3)
    before, now, frames = height, height, []
    for step in range(18):
        spread = sum(np.roll(now, shift, axis) for shift in (-1, 1) for axis in (1, 2)) - 4 * now
        before, now = now, 2 * now - before + speed * spread
        if step in (7, 9, 17):
            frames.append(now)
    frames = np.stack(frames, axis=1) / np.std(frames[1])
    sight = frames[:, :2] + noise * rng.standard_normal(frames[:, :2].shape)
    x = np.concatenate([sight, shallow[:, None] * 2 - 1], axis=1)
    return x.astype(np.float32), frames[:, 2, :, :, None].astype(np.float32)


def strings(rng: np.random.Generator, n: int, places: int, noise: float) -> Arrays:
    """A plucked string with a bead: x (n, 1, 40) its motion near one end, y (n,) at which of `places` the bead is."""
    cells, rows = 32, []
    y, pluck = rng.integers(0, places, n), rng.uniform(3, 14, n)
    bead = np.abs(np.arange(cells) - (8 + (y * 2)[:, None])) < 1
    weight = 1 + bead * rng.uniform(3, 7, (n, 1))
    now = np.exp(-(((np.arange(cells) - pluck[:, None]) / rng.uniform(1.2, 2.5, (n, 1))) ** 2))
    before = now
    for _ in range(80):
        padded = np.pad(now, ((0, 0), (1, 1)))
        before, now = now, 2 * now - before + 0.7 / weight * (padded[:, 2:] + padded[:, :-2] - 2 * now)
        rows.append(now[:, 2])
    x = np.stack(rows, axis=1)[:, ::2]
    x = x / x.std() + noise * rng.standard_normal(x.shape)
    return x.astype(np.float32)[:, None], y


RULE_SIZES = (40, 24, 12, 7, 3)  # codes of the five categorical columns


def rules(rng: np.random.Generator, n: int, noise: float) -> Arrays:
    """Customers, x (n, 11): five codes, six skewed numbers; y (n,) in 0..2, by a sum of forty random rules.

    A rule is an intersection of a half of a column's codes and of two thresholds on numbers. `noise`: deviation of what
    the table does not say.
    """
    codes = np.stack([rng.choice(size, n, p=rng.dirichlet(np.full(size, 2.0))) for size in RULE_SIZES], axis=1)
    numbers = rng.standard_normal((n, 6)) @ rng.normal(0, 0.5, (6, 6)) + rng.standard_normal((n, 6))
    numbers = numbers / numbers.std(0)
    score = np.zeros(n)
    for _ in range(40):
        column, (a, b) = rng.integers(len(RULE_SIZES)), rng.choice(6, 2, replace=False)
        member = (rng.random(RULE_SIZES[column]) < 0.5)[codes[:, column]]
        score += rng.normal() * member * (numbers[:, a] > rng.normal(0, 0.7)) * (numbers[:, b] < rng.normal(0.3, 0.7))
    score = (score - score.mean()) / score.std() + noise * rng.standard_normal(n)
    y = np.digitize(score, np.quantile(score, (0.4, 0.75)))
    return np.concatenate([codes, np.sinh(numbers)], axis=1).astype(np.float32), y
