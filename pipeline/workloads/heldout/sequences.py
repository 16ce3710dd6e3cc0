"""Held-out recipes on text, sequences and tables: the standard library, reports, pendulums, bodies; one task each.

Optimizer, decay, clipping, dropout and default rate follow the source in a recipe's docstring. The sizes are small ones
of its kind.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SPARE, WARM, examples, next_tokens, recipe
from pipeline.workloads.building.sampling import corrupt, draw_seed, pick
from pipeline.workloads.datasets import text
from pipeline.workloads.heldout import data as made
from pipeline.workloads.networks.deep_networks import DeepRecurrent, LanguageModel, TabularNet
from pipeline.workloads.networks.small import MLP


def stdlib_gpt(rng: np.random.Generator) -> Workload:
    """nanoGPT's small character model, in one pass: AdamW (.9, .95), decay .1, clipping, warm-up."""
    length, n_train = 12, 32_000
    drawn = rng.permutation(text.available())
    windows = np.concatenate([text.windows(text.characters(str(name)), length + 1) for name in drawn])
    build = partial(LanguageModel, text.N_CHARACTERS, length, 24, 2, pick(rng, (2, 3)), hidden=2)
    return recipe(
        "stdlib_gpt", "stdlib-gpt-one-pass", next_tokens(rng, windows, n_train), build, "adamw", 32, 1,
        betas=(0.9, 0.95), weight_decay=0.1, clip=1.0, textbook=WARM,
    )  # fmt: skip


def reports_gpt(rng: np.random.Generator) -> Workload:
    """Hugging Face's run_clm: AdamW, clipping, dropout, embeddings tied; a few epochs."""
    x, _ = made.reports(rng, np.random.default_rng(draw_seed(rng)), 10_000)
    x = x[:, :13]
    build = partial(LanguageModel, made.N_REPORT, x.shape[1] - 1, 24, 2, pick(rng, (2, 3)), 0.1, tied=True, hidden=2)
    return recipe(
        "reports_gpt", "reports-gpt-tied", next_tokens(rng, x, 6000), build, "adamw", 32, 4,
        weight_decay=0.01, clip=1.0, textbook=WARM,
    )  # fmt: skip


def reports_lstm(rng: np.random.Generator) -> Workload:
    """PyTorch's example of a word language model: an LSTM or GRU, dropout .2, clipping at .25; here by Adam."""
    x, _ = made.reports(rng, np.random.default_rng(draw_seed(rng)), 10_000)
    cell = pick(rng, ("lstm", "gru"))
    build = partial(DeepRecurrent, cell, 32, 1, made.N_REPORT, vocabulary=made.N_REPORT, drop=0.2)
    splits = next_tokens(rng, x[:, :13], 6000)
    return recipe("reports_lstm", "reports-recurrent-dropout", splits, build, "adam", 32, 4, clip=0.25, textbook=ADAM)


def pendulum_gru(rng: np.random.Generator) -> Workload:
    """Forecasts of a double pendulum by a recurrent net with dropout: Adam and clipping, as pytorch-forecasting's."""
    x = made.pendulums(rng, 5000 + SPARE, 13, 0.08)
    build = partial(DeepRecurrent, pick(rng, ("gru", "lstm")), 48, 1, 4, n_in=4, drop=0.1)
    splits = examples(rng, x[:, :-1].copy(), x[:, 1:].copy(), 5000)
    return recipe("pendulum_gru", "pendulum-recurrent", splits, build, "adam", 64, 10, clip=1.0, textbook=ADAM)


def rules_table(rng: np.random.Generator) -> Workload:
    """fast.ai's tabular model: embeddings, batch norm, dropout, AdamW; much data, a fifth of the labels wrong."""
    x, y = made.rules(rng, 30_000 + SPARE, 0.3)
    splits = corrupt(rng, examples(rng, x, y, 30_000), 0.2, 3)
    build = partial(TabularNet, made.RULE_SIZES, 6, pick(rng, ((96, 48), (128, 64))), 3, drop=0.1)
    return recipe(
        "rules_table", "rules-table-noisy-labels", splits, build, "adamw", 128, 6, weight_decay=0.01, textbook=ADAM
    )


def rules_wide(rng: np.random.Generator) -> Workload:
    """A wide MLP without regularisation, Adam, twenty epochs, as scikit-learn's MLPClassifier sets it."""
    x, y = made.rules(rng, 4096 + SPARE, 0.3)
    x = np.concatenate([x[:, :5], np.arcsinh(x[:, 5:])], axis=1)
    splits = corrupt(rng, examples(rng, x, y, 4096), 0.15, 3)
    build = partial(TabularNet, made.RULE_SIZES, 6, (256, pick(rng, (128, 256))), 3, norm=False)
    return recipe("rules_wide", "rules-wide-noisy-labels", splits, build, "adam", 64, 20, textbook=ADAM)


@functools.lru_cache(maxsize=2)
def _bodies(seed: int, n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    return made.bodies(np.random.default_rng(seed), n, noise)


def bodies_mlp(rng: np.random.Generator) -> Workload:
    """A surrogate of a simulation: noisy regression by an MLP in one pass; Adam."""
    x, y = _bodies(draw_seed(rng), 48_000 + SPARE, 0.5)
    build = partial(MLP, (20, 256, 256, 256, 8), pick(rng, ("silu", "gelu")))
    return recipe("bodies_mlp", "bodies-mlp-one-pass", examples(rng, x, y, 48_000), build, "adam", 32, 1, textbook=ADAM)


FAMILIES = (
    Family(
        "stdlib_gpt",
        "heldout",
        stdlib_gpt,
        "ordinary",
        "stdlib language model one pass",
        frozen=1,
        packages=text.PYTHON,
    ),
    Family("reports_gpt", "heldout", reports_gpt, "ordinary", "reports language model tied", frozen=1),
    Family("reports_lstm", "heldout", reports_lstm, "ordinary", "LSTM reports recurrent dropout", frozen=1),
    Family("pendulum_gru", "heldout", pendulum_gru, "ordinary", "GRU pendulum recurrent", frozen=1),
    Family("rules_table", "heldout", rules_table, "ordinary", "rules table noisy labels", frozen=1),
    Family("rules_wide", "heldout", rules_wide, "ordinary", "rules wide MLP noisy labels", frozen=1),
    Family("bodies_mlp", "heldout", bodies_mlp, "ordinary", "bodies MLP one pass", frozen=1),
)
