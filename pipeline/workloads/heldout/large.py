"""Held-out large trainings: a third to three million weights, on the data of its other tasks; one task each.

They run for 300 to 600 steps of small batches, which two cores can afford. Their networks are of today's kinds.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
from torch import Tensor

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import (
    ADAM,
    SGD,
    SPARE,
    WARM,
    classes_start,
    examples,
    masked_start,
    next_tokens,
    recipe,
)
from pipeline.workloads.building.library_starts import Started
from pipeline.workloads.building.sampling import Splits, draw_seed
from pipeline.workloads.building.training_losses import Smoothed
from pipeline.workloads.datasets import text
from pipeline.workloads.heldout import data as made
from pipeline.workloads.networks.deep_convnets import ResidualNet, UNet
from pipeline.workloads.networks.deep_networks import Encoder, TabularNet
from pipeline.workloads.networks.modern import BothWays, ConvNext, Llama, SeriesTransformer, TokenVit

SPLIT, LETTERS = "heldout_large", 24


def _strokes(rng: np.random.Generator, n_train: int, side: int, noise: float) -> Splits:
    return examples(rng, *made.strokes(rng, made.alphabet(rng, LETTERS), n_train + SPARE, side, noise), n_train)


def stdlib_large_llama(rng: np.random.Generator) -> Workload:
    """A small Llama on sources of the standard library, in one pass: AdamW (.9, .95), decay .1, clipping, warm-up."""
    drawn = rng.permutation(text.available())[:40]
    windows = np.concatenate([text.windows(text.characters(str(name)), 33) for name in drawn])
    build = partial(Llama, text.N_CHARACTERS, 176, 4, 4)
    return recipe(
        "stdlib_large_llama", "stdlib-large-llama", next_tokens(rng, windows, 6400), build, "adamw", 16, 1,
        betas=(0.9, 0.95), weight_decay=0.1, clip=1.0, textbook=WARM,
    )  # fmt: skip


def strokes_large_vit(rng: np.random.Generator) -> Workload:
    """A vision transformer as DeiT trains it (arXiv:2012.12877): AdamW, decay .05, clipping, smoothing, warm-up."""
    build = partial(TokenVit, (1, 16, 16), 208, 4, 4, LETTERS)
    return recipe(
        "strokes_large_vit", "strokes-large-vit", _strokes(rng, 5000, 16, 0.25), build, "adamw", 32, 2,
        weight_decay=0.05, clip=1.0, train_loss=Smoothed(0.1), textbook=WARM,
    )  # fmt: skip


def strokes_large_convnext(rng: np.random.Generator) -> Workload:
    """ConvNeXt: AdamW, decay .05, warm-up."""
    build = partial(ConvNext, (1, 16, 16), (64, 128, 256), 2, LETTERS)
    return recipe(
        "strokes_large_convnext", "strokes-large-convnext", _strokes(rng, 6000, 16, 0.25), build, "adamw", 32, 2,
        weight_decay=0.05, textbook=WARM,
    )  # fmt: skip


def strokes_large_residual(rng: np.random.Generator) -> Workload:
    """A wide residual network (arXiv:1605.07146): SGD with Nesterov momentum, decay 5e-4."""
    build = Started(partial(ResidualNet, (1, 16, 16), (32, 96, 192), 1, LETTERS, "batch", stem=2), "kaiming")
    return recipe(
        "strokes_large_residual", "strokes-large-residual", _strokes(rng, 6000, 16, 0.25), build, "sgd", 64, 5,
        weight_decay=5e-4, nesterov=True, textbook=SGD,
    )  # fmt: skip


def reports_large_lstm(rng: np.random.Generator) -> Workload:
    """Verdicts by a bidirectional LSTM with dropout: Adam, clipping."""
    x, y = made.reports(rng, np.random.default_rng(draw_seed(rng)), 12_000)
    build = partial(BothWays, made.N_REPORT, 192, 1, 3, 0.3)
    return recipe(
        "reports_large_lstm", "reports-large-lstm", examples(rng, x, y, 5000), build, "adam", 32, 3,
        clip=1.0, textbook=ADAM,
    )  # fmt: skip


def pendulums_large_transformer(rng: np.random.Generator) -> Workload:
    """Forecasts of a double pendulum by a transformer: Adam, clipping, warm-up."""
    x = made.pendulums(rng, 6000 + SPARE, 17, 0.05)
    build = partial(SeriesTransformer, 4, 16, 160, 4, 4, 4)
    splits = examples(rng, x[:, :-1].copy(), x[:, -1].copy(), 6000)
    return recipe(
        "pendulums_large_transformer", "pendulums-large-transformer", splits, build, "adam", 32, 2,
        clip=1.0, textbook=WARM,
    )  # fmt: skip


def ponds_large_unet(rng: np.random.Generator) -> Workload:
    """A U-Net that forecasts waves, batch norm: Adam."""
    splits = examples(rng, *made.ponds(rng, 3000 + SPARE, 16, 0.1), 3000)
    build = Started(partial(UNet, (3, 16, 16), (32, 64, 128, 256), 1, "batch"), "torch")
    return recipe("ponds_large_unet", "ponds-large-unet", splits, build, "adam", 16, 2, textbook=ADAM)


def rules_large_table(rng: np.random.Generator) -> Workload:
    """fast.ai's tabular model, wide: embeddings, batch norm, dropout; AdamW."""
    x, y = made.rules(rng, 16_000 + SPARE, 0.4)
    build = Started(partial(TabularNet, made.RULE_SIZES, 6, (1000, 500, 250), 3, drop=0.1), "torch")
    return recipe(
        "rules_large_table", "rules-large-table", examples(rng, x, y, 16_000), build, "adamw", 64, 2,
        weight_decay=0.01, textbook=ADAM,
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _read(seed: int) -> dict[str, Tensor]:
    """An encoder that has learned to name masked words of reports."""
    rng = np.random.default_rng(seed)
    texts, _ = made.reports(rng, np.random.default_rng(seed), 16_000)
    return masked_start(rng, Started(_encoder, "bert"), texts, made.N_REPORT, 250)


def _encoder(n_out: int | None = None) -> Encoder:
    return Encoder(made.N_REPORT + 1, made.REPORT_LENGTH, 192, 3, 3, 0.1, n_out)


def reports_large_encoder(rng: np.random.Generator) -> Workload:
    """Hugging Face's run_glue: AdamW at 5e-5, falling linearly, clipping."""
    seed = draw_seed(rng)
    x, y = made.reports(rng, np.random.default_rng(seed), 10_000)
    return recipe(
        "reports_large_encoder", "reports-large-encoder", examples(rng, x, y, 3600),
        Started(partial(_encoder, 3), "bert"), "adamw", 32, 3,
        weight_decay=0.01, clip=1.0, textbook=("linear", 5e-5), start=_read(seed),
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _drawn(seed: int) -> dict[str, Tensor]:
    """A ConvNeXt that tells the letters of another alphabet."""
    rng = np.random.default_rng(seed)
    x, y = made.strokes(rng, made.alphabet(rng, 40), 12_000, 16, 0.1)
    return classes_start(rng, partial(ConvNext, (1, 16, 16), (64, 128), 2, 40), x, y, 250)


def strokes_large_transfer(rng: np.random.Generator) -> Workload:
    """A ConvNeXt goes on to a new alphabet, as fine-tuned in timm: AdamW at 3e-4."""
    seed = draw_seed(rng)
    splits = examples(rng, *made.strokes(rng, made.alphabet(rng, 12), 2400 + SPARE, 16, 0.25), 2400)
    return recipe(
        "strokes_large_transfer", "strokes-large-transfer", splits,
        partial(ConvNext, (1, 16, 16), (64, 128), 2, 12), "adamw", 32, 4,
        weight_decay=0.05, textbook=("cosine", 3e-4), start=_drawn(seed),
    )  # fmt: skip


FAMILIES = (
    Family(
        "stdlib_large_llama", SPLIT, stdlib_large_llama, "ordinary", "stdlib large Llama", frozen=1,
        packages=text.PYTHON,
    ),
    Family("strokes_large_vit", SPLIT, strokes_large_vit, "ordinary", "strokes large vision transformer", frozen=1),
    Family("strokes_large_convnext", SPLIT, strokes_large_convnext, "ordinary", "strokes large ConvNeXt", frozen=1),
    Family("strokes_large_residual", SPLIT, strokes_large_residual, "ordinary", "strokes large residual net", frozen=1),
    Family("reports_large_lstm", SPLIT, reports_large_lstm, "ordinary", "reports large LSTM", frozen=1),
    Family(
        "pendulums_large_transformer", SPLIT, pendulums_large_transformer, "ordinary", "pendulums large transformer",
        frozen=1,
    ),
    Family("ponds_large_unet", SPLIT, ponds_large_unet, "ordinary", "ponds large U-Net", frozen=1),
    Family("rules_large_table", SPLIT, rules_large_table, "ordinary", "rules large table", frozen=1),
    Family("reports_large_encoder", SPLIT, reports_large_encoder, "finetuning", "reports large encoder", frozen=1),
    Family("strokes_large_transfer", SPLIT, strokes_large_transfer, "finetuning", "strokes large transfer", frozen=1),
)  # fmt: skip
