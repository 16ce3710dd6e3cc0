"""Selection recipes on images, sequences and tables: MNIST-1D, help texts, `selection_data.py`; one task each.

Optimizer, decay, clipping, smoothing, dropout, augmentation and default rate follow the source in a recipe's docstring.
The sizes are small ones of its kind.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SGD, SPARE, WARM, examples, next_tokens, recipe, shifted
from pipeline.workloads.building.sampling import Splits, corrupt, draw_seed, pick
from pipeline.workloads.building.training_losses import Smoothed
from pipeline.workloads.datasets import packaged, text
from pipeline.workloads.networks.deep_convnets import Autoencoder, PlainNet, ResidualNet, UNet
from pipeline.workloads.networks.deep_networks import DeepRecurrent, LanguageModel, TabularNet, VisionTransformer
from pipeline.workloads.selection import data as made


def _solids(rng: np.random.Generator, n_train: int, side: int, noise: float) -> Splits:
    x, kind, _ = made.solids(rng, n_train + SPARE, side, noise)
    return examples(rng, x, kind, n_train)


def mnist1d_residual(rng: np.random.Generator) -> Workload:
    """A residual network with batch norm as torchvision trains it: SGD with Nesterov momentum, decay 1e-4; shifts."""
    x, y = packaged.mnist1d()
    build = partial(ResidualNet, (1, 40), (12, 16, 24), 1, 10, stem=2)
    return recipe(
        "mnist1d_residual", "mnist1d-residual-batch", examples(rng, x[:, None], y, 1664), build, "sgd", 32, 12,
        weight_decay=1e-4, nesterov=True, augment=shifted, textbook=SGD,
    )  # fmt: skip


def solids_residual(rng: np.random.Generator) -> Workload:
    """timm's AdamW recipes (arXiv:2110.00476): decay .05, label smoothing; group norm."""
    build = partial(ResidualNet, (1, 8, 8), (16, 32), 1, made.N_SOLIDS, "group", pick(rng, ("relu", "silu")), stem=2)
    return recipe(
        "solids_residual", "solids-residual-group", _solids(rng, 6000, 8, 0.03), build, "adamw", 32, 4,
        weight_decay=0.05, train_loss=Smoothed(0.1), textbook=ADAM,
    )  # fmt: skip


def solids_plain(rng: np.random.Generator) -> Workload:
    """VGG with batch norm and dropout by SGD with momentum, decay 5e-4; a sixth of many labels wrong."""
    build = partial(
        PlainNet, (1, 8, 8), (12, 32), 1, made.N_SOLIDS, "batch", pick(rng, ("relu", "silu")), drop=0.2, hidden=64
    )
    splits = corrupt(rng, _solids(rng, 12_000, 8, 0.03), 1 / 6, made.N_SOLIDS)
    return recipe(
        "solids_plain", "solids-plain-noisy-labels", splits, build, "sgd", 64, 4, weight_decay=5e-4, textbook=SGD
    )


def automata_plain(rng: np.random.Generator) -> Workload:
    """Keras' conv nets without normalisation: Adam; dropout before the head."""
    build = partial(PlainNet, (1, 8, 8), (12, 24), 2, 8, "none", drop=pick(rng, (0.1, 0.2)))
    splits = examples(rng, *made.automata(rng, 8000 + SPARE, 8, 8, 0.08), 8000)
    return recipe("automata_plain", "automata-plain-dropout", splits, build, "adam", 32, 4, textbook=ADAM)


def solids_wide(rng: np.random.Generator) -> Workload:
    """Keras' mnist_mlp: two wide layers with dropout .2, Adam, many epochs; a tenth of the labels wrong."""
    x, kind, _ = made.solids(rng, 4000 + SPARE, 8, 0.03)
    build = partial(
        TabularNet, (), 64, (256, 256), made.N_SOLIDS, norm=False, drop=0.2, activation=pick(rng, ("relu", "gelu"))
    )
    splits = corrupt(rng, examples(rng, x.reshape(len(x), 64), kind, 4000), 0.1, made.N_SOLIDS)
    return recipe("solids_wide", "solids-wide-noisy-labels", splits, build, "adam", 64, 16, textbook=ADAM)


def solids_vit(rng: np.random.Generator) -> Workload:
    """Keras' vision transformer for small images: AdamW 1e-3, decay 1e-4, dropout .1; warm-up and clipping."""
    build = partial(VisionTransformer, (1, 9, 9), 3, 24, 2, pick(rng, (2, 3)), made.N_SOLIDS, 0.1, hidden=2)
    return recipe(
        "solids_vit", "solids-vit", _solids(rng, 5000, 9, 0.05), build, "adamw", 32, 6,
        weight_decay=1e-4, clip=1.0, textbook=WARM,
    )  # fmt: skip


def prose_gpt(rng: np.random.Generator) -> Workload:
    """nanoGPT's small character model on the help texts, two passes: AdamW (.9, .99), decay .1, clipping, warm-up."""
    windows = np.concatenate([text.windows(text.characters(name), 13) for name in text.TOPICS])
    build = partial(LanguageModel, text.N_CHARACTERS, 12, 24, 2, pick(rng, (2, 3)), 0.1, hidden=2)
    return recipe(
        "prose_gpt", "prose-gpt", next_tokens(rng, windows, 16_000), build, "adamw", 32, 2,
        betas=(0.9, 0.99), weight_decay=0.1, clip=1.0, textbook=WARM,
    )  # fmt: skip


