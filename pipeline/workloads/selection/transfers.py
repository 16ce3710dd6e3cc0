"""Selection's fine-tuning and odd trainings: pretrained nets; bad scales; one task each."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
from torch import Tensor

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SGD, SPARE, classes_start, examples, masked_start, recipe, scale
from pipeline.workloads.building.reinitialised import Reinitialised
from pipeline.workloads.building.sampling import draw_seed, mean_squared_error, pick
from pipeline.workloads.building.training_losses import Summed
from pipeline.workloads.networks.deep_convnets import PlainNet
from pipeline.workloads.networks.deep_networks import Encoder, TabularNet
from pipeline.workloads.networks.small import MLP
from pipeline.workloads.selection import data as made


def _encoder(blocks: int, n_out: int | None = None) -> Encoder:
    return Encoder(made.N_COMMAND + 1, made.COMMAND_LENGTH, 24, blocks, 2, 0.1, n_out, hidden=2)


@functools.lru_cache(maxsize=2)
def _read(seed: int, blocks: int) -> dict[str, Tensor]:
    """An encoder that has learned to name masked words of commands."""
    rng = np.random.default_rng(seed)
    texts, _ = made.commands(rng, np.random.default_rng(seed), 16_000)
    return masked_start(rng, partial(_encoder, blocks), texts, made.N_COMMAND, 500)


def commands_encoder(rng: np.random.Generator) -> Workload:
    """A post-norm encoder is fine-tuned as the BERT paper does (arXiv:1810.04805): AdamW at 5e-5, warm-up, clipping."""
    seed, blocks = draw_seed(rng), 2
    x, y = made.commands(rng, np.random.default_rng(seed), 9000)
    return recipe(
        "commands_encoder", "commands-encoder", examples(rng, x, y, 3200), partial(_encoder, blocks, made.N_INTENTS),
        "adamw", 32, 4, weight_decay=0.01, clip=1.0, textbook=("warmup_cosine", 5e-5), start=_read(seed, blocks),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _watched(seed: int, channels: int) -> dict[str, Tensor]:
    """A plain network that tells automata of other rules."""
    rng = np.random.default_rng(seed)
    x, y = made.automata(rng, 12_000, 8, 10, 0.08)
    return classes_start(rng, partial(PlainNet, (1, 8, 8), (channels, 2 * channels), 1, 10), x, y, 1000)


def automata_transfer(rng: np.random.Generator) -> Workload:
    """Keras' guide to transfer learning: Adam, a low rate, all layers; batch norm, other rules than before."""
    seed, channels = draw_seed(rng), pick(rng, (12, 16))
    splits = examples(rng, *made.automata(rng, 1600 + SPARE, 8, 6, 0.08), 1600)
    build = partial(PlainNet, (1, 8, 8), (channels, 2 * channels), 1, 6)
    return recipe(
        "automata_transfer", "automata-transfer-plain", splits, build, "adam", 32, 8,
        textbook=("cosine", 3e-4), start=_watched(seed, channels),
    )  # fmt: skip


def attractors_raw(rng: np.random.Generator) -> Workload:
    """The next state from the last four, every column in a unit of its own, over three decades."""
    x = made.attractors(rng, 6000 + SPARE, 5, 0.05)
    inputs = x[:, :4].reshape(len(x), 12) * scale(rng, 12, 3)
    return recipe(
        "attractors_raw", "attractors-raw-columns", examples(rng, inputs, x[:, 4].copy(), 6000),
        partial(MLP, (12, 64, 64, 3), pick(rng, ("relu", "tanh"))), "adam", 64, 8, textbook=ADAM,
    )  # fmt: skip


def ratings_summed(rng: np.random.Generator) -> Workload:
    """A squared error summed over the batch, under SGD with momentum."""
    x, y = made.ratings(rng, 10_000 + SPARE, 0.5)
    build = partial(TabularNet, made.RATING_SIZES, 3, pick(rng, ((64, 32), (96, 48))), 1)
    return recipe(
        "ratings_summed", "ratings-summed-loss", examples(rng, x, y, 10_000), build, "sgd", 64, 5,
        train_loss=Summed(mean_squared_error), textbook=SGD,
    )  # fmt: skip


def solids_uneven(rng: np.random.Generator) -> Workload:
    """Matrices start at scales of their own, too large on average."""
    x, kind, _ = made.solids(rng, 6000 + SPARE, 8, 0.05)
    build = Reinitialised(partial(MLP, (64, 64, 64, 8), pick(rng, ("relu", "tanh"))), 2.0, draw_seed(rng))
    splits = examples(rng, x.reshape(len(x), 64), kind, 6000)
    return recipe("solids_uneven", "solids-uneven-weights", splits, build, "adam", 32, 4, textbook=ADAM)


FAMILIES = (
    Family("commands_encoder", "selection", commands_encoder, "finetuning", "commands encoder", frozen=1),
    Family("automata_transfer", "selection", automata_transfer, "finetuning", "automata transfer conv net", frozen=1),
    Family("attractors_raw", "selection", attractors_raw, "odd", "attractors raw columns", frozen=1),
    Family("ratings_summed", "selection", ratings_summed, "odd", "ratings summed loss", frozen=1),
    Family("solids_uneven", "selection", solids_uneven, "odd", "solids uneven weights", frozen=1),
)
