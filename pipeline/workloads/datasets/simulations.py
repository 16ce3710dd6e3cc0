"""Generated physics in any number: damped springs, and heat that spreads."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


def springs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Where and how fast damped springs are after a time: x (n, 6) standardised, y (n, 2) standardised with noise.

    Inputs: first place and speed, stiffness, damping, mass, time; all springs are underdamped.
    """
    place, speed = rng.standard_normal((2, n))
    stiffness, mass = np.exp(rng.uniform(-1, 1, (2, n)))
    frequency = np.sqrt(stiffness / mass)
    damping, time = rng.uniform(0.02, 0.6, n) * frequency, rng.uniform(0, rng.uniform(2, 8), n)
    y = motion(place, speed, frequency, damping, time)
    x = np.stack([place, speed, np.log(stiffness), damping, np.log(mass), time], 1)
    return _standardised(x), noisy(rng, _standardised(y.T))


def motion(
    place: np.ndarray, speed: np.ndarray, frequency: np.ndarray, damping: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """Place and speed (2, n) after `time` of x'' = -2 damping x' - frequency^2 x, damping below frequency."""
    wave = np.sqrt(frequency**2 - damping**2)
    a, b, decay = place, (speed + damping * place) / wave, np.exp(-damping * time)
    cos, sin = np.cos(wave * time), np.sin(wave * time)
    return decay * np.stack([a * cos + b * sin, (b * wave - a * damping) * cos - (a * wave + b * damping) * sin])


def spring_tracks(rng: np.random.Generator, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of two coupled springs in time, seen with noise: x (n, length, 2), y (n, length, 2) a moment later."""
    modes = np.sqrt(np.exp(rng.uniform(-1, 1, (2, n, 1)))) * rng.uniform(0.4, 0.9)
    height, phase = rng.rayleigh(1, (2, n, 1)), rng.uniform(0, 2 * math.pi, (2, n, 1))
    times = np.arange(length + 1)
    waves = height * np.cos(modes * times + phase) * np.exp(-rng.uniform(0, 0.1) * times)
    tracks = np.stack([waves[0] + waves[1], waves[0] - waves[1]], 2)
    tracks = noisy(rng, _standardised(tracks.reshape(-1, 2))).reshape(tracks.shape)
    return np.ascontiguousarray(tracks[:, :-1]), np.ascontiguousarray(tracks[:, 1:])


def heat(rng: np.random.Generator, n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields of heat later, with noise, and at first: x and y (n, side, side) standardised; the plane is a torus."""
    first = ndimage.gaussian_filter(
        rng.standard_normal((n, side, side), dtype=np.float32), (0, *(rng.uniform(0.6, 1.2),) * 2), mode="wrap"
    )
    first = np.where(first > 0, 1, -1) if rng.random() < 0.5 else first
    later = ndimage.gaussian_filter(first.astype(np.float32), (0, *(rng.uniform(0.5, 1.2),) * 2), mode="wrap")
    later = later / later.std() + rng.uniform(0.05, 0.4) * rng.standard_normal(later.shape)
    return later.astype(np.float32), (first / first.std()).astype(np.float32)


def noisy(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Standardised targets (n, d) of which noise is a share between none and two fifths."""
    share = rng.uniform(0, 0.4) if rng.random() < 0.7 else 0.02
    return (math.sqrt(1 - share) * y + math.sqrt(share) * rng.standard_normal(y.shape)).astype(np.float32)


def _standardised(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)
