"""Held-out fine-tuning and odd trainings: pretrained encoders and convolutional nets; bad scales; one task each."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
from torch import Tensor

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SGD, SPARE, classes_start, examples, masked_start, recipe, scale
from pipeline.workloads.building.reinitialised import Reinitialised
from pipeline.workloads.building.sampling import cross_entropy, draw_seed, pick
from pipeline.workloads.building.training_losses import Summed
from pipeline.workloads.datasets import packaged
from pipeline.workloads.heldout import data as made
from pipeline.workloads.networks.deep_convnets import ResidualNet
from pipeline.workloads.networks.deep_networks import Encoder
from pipeline.workloads.networks.small import MLP

LETTERS = 10


@functools.lru_cache(maxsize=2)
def _read(seed: int, d: int, blocks: int) -> dict[str, Tensor]:
    """An encoder that has learned to name masked words of reports."""
    rng = np.random.default_rng(seed)
    texts, _ = made.reports(rng, np.random.default_rng(seed), 16_000)
    return masked_start(rng, partial(_encoder, d, blocks), texts, made.N_REPORT, 500)


def _encoder(d: int, blocks: int, n_out: int | None = None) -> Encoder:
    return Encoder(made.N_REPORT + 1, made.REPORT_LENGTH, d, blocks, 2, 0.1, n_out, hidden=2)


def reports_encoder(rng: np.random.Generator) -> Workload:
    """Hugging Face's run_glue: AdamW at 5e-5, falling linearly, three epochs, clipping."""
    seed, blocks = draw_seed(rng), 2
    x, y = made.reports(rng, np.random.default_rng(seed), 10_000)
    splits = examples(rng, x, y, 6000)
    return recipe(
        "reports_encoder", "reports-encoder", splits, partial(_encoder, 24, blocks, 3), "adamw", 32, 3,
        weight_decay=0.01, clip=1.0, textbook=("linear", 5e-5), start=_read(seed, 24, blocks),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _written(seed: int, letters: int) -> dict[str, Tensor]:
    """A residual network that tells the letters of another alphabet."""
    rng = np.random.default_rng(seed)
    x, y = made.strokes(rng, made.alphabet(rng, letters), 16_000, 8, 0.1)
    return classes_start(rng, partial(ResidualNet, (1, 8, 8), (8, 16, 24), 1, letters), x, y, 1000)


def strokes_transfer(rng: np.random.Generator) -> Workload:
    """A residual network goes on to a new alphabet as in "Big Transfer" (arXiv:1912.11370): SGD at a low rate."""
    seed, letters = draw_seed(rng), made.alphabet(rng, LETTERS)
    splits = examples(rng, *made.strokes(rng, letters, 1600 + SPARE, 8, 0.1), 1600)
    build = partial(ResidualNet, (1, 8, 8), (8, 16, 24), 1, LETTERS)
    return recipe(
        "strokes_transfer", "strokes-transfer-residual", splits, build, "sgd", 32, 8,
        textbook=("cosine", 3e-3), start=_written(seed, 40),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _drawn(seed: int, channels: int) -> dict[str, Tensor]:
    """A residual network that tells letters of 14 x 14 pixels."""
    rng = np.random.default_rng(seed)
    x, y = made.strokes(rng, made.alphabet(rng, 40), 16_000, 14, 0.1)
    build = partial(ResidualNet, (1, 14, 14), (channels, 2 * channels), 1, 40, "group", stem=2)
    return classes_start(rng, build, x, y, 1000)


def mnist_transfer(rng: np.random.Generator) -> Workload:
    """A network pretrained on letters learns MNIST's digits, all layers, by AdamW at 3e-4 as for fine-tuning in
    timm.
    """
    seed, channels = draw_seed(rng), pick(rng, (10, 12))
    x, y = packaged.mnist()
    splits = examples(rng, (x[:, None] - np.float32(0.35)) / np.float32(0.35), y, 1280)
    build = partial(ResidualNet, (1, 14, 14), (channels, 2 * channels), 1, 10, "group", stem=2)
    return recipe(
        "mnist_transfer", "mnist-transfer-residual", splits, build, "adamw", 32, 8,
        weight_decay=0.05, textbook=("cosine", 3e-4), start=_drawn(seed, channels),
    )  # fmt: skip


def bodies_raw(rng: np.random.Generator) -> Workload:
    """Columns in their own units, over three decades, not standardised."""
    x, y = made.bodies(rng, 6000 + SPARE, 0.3)
    x = x * scale(rng, x.shape[1], 3)
    build = partial(MLP, (20, 64, 64, 8), pick(rng, ("relu", "silu")))
    return recipe("bodies_raw", "bodies-raw-columns", examples(rng, x, y, 6000), build, "adam", 64, 8, textbook=ADAM)


def strings_summed(rng: np.random.Generator) -> Workload:
    """A loss summed over the batch, under SGD with momentum."""
    x, y = made.strings(rng, 5000 + SPARE, 10, 0.9)
    build = partial(MLP, (40, 64, 64, 10), pick(rng, ("relu", "tanh")))
    return recipe(
        "strings_summed", "strings-summed-loss", examples(rng, x[:, 0].copy(), y, 5000), build, "sgd", 32, 5,
        train_loss=Summed(cross_entropy), textbook=SGD,
    )  # fmt: skip


def mnist_loud(rng: np.random.Generator) -> Workload:
    """All weights start about twice too large, in every layer."""
    x, y = packaged.mnist()
    build = Reinitialised(partial(MLP, (196, 64, 64, 10), "relu"), pick(rng, (1.7, 2.2)))
    splits = examples(rng, (x.reshape(-1, 196) - np.float32(0.13)) / np.float32(0.28), y, 2688)
    return recipe("mnist_loud", "mnist-large-weights", splits, build, "adam", 32, 8, textbook=ADAM)


def strokes_uneven(rng: np.random.Generator) -> Workload:
    """A deep MLP whose matrices start too small, each by a factor of its own."""
    build = Reinitialised(partial(MLP, (64, *(48,) * 4, LETTERS), pick(rng, ("relu", "silu"))), 0.5, draw_seed(rng))
    x, y = made.strokes(rng, made.alphabet(rng, LETTERS), 5000 + SPARE, 8, 0.1)
    splits = examples(rng, x.reshape(len(x), -1), y, 5000)
    return recipe("strokes_uneven", "strokes-uneven-weights", splits, build, "adam", 32, 5, textbook=ADAM)


FAMILIES = (
    Family("reports_encoder", "heldout", reports_encoder, "finetuning", "reports encoder", frozen=1),
    Family("strokes_transfer", "heldout", strokes_transfer, "finetuning", "strokes transfer residual net", frozen=1),
    Family("mnist_transfer", "heldout", mnist_transfer, "finetuning", "MNIST transfer residual net", frozen=1),
    Family("bodies_raw", "heldout", bodies_raw, "odd", "bodies raw columns", frozen=1),
    Family("strings_summed", "heldout", strings_summed, "odd", "strings summed loss", frozen=1),
    Family("mnist_loud", "heldout", mnist_loud, "odd", "loud MNIST large weights", frozen=1),
    Family("strokes_uneven", "heldout", strokes_uneven, "odd", "strokes uneven weights", frozen=1),
)
