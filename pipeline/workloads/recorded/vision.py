"""Families on images and signals, with enough data that the training loss decides."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.architectures import draw_convnet, draw_perceptron
from pipeline.workloads.building.augmentation import moved
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import corrupt, log_uniform, pick, split
from pipeline.workloads.datasets import packaged


def digits_mlp(rng: np.random.Generator) -> Workload:
    """scikit-learn digits, MLP."""
    x, y = packaged.digits()
    scale = np.float32(log_uniform(rng, 0.3, 5))
    sizes = draw_sizes(rng, "small_noisy", (200, 1285))
    splits = split(rng, x.reshape(-1, 64) * scale, y, sizes.n_train)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.0, 0.2)), 10)
    label, build = draw_perceptron(rng, 64, 10, sizes.batch_size)
    return recipes.assemble(rng, "digits_mlp", "small_noisy", "mlp", label.of("digits"), splits, build, sizes)


def _halved(tiles: np.ndarray) -> np.ndarray:
    """Tiles (n, channels, h, w) at half their resolution."""
    n, channels, h, w = tiles.shape
    return tiles.reshape(n, channels, h // 2, 2, w // 2, 2).mean((3, 5))


def photos_cnn(rng: np.random.Generator) -> Workload:
    """Which photograph a grey tile was cut from, sometimes without its brightness."""
    photos = rng.choice(packaged.PHOTOS, size=int(rng.integers(11, len(packaged.PHOTOS) + 1)), replace=False)
    tiles = [_halved(packaged.photo_tiles(str(photo), False)) for photo in photos]
    x, y = np.concatenate(tiles), np.repeat(np.arange(len(tiles)), [len(t) for t in tiles])
    if rng.random() < 0.5:
        x = x - x.mean((2, 3), keepdims=True)
    x = (x - x.mean()) / x.std()
    sizes = draw_sizes(rng, "ordinary", (1500, 2000), deep=True)
    splits = split(rng, x, y, sizes.n_train, n_val=192, n_test=192)
    label, build = draw_convnet(rng, x.shape[1:], len(tiles))
    augment = moved if rng.random() < 0.3 else None
    label = label.of(f"photos{len(tiles)}").marked("moved" * (augment is not None))
    return recipes.assemble(rng, "photos_cnn", "ordinary", "conv", label, splits, build, sizes, augment=augment)


def photo_places(rng: np.random.Generator) -> Workload:
    """The colour or brightness of a place in a photograph, from few or many of its pixels."""
    photo = packaged.small_photo(pick(rng, packaged.PHOTOS))
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in photo.shape[:2]), indexing="ij")
    x = np.stack([rows.ravel(), columns.ravel()], axis=1) * log_uniform(rng, 1, 8)
    y = photo.reshape(-1, photo.shape[2])
    y = (y - y.mean(0)) / (y.std(0) + 1e-8)
    sizes = draw_sizes(rng, "ordinary", (1500, 8000))
    splits = split(rng, x.astype(np.float32), y.astype(np.float32), sizes.n_train)
    label, build = draw_perceptron(rng, 2, y.shape[1], sizes.batch_size, (2, 4), (32, 128), dropped=0.1)
    return recipes.assemble(rng, "photo_places", "ordinary", "mlp", label.of("places"), splits, build, sizes)


FAMILIES = (
    Family("digits_mlp", "train", digits_mlp, "small_noisy"),
    Family("photos_cnn", "train", photos_cnn, "ordinary"),
    Family("photo_places", "train", photo_places, "ordinary", "photo"),
)
