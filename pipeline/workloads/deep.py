"""Families of deeper networks: text classifiers of attention, plain and residual convolutions, plain deep MLPs.

Above a narrow band of rates they fall to a constant output, at which the loss stays where it is: bounded, and lost.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads import data, text
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.finetune import pretrain
from pipeline.workloads.models import DeepConvNet, Encoder
from pipeline.workloads.sampling import (
    Build,
    assemble,
    corrupt,
    draw_budget,
    log_integer,
    log_uniform,
    pick,
    random_mlp,
    split,
)
from pipeline.workloads.synthetic import draw_signals

BATCH = (4, 8)
SIZES = ((16, 1), (16, 2), (16, 3), (24, 1), (24, 2))  # of an encoder: width, blocks


def _random_encoder(rng: np.random.Generator, vocabulary: int, length: int, n_out: int) -> tuple[str, Build]:
    (d, blocks), post = pick(rng, SIZES), bool(rng.random() < 0.6)
    build = partial(Encoder, vocabulary, length, n_out, d, blocks, pick(rng, (2, 4)), post)
    return f"{'post' if post else 'pre'}-norm-{blocks}x{d}", build


def _snippets(rng: np.random.Generator, count: int, vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs of consecutive words of `count` files of packages: x (n, length), y the file."""
    drawn = rng.choice(text.PACKAGES, count, replace=False)
    parts = [text.windows(text.words(str(name), vocabulary), length) for name in drawn]
    return np.concatenate(parts), np.repeat(np.arange(count), [len(part) for part in parts])


def _order(rng: np.random.Generator, n: int, vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of two words stands before the other, or whether one of them lacks: nothing that a bag of words tells."""
    x = rng.integers(3, vocabulary, (n, length))
    first, second = np.sort(rng.permuted(np.tile(np.arange(length), (n, 1)), axis=1)[:, :2], axis=1).T
    y, rows = rng.integers(0, 3, n), np.arange(n)
    x[rows, first] = np.where(y == 0, 1, 2)
    x[rows, second] = np.where(y == 0, 2, 1)
    lacks = y == 2
    x[rows[lacks], first[lacks]] = 3
    return x, y


def package_encoder(rng: np.random.Generator) -> Workload:
    """Which file some words come from, or how two of them are ordered, by a transformer."""
    kind, length, vocabulary = pick(rng, ("package", "order"), (0.7, 0.3)), int(rng.integers(10, 17)), 512
    count, n_train = int(rng.integers(2, 13)), log_integer(rng, 200, 3000)
    if kind == "package":
        x, y = _snippets(rng, count, vocabulary, length)
    else:
        count, vocabulary = 3, int(rng.integers(8, 65))
        x, y = _order(rng, n_train + 512, vocabulary, length)
        x, first = np.unique(x, axis=0, return_index=True)
        y = y[first]
    splits = corrupt(rng, split(rng, x, y, n_train), pick(rng, (0.0, 0.0, 0.15)), count)
    budget = draw_budget(rng, len(splits.train), BATCH)
    label, build = _random_encoder(rng, vocabulary, length, count)
    return assemble(rng, "package_encoder", f"{kind}{count}-{label}", splits, build, budget)


def finetune_encoder(rng: np.random.Generator) -> Workload:
    """A transformer that tells files of packages apart, on 60-800 snippets of other files."""
    length, count, vocabulary = int(rng.integers(10, 17)), int(rng.integers(2, 11)), 512
    x, y = _snippets(rng, 2 * count, vocabulary, length)
    old = y < count
    splits = split(rng, x[~old], y[~old] - count, log_integer(rng, 60, 800))
    budget = draw_budget(rng, len(splits.train), BATCH)
    label, build = _random_encoder(rng, vocabulary, length, count)
    start = pretrain(rng, build, x[old], y[old], log_integer(rng, 200, 800))
    if rng.random() < 0.5:  # a new head, as for another task
        start = {name: value for name, value in start.items() if not name.startswith("head")}
    return assemble(rng, "finetune_encoder", f"package{count}-{label}", splits, build, budget, start=start)


def _images(rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
    """Digits, or tiles of some photographs at half their resolution: x (n, 1, 8, 8), y."""
    if rng.random() < 0.4:
        x, y = data.digits()
        return "digits", x[:, None] - np.float32(0.5), y
    photos = rng.choice(data.PHOTOS, int(rng.integers(3, 9)), replace=False)
    tiles = [data.photo_tiles(str(photo), False) for photo in photos]
    x = np.concatenate(tiles).reshape(-1, 1, 8, 2, 8, 2).mean((3, 5))
    y = np.repeat(np.arange(len(tiles)), [len(t) for t in tiles])
    return "tiles", (x - x.mean()) / x.std(), y


def deep_cnn(rng: np.random.Generator) -> Workload:
    """Small images by four to six convolutions, as VGG stacks them or as ResNet does."""
    kind, x, y = _images(rng)
    splits = corrupt(rng, split(rng, x, y, log_integer(rng, 200, 1200)), pick(rng, (0.0, 0.0, 0.15)), int(y.max()) + 1)
    budget = draw_budget(rng, len(splits.train), (8, 12))
    plain, width, (stages, layers) = bool(rng.random() < 0.6), int(rng.integers(4, 9)), pick(rng, ((2, 2), (2, 3)))
    build = partial(DeepConvNet, 8, 1, width, stages, layers, int(y.max()) + 1, plain)
    label = f"{'vgg' if plain else 'resnet'}{stages}x{layers}x{width}"
    return assemble(rng, "deep_cnn", f"{kind}-{label}", splits, build, budget)


def deep_mlp(rng: np.random.Generator) -> Workload:
    """Digits, tiles or signals by five to ten layers, most of them without normalisation or residual connections."""
    if rng.random() < 0.5:
        kind, x, y = _images(rng)
    else:
        kind, (x, y) = "signals", draw_signals(rng, 2500, int(rng.integers(3, 13)), int(rng.integers(24, 49)))
    x, n_out = x.reshape(len(x), -1) * np.float32(log_uniform(rng, 0.3, 3)), int(y.max()) + 1
    splits = split(rng, x, y, log_integer(rng, 200, 2000))
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.15)), n_out)
    budget = draw_budget(rng, len(splits.train), (8, 32))
    label, build = random_mlp(
        rng, x.shape[1], n_out, budget.batch_size, depths=(5, 10), widths=(12, 64), gains=(1.1, 1.6)
    )
    return assemble(rng, "deep_mlp", f"{kind}-mlp-{label}", splits, build, budget)


FAMILIES = (
    Family("package_encoder", "train", package_encoder),
    Family("finetune_encoder", "train", finetune_encoder),
    Family("deep_cnn", "train", deep_cnn),
    Family("deep_mlp", "train", deep_mlp),
)
