"""Selection's large trainings: a quarter to three million weights, on the data of its other tasks; one task each.

They run for 300 to 600 steps of small batches, which two cores can afford. Each begins as its library begins it.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
from torch import Tensor

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SGD, SPARE, WARM, examples, masked_start, next_tokens, recipe
from pipeline.workloads.building.library_starts import Started
from pipeline.workloads.building.sampling import Splits, draw_seed
from pipeline.workloads.datasets import text
from pipeline.workloads.networks.deep_convnets import PlainNet
from pipeline.workloads.networks.deep_networks import DeepRecurrent, Encoder, LanguageModel, TabularNet
from pipeline.workloads.networks.modern import TokenVit
from pipeline.workloads.selection import data as made

SPLIT = "selection_large"


def _solids(rng: np.random.Generator, n_train: int, side: int, noise: float) -> Splits:
    x, kind, _ = made.solids(rng, n_train + SPARE, side, noise)
    return examples(rng, x, kind, n_train)


def solids_large_vit(rng: np.random.Generator) -> Workload:
    """A vision transformer with class token and convolutional stem: AdamW, decay .05, clipping, warm-up."""
    build = partial(TokenVit, (1, 16, 16), 192, 4, 6, made.N_SOLIDS, 0.1)
    return recipe(
        "solids_large_vit", "solids-large-vit", _solids(rng, 5000, 16, 0.3), build, "adamw", 32, 2,
        weight_decay=0.05, clip=1.0, textbook=WARM,
    )  # fmt: skip


def prose_large_gpt(rng: np.random.Generator) -> Workload:
    """nanoGPT's character model on the help texts, in one pass: AdamW (.9, .99), decay .1, clipping, warm-up."""
    windows = np.concatenate([text.windows(text.characters(name), 33) for name in text.TOPICS])
    build = Started(partial(LanguageModel, text.N_CHARACTERS, 32, 160, 4, 5), "gpt")
    return recipe(
        "prose_large_gpt", "prose-large-gpt", next_tokens(rng, windows, 6400), build, "adamw", 16, 1,
        betas=(0.9, 0.99), weight_decay=0.1, clip=1.0, textbook=WARM,
    )  # fmt: skip


def solids_large_plain(rng: np.random.Generator) -> Workload:
    """VGG with batch norm as torchvision begins it: SGD with momentum, decay 5e-4."""
    build = Started(partial(PlainNet, (1, 16, 16), (48, 96, 192), 1, made.N_SOLIDS, "batch", hidden=256), "kaiming")
    return recipe(
        "solids_large_plain", "solids-large-plain-batch", _solids(rng, 4000, 16, 0.3), build, "sgd", 32, 4,
        weight_decay=5e-4, textbook=SGD,
    )  # fmt: skip


def commands_large_lstm(rng: np.random.Generator) -> Workload:
    """Next words of commands by two layers of LSTM: Adam, clipping, dropout."""
    x, _ = made.commands(rng, np.random.default_rng(draw_seed(rng)), 14_000)
    build = Started(
        partial(DeepRecurrent, "lstm", 256, 2, made.N_COMMAND, vocabulary=made.N_COMMAND, drop=0.2), "torch"
    )
    return recipe(
        "commands_large_lstm", "commands-large-lstm", next_tokens(rng, x, 6400), build, "adam", 32, 2,
        clip=1.0, textbook=ADAM,
    )  # fmt: skip


def solids_large_mlp(rng: np.random.Generator) -> Workload:
    """Three layers of 1,024 units with dropout as PyTorch begins them: Adam."""
    flat = _solids(rng, 8000, 24, 0.5)
    splits = Splits(*(type(part)(part.x.flatten(1), part.y) for part in (flat.train, flat.val, flat.test)))
    build = Started(partial(TabularNet, (), 576, (1024, 1024, 1024), made.N_SOLIDS, norm=False, drop=0.1), "torch")
    return recipe("solids_large_mlp", "solids-large-mlp", splits, build, "adam", 64, 4, textbook=ADAM)


@functools.lru_cache(maxsize=2)
def _read(seed: int) -> dict[str, Tensor]:
    """An encoder that has learned to name masked words of commands."""
    rng = np.random.default_rng(seed)
    texts, _ = made.commands(rng, np.random.default_rng(seed), 16_000)
    return masked_start(rng, Started(_encoder, "bert"), texts, made.N_COMMAND, 250)


def _encoder(n_out: int | None = None) -> Encoder:
    return Encoder(made.N_COMMAND + 1, made.COMMAND_LENGTH, 192, 3, 6, 0.1, n_out)


def commands_large_encoder(rng: np.random.Generator) -> Workload:
    """An encoder of 1.3 million weights is fine-tuned as BERT (arXiv:1810.04805): AdamW at 5e-5, warm-up, clipping."""
    seed = draw_seed(rng)
    x, y = made.commands(rng, np.random.default_rng(seed), 9000)
    return recipe(
        "commands_large_encoder", "commands-large-encoder", examples(rng, x, y, 3200),
        Started(partial(_encoder, made.N_INTENTS), "bert"), "adamw", 32, 3,
        weight_decay=0.01, clip=1.0, textbook=("warmup_cosine", 5e-5), start=_read(seed),
    )  # fmt: skip


FAMILIES = (
    Family("solids_large_vit", SPLIT, solids_large_vit, "ordinary", "solids large vision transformer", frozen=1),
    Family(
        "prose_large_gpt", SPLIT, prose_large_gpt, "ordinary", "prose large language model", frozen=1,
        packages=text.PYTHON,
    ),
    Family("solids_large_plain", SPLIT, solids_large_plain, "ordinary", "solids large conv net", frozen=1),
    Family("commands_large_lstm", SPLIT, commands_large_lstm, "ordinary", "commands large LSTM", frozen=1),
    Family("solids_large_mlp", SPLIT, solids_large_mlp, "ordinary", "solids large MLP", frozen=1),
    Family("commands_large_encoder", SPLIT, commands_large_encoder, "finetuning", "commands large encoder", frozen=1),
)  # fmt: skip
