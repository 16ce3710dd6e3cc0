"""Generated images in any amount: gratings, blobs, cells, polygons. Classes differ in what a network must learn to see.

All are (n, channels, side, side) float32, standardised, with noise that keeps a good network from being perfect.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.workloads.building.sampling import pick

KINDS = ("gratings", "blobs", "cells", "polygons")


def _places(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (side, side) in [-1, 1]."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32),) * 2, indexing="ij")
    return rows, columns


def _gratings(rng: np.random.Generator, y: np.ndarray, classes: int, side: int) -> np.ndarray:
    """Waves whose direction, or whose direction and length, tell the class; their phase does not."""
    rows, columns = _places(side)
    lengths = 1 if rng.random() < 0.5 else 2
    angle = math.pi * (y // lengths + rng.normal(0, 0.15, len(y))) / -(-classes // lengths)
    waves = np.where(y % lengths, 2.5, 1.5) * math.pi * (1 + 0.1 * rng.standard_normal(len(y)))
    across, down = ((waves * turn(angle)).astype(np.float32)[:, None, None] for turn in (np.cos, np.sin))
    phase = rng.uniform(0, 2 * math.pi, (len(y), 1, 1)).astype(np.float32)
    return np.sin(across * columns + down * rows + phase)


def _blobs(rng: np.random.Generator, y: np.ndarray, classes: int, side: int) -> np.ndarray:
    """The class is the number of bright spots, of which some may lie together."""
    rows, columns = _places(side)
    width = np.float32(rng.uniform(0.12, 0.18))
    image = np.zeros((len(y), side, side), np.float32)
    for spot in range(classes):
        row, column = rng.uniform(-0.9, 0.9, (2, len(y), 1, 1)).astype(np.float32)
        height = ((spot <= y) * rng.uniform(0.7, 1.3, len(y))).astype(np.float32)[:, None, None]
        image += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))
    return image


def _cells(rng: np.random.Generator, y: np.ndarray, classes: int, side: int) -> np.ndarray:
    """Walls between the cells around random seeds (Worley 1996); the class is how many seeds there are."""
    rows, columns = _places(side)
    counts = np.unique(np.geomspace(2, 16, classes).round()).astype(int)
    seeds = counts[np.minimum(y, len(counts) - 1)]
    nearest, second = np.full((2, len(y), side, side), 9, np.float32)
    for seed in range(int(seeds.max())):
        row, column = rng.uniform(-1.1, 1.1, (2, len(y), 1, 1)).astype(np.float32)
        distance = (rows - row) ** 2 + (columns - column) ** 2
        distance = np.where((seed < seeds)[:, None, None], distance, np.float32(9))
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return np.exp(-6 * (np.sqrt(second) - np.sqrt(nearest)))


def polygons(rng: np.random.Generator, y: np.ndarray, side: int) -> np.ndarray:
    """How far inside a polygon of y + 3 sides each place lies, (n, side, side); turned, moved and scaled by chance."""
    rows, columns = _places(side)
    row, column, turn = (rng.uniform(-a, a, (len(y), 1, 1)).astype(np.float32) for a in (0.25, 0.25, math.pi))
    size, sides = np.float32(rng.uniform(0.45, 0.75, (len(y), 1, 1))), (y + 3).astype(np.float32)[:, None, None]
    angle = np.arctan2(rows - row, columns - column) + turn
    sector = 2 * np.float32(math.pi) / sides
    edge = size * np.cos(sector / 2) / np.cos(angle % sector - sector / 2)
    return edge - np.hypot(rows - row, columns - column)


def _polygons(rng: np.random.Generator, y: np.ndarray, classes: int, side: int) -> np.ndarray:
    """Filled, or their outlines alone."""
    inside = polygons(rng, y, side)
    return np.exp(-((inside / 0.12) ** 2)) if rng.random() < 0.3 else 1 / (1 + np.exp(-np.clip(inside * 12, -30, 30)))


def draw_images(
    rng: np.random.Generator, n: int, side: int, kind: str | None = None
) -> tuple[str, np.ndarray, np.ndarray]:
    """(kind, x (n, 1 or 3, side, side), y (n,)) of one of KINDS.

    Gratings have three to ten classes, polygons at most six, the others at most five.
    """
    kind = kind or pick(rng, KINDS)
    classes = int(rng.integers(3, {"gratings": 11, "polygons": 7}.get(kind, 6)))
    y = rng.integers(0, classes, n)
    draw = {"gratings": _gratings, "blobs": _blobs, "cells": _cells, "polygons": _polygons}[kind]
    return kind, coloured(rng, draw(rng, y, classes, side), 3 if rng.random() < 0.4 else 1), y


def coloured(rng: np.random.Generator, grey: np.ndarray, channels: int) -> np.ndarray:
    """Images (n, channels, side, side) of grey ones (n, side, side): tinted, with other contrast, and noise."""
    shape = (len(grey), channels, 1, 1)
    x = grey[:, None] * rng.uniform(0.5, 1.5, shape).astype(np.float32)
    x = x + rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    x += np.float32(rng.uniform(0.15, 0.8) * grey.std()) * rng.standard_normal(x.shape, dtype=np.float32)
    return ((x - x.mean()) / x.std()).astype(np.float32)