def commands_gpt(rng: np.random.Generator) -> Workload:
    """A language model trained in one pass, as large ones are: AdamW (.9, .95), decay .1, clipping, warm-up."""
    x, _ = made.commands(rng, np.random.default_rng(draw_seed(rng)), 34_000)
    build = partial(LanguageModel, made.N_COMMAND, made.COMMAND_LENGTH - 1, 24, 2, pick(rng, (2, 3)), hidden=2)
    return recipe(
        "commands_gpt", "commands-gpt-one-pass", next_tokens(rng, x, 19_200), build, "adamw", 32, 1,
        betas=(0.9, 0.95), weight_decay=0.1, clip=1.0, textbook=WARM,
    )  # fmt: skip


def commands_lstm(rng: np.random.Generator) -> Workload:
    """Intents by a recurrent network with dropout: Adam, clipping."""
    x, y = made.commands(rng, np.random.default_rng(draw_seed(rng)), 10_000)
    cell = pick(rng, ("lstm", "gru"))
    build = partial(DeepRecurrent, cell, 24, 1, made.N_INTENTS, vocabulary=made.N_COMMAND, last=True, drop=0.3)
    backwards = x[:, ::-1].copy()  # so that the zeros that fill up come first
    return recipe(
        "commands_lstm", "commands-recurrent-dropout", examples(rng, backwards, y, 5000), build, "adam", 64, 10,
        clip=1.0, textbook=ADAM,
    )  # fmt: skip


def attractors_gru(rng: np.random.Generator) -> Workload:
    """Forecasts of a noisy chaotic system by a GRU with dropout: Adam, clipping."""
    x = made.attractors(rng, 5000 + SPARE, 13, 0.1)
    build = partial(DeepRecurrent, pick(rng, ("gru", "lstm")), 32, 1, 3, n_in=3, drop=0.1)
    splits = examples(rng, x[:, :-1].copy(), x[:, 1:].copy(), 5000)
    return recipe("attractors_gru", "attractors-recurrent", splits, build, "adam", 64, 10, clip=1.0, textbook=ADAM)


def ratings_table(rng: np.random.Generator) -> Workload:
    """fast.ai's tabular model, for noisy ratings: embeddings, batch norm, dropout; AdamW."""
    x, y = made.ratings(rng, 15_000 + SPARE, 0.7)
    build = partial(TabularNet, made.RATING_SIZES, 3, pick(rng, ((128, 64), (192, 96))), 1, drop=0.1)
    splits = examples(rng, x, y, 15_000)
    return recipe("ratings_table", "ratings-table", splits, build, "adamw", 64, 5, weight_decay=0.01, textbook=ADAM)


def solids_autoencoder(rng: np.random.Generator) -> Workload:
    """A convolutional autoencoder with batch norm: Adam."""
    x, _, _ = made.solids(rng, 5000 + SPARE, 8, 0.1)
    build = partial(Autoencoder, (1, 8, 8), (8, 24), pick(rng, (8, 12)), "batch")
    splits = examples(rng, x, np.moveaxis(x, 1, -1).copy(), 5000)
    return recipe("solids_autoencoder", "solids-autoencoder", splits, build, "adam", 32, 5, textbook=ADAM)


def solids_unet(rng: np.random.Generator) -> Workload:
    """A U-Net that separates solids from their ground: batch norm, AdamW."""
    x, _, mask = made.solids(rng, 5000 + SPARE, 8, 0.4)
    build = partial(UNet, (1, 8, 8), (8, 12, 16), 2, drop=pick(rng, (0.0, 0.1)))
    return recipe(
        "solids_unet", "solids-unet-batch", examples(rng, x, mask, 5000), build, "adamw", 32, 4,
        weight_decay=0.01, textbook=ADAM,
    )  # fmt: skip


FAMILIES = (
    Family("mnist1d_residual", "selection", mnist1d_residual, "ordinary", "MNIST-1D residual net batch norm", frozen=1),
    Family("solids_residual", "selection", solids_residual, "ordinary", "solids residual net group norm", frozen=1),
    Family("solids_plain", "selection", solids_plain, "ordinary", "solids conv net noisy labels", frozen=1),
    Family("automata_plain", "selection", automata_plain, "ordinary", "automata conv net dropout", frozen=1),
    Family("solids_wide", "selection", solids_wide, "ordinary", "solids wide MLP noisy labels", frozen=1),
    Family("solids_vit", "selection", solids_vit, "ordinary", "solids vision transformer", frozen=1),
    Family("prose_gpt", "selection", prose_gpt, "ordinary", "prose language model", frozen=1, packages=text.PYTHON),
    Family("commands_gpt", "selection", commands_gpt, "ordinary", "commands language model one pass", frozen=1),
    Family("commands_lstm", "selection", commands_lstm, "ordinary", "LSTM commands recurrent dropout", frozen=1),
    Family("attractors_gru", "selection", attractors_gru, "ordinary", "GRU attractors recurrent", frozen=1),
    Family("ratings_table", "selection", ratings_table, "ordinary", "ratings table", frozen=1),
    Family("solids_autoencoder", "selection", solids_autoencoder, "ordinary", "solids autoencoder", frozen=1),
    Family("solids_unet", "selection", solids_unet, "ordinary", "solids U-Net batch norm", frozen=1),
)
