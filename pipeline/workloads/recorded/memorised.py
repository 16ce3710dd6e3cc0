"""Families with few examples and networks without dropout or batch norm, which learn them by heart.

Once the training loss is low, the validation loss rises far above its lowest value. So the best rates are low, or the
training has to stop in time.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.recipes import assemble, choose, draw_sizes
from pipeline.workloads.building.sampling import Build, Label, corrupt, log_integer, log_uniform, pick, split
from pipeline.workloads.datasets import text
from pipeline.workloads.datasets.windows import snippets
from pipeline.workloads.networks.perceptrons import AveragedWords, Perceptron
from pipeline.workloads.networks.small import ACTIVATIONS
from pipeline.workloads.recorded.synthetic import draw_signals

HELD_BACK = 512  # validation and test examples together
NORMS = {"none": 0.8, "layer": 0.2}


def _perceptron(rng: np.random.Generator, n_in: int, n_out: int, widths: tuple[int, int]) -> tuple[Label, Build]:
    """(label, build) of an MLP of one to three hidden layers."""
    depth, width, activation = int(rng.integers(1, 4)), log_integer(rng, *widths), pick(rng, tuple(ACTIVATIONS))
    norm, residual, gain = choose(rng, NORMS), bool(rng.random() < 0.25), log_uniform(rng, 0.8, 2.0)
    build = partial(Perceptron, (n_in, *(width,) * depth, n_out), activation, gain, norm, residual)
    normed = norm == "layer"
    name = f"mlp{depth}x{width}-{activation}{'-layernorm' * normed}"
    return Label(name, f"MLP {depth}×{width}{' layer norm' * normed}"), build


def memorised_classes(rng: np.random.Generator) -> Workload:
    """60-600 examples of classes that are hard to tell apart, up to 35 % of them with a wrong label."""
    sizes, classes = draw_sizes(rng, "small_noisy", (60, 600)), int(rng.integers(3, 11))
    n, kind = sizes.n_train + HELD_BACK, pick(rng, ("signals", "columns"))
    if kind == "signals":
        x, y = draw_signals(rng, n, classes, int(rng.integers(24, 65)))
    else:
        n_in = int(rng.integers(8, 65))
        x = rng.standard_normal((n, n_in), dtype=np.float32)
        scores = x @ rng.normal(0, 1 / math.sqrt(n_in), (n_in, classes))
        y = (scores + rng.uniform(0.2, 1.2) * rng.standard_normal(scores.shape)).argmax(1)
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), rng.uniform(0, 0.35), classes)
    label, build = _perceptron(rng, x.shape[1], classes, (48, 256))
    label = label.of(f"{kind}{classes}")
    return assemble(rng, "memorised_classes", "small_noisy", "mlp", label, splits, build, sizes)


def memorised_numbers(rng: np.random.Generator) -> Workload:
    """60-600 rows whose columns explain 20 to 70 % of the target, all linearly or by a few waves as well."""
    sizes, n_in = draw_sizes(rng, "small_noisy", (60, 600)), int(rng.integers(4, 17))
    x = rng.standard_normal((sizes.n_train + HELD_BACK, n_in)) @ rng.normal(0, 1, (n_in, n_in))
    x = (x - x.mean(0)) / x.std(0)
    y = x @ rng.standard_normal(n_in) + pick(rng, (0.0, 1.0)) * np.sin(x @ rng.standard_normal((n_in, 4))).sum(1)
    explained = rng.uniform(0.2, 0.7)
    y = explained**0.5 * (y - y.mean()) / y.std() + (1 - explained) ** 0.5 * rng.standard_normal(len(y))
    label, build = _perceptron(rng, n_in, 1, (16, 160))
    splits = split(rng, x.astype(np.float32), y[:, None].astype(np.float32), sizes.n_train)
    return assemble(rng, "memorised_numbers", "small_noisy", "mlp", label.of(f"numbers{n_in}"), splits, build, sizes)


def memorised_words(rng: np.random.Generator) -> Workload:
    """Which Python package 200-2000 snippets come from, by averaged word vectors with at most one hidden layer."""
    count, vocabulary, length = int(rng.integers(4, 17)), pick(rng, (512, 1024, 2048)), int(rng.integers(16, 33))
    sizes = draw_sizes(rng, "small_noisy", (200, 2000))
    splits = split(rng, *snippets(rng, text.PACKAGES, count, vocabulary, length), sizes.n_train)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.2)), count)
    d, scale, hidden = pick(rng, (16, 24, 32)), log_uniform(rng, 0.05, 1), (log_integer(rng, 16, 64),)
    hidden = hidden * int(rng.integers(0, 2))
    build = partial(AveragedWords, vocabulary, d, hidden, count, scale, "none", 0.0)
    label = Label(f"bag{vocabulary}x{d}x{len(hidden)}", f"bag {vocabulary}×{d}×{len(hidden)}")
    label = label.of(f"package{count}")
    return assemble(rng, "memorised_words", "small_noisy", "bag", label, splits, build, sizes)


FAMILIES = (
    Family("memorised_classes", "train", memorised_classes, "small_noisy", "memorised classes"),
    Family("memorised_numbers", "train", memorised_numbers, "small_noisy", "memorised"),
    Family("memorised_words", "train", memorised_words, "small_noisy", "memorised words"),
)
