"""Generated data of selection tasks, in any amount: solids, automata, commands, attractors, ratings.

Every generator draws its parameters and the examples from `rng`. Examples have noise that no network can learn. Only
selection uses them: they share neither kind nor parameters with the data of the collection and of held-out tasks.
"""

from __future__ import annotations

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

N_SOLIDS = 8
_RULES = (18, 22, 30, 45, 54, 60, 73, 90, 105, 106, 110, 126, 146, 150)  # of elementary automata that do not die out


def _height(kind: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Heights (n, side, side) over (u, v) of sphere, cone, ridge, box, pyramid, ring, bowl, saddle; 0 is the ground."""
    r, corner = np.hypot(u, v), np.maximum(np.abs(u), np.abs(v))
    lying = np.where(np.abs(v) < 1, np.sqrt(np.maximum(0.5 - u**2, 0)), 0)
    shapes = [
        np.sqrt(np.maximum(1 - r**2, 0)), np.maximum(1 - r, 0), lying, 0.6 * (corner < 0.75),
        np.maximum(1 - corner, 0), np.sqrt(np.maximum(0.12 - (r - 0.6) ** 2, 0)),
        np.where(r < 0.9, 0.2 + r**2, 0), np.where(corner < 0.9, 0.6 + 0.5 * (u**2 - v**2), 0),
    ]  # fmt: skip
    return np.choose(kind[:, None, None], shapes)


def solids(rng: np.random.Generator, n: int, side: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solids under a lamp: x (n, 1, side, side), kinds (n,) in 0..7, masks (n, side, side): 1 where the solid is.

    Each is turned, squeezed and moved, its albedo and the lamp's direction are random; the ground is grey noise.
    """
    kind = rng.integers(0, N_SOLIDS, n)
    place = np.linspace(-1.4, 1.4, side)
    row, column = (axis + rng.normal(0, 0.15, (n, 1, 1)) for axis in (place[:, None], place[None]))
    angle, squeeze = rng.uniform(0, np.pi, (n, 1, 1)), rng.uniform(0.8, 1.25, (n, 1, 1))
    u = (np.cos(angle) * row + np.sin(angle) * column) * squeeze
    v = (np.cos(angle) * column - np.sin(angle) * row) / squeeze
    height = _height(kind, u, v)
    lamp, tilt = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.uniform(0.3, 0.7, (n, 1, 1))
    down, across = np.gradient(height, 2.8 / (side - 1), axis=(1, 2))
    lit = (np.cos(tilt) - np.sin(tilt) * (np.cos(lamp) * down + np.sin(lamp) * across)) / np.sqrt(
        1 + down**2 + across**2
    )
    mask = height > 0.02
    image = np.where(mask, rng.uniform(0.5, 1, (n, 1, 1)) * np.maximum(lit, 0), rng.uniform(0, 0.5, (n, 1, 1)))
    x = (image - 0.35 + noise * rng.standard_normal(image.shape)) / 0.3
    return x.astype(np.float32)[:, None], kind, mask.astype(np.int64)


def automata(rng: np.random.Generator, n: int, side: int, n_rules: int, noise: float) -> Arrays:
    """Elementary cellular automata, x (n, 1, side, side) of -1 and 1, y (n,) which of `n_rules` rules made it.

    A share `noise` of the cells is flipped afterwards. Rows are generations, the first one random; periodic.
    """
    tables = (np.array(rng.choice(_RULES, n_rules, replace=False))[:, None] >> np.arange(8)) & 1
    y = rng.integers(0, n_rules, n)
    rows = [rng.integers(0, 2, (n, side))]
    for _ in range(side - 1):
        now = rows[-1]
        rows.append(tables[y[:, None], 4 * np.roll(now, 1, 1) + 2 * now + np.roll(now, -1, 1)])
    x = np.stack(rows, axis=1) ^ (rng.random((n, side, side)) < noise)
    return (2.0 * x - 1).astype(np.float32)[:, None], y


N_COMMAND, N_INTENTS, COMMAND_LENGTH = 56, 6, 14  # tokens; 0 fills up, 1 opens


def commands(rng: np.random.Generator, lexicon: np.random.Generator, n: int, noise: float = 0.05) -> Arrays:
    """Commands to a household, x (n, 14) tokens, y (n,) one of six intents.

    Perhaps a greeting, perhaps "not", a verb, a thing with an attribute, a place by a preposition, perhaps a time.
    The intent is one of three by the verb and one of two by the thing; "not" turns the latter round; every third
    time overrules both with an intent of its own. `lexicon` draws groups and which words go together;
    a share `noise` of all tokens is random.
    """
    greetings, verbs, things, attributes, prepositions, places, times = (
        np.arange(a, b) for a, b in ((2, 4), (5, 17), (17, 33), (33, 39), (39, 42), (42, 50), (50, 56))
    )
    groups = lexicon.permutation(np.arange(len(verbs)) % 3)
    kinds = lexicon.permutation(np.arange(len(things)) % 2)
    clock = np.where(np.arange(len(times)) % 3 == 0, lexicon.integers(0, N_INTENTS, len(times)), -1)
    habits = [lexicon.dirichlet(np.full(len(words), 0.3), len(things)).cumsum(1) for words in (places, attributes)]

    def drawn(words: np.ndarray, habit: np.ndarray) -> np.ndarray:
        return words[(rng.random((n, 1)) > habit).sum(1).clip(max=len(words) - 1)]

    verb, thing, time = (rng.integers(0, len(words), n) for words in (verbs, things, times))
    refused, dated, polite = rng.random(n) < 0.25, rng.random(n) < 0.5, rng.random(n) < 0.3
    where, which = drawn(places, habits[0][thing]), drawn(attributes, habits[1][thing])
    intent = 2 * groups[verb] + (kinds[thing] ^ refused)
    y = np.where(dated & (clock[time] >= 0), clock[time], intent)
    slots = [
        np.ones(n, np.int64), np.where(polite, rng.choice(greetings, n), -1), np.where(refused, 4, -1),
        verbs[verb], which, things[thing], prepositions[(where - 42) % 3], where,
        np.where(dated, times[time], -1),
    ]  # fmt: skip
    sheet = np.stack(slots, axis=1)
    x = np.zeros((n, COMMAND_LENGTH), np.int64)
    order = np.argsort(sheet < 0, axis=1, kind="stable")
    x[:, : sheet.shape[1]] = np.maximum(np.take_along_axis(sheet, order, 1), 0)
    return np.where((rng.random(x.shape) < noise) & (x > 1), rng.integers(2, N_COMMAND, x.shape), x), y


def attractors(rng: np.random.Generator, n: int, steps: int, noise: float) -> np.ndarray:
    """Lorenz's system seen with noise: (n, steps, 3), about standardised; sigma, rho, beta differ by 10 %.

    Lorenz 1963; fourth-order Runge-Kutta, four steps of .02 between rows, after one unit of time.
    """
    sigma, rho, beta = (value * rng.uniform(0.9, 1.1, n) for value in (10, 28, 8 / 3))

    def slope(s: np.ndarray) -> np.ndarray:
        return np.stack([sigma * (s[1] - s[0]), s[0] * (rho - s[2]) - s[1], s[0] * s[1] - beta * s[2]])

    state, rows, dt = rng.normal(0, 1, (3, n)) * 8 + np.array([[0], [0], [24]]), [], 0.02
    for step in range(50 + 4 * steps):
        if step >= 50 and step % 4 == 2:
            rows.append(state.T)
        one = slope(state)
        two = slope(state + dt / 2 * one)
        three = slope(state + dt / 2 * two)
        state = state + dt / 6 * (one + 2 * two + 2 * three + slope(state + dt * three))
    x = (np.stack(rows, axis=1) - [0, 0, 23.5]) / [8, 9, 8.6]
    return (x + noise * rng.standard_normal(x.shape)).astype(np.float32)


RATING_SIZES = (300, 120, 8, 5)  # people, films, genres, devices


def ratings(rng: np.random.Generator, n: int, noise: float) -> Arrays:
    """Ratings of films, x (n, 7): four codes, three numbers; y (n, 1) standardised.

    A person and a film have a bias and three factors each; genre and device add to them, the hour matters by genre.
    `noise`: deviation of what the table does not say.
    """
    people, films, _, devices = RATING_SIZES
    who, what, device = rng.integers(0, people, n), rng.integers(0, films, n), rng.integers(0, devices, n)
    genre = rng.integers(0, 8, films)[what]
    hour, age, length = rng.uniform(-1, 1, n), rng.normal(0, 1, people)[who], rng.normal(0, 1, films)[what]
    factors = rng.normal(0, 0.6, (people, 3))[who] * rng.normal(0, 0.6, (films, 3))[what]
    score = factors.sum(1) + rng.normal(0, 0.6, people)[who] + rng.normal(0, 0.6, films)[what]
    score += 0.5 * np.sin(3 * hour + genre) + 0.4 * age * length + rng.normal(0, 0.3, devices)[device]
    score = (score - score.mean()) / score.std() + noise * rng.standard_normal(n)
    columns = [who, what, genre, device, hour, age, length]
    return np.stack(columns, axis=1).astype(np.float32), (score / score.std()).astype(np.float32)[:, None]
