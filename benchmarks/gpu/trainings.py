"""The five trainings: what they train, on which data, and the rate that people type for it.

All have 600 steps at their full size. The data are those of held-out tasks, which neither trained nor chose a policy:
letters of random strokes, and characters of Python's standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from benchmarks.gpu import networks
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.benchmark.recipes import SPARE, examples, next_tokens, recipe
from pipeline.workloads.building.sampling import Build, Splits
from pipeline.workloads.datasets import text
from pipeline.workloads.heldout import data as made

LETTERS = 24  # of the alphabet that images are of
MASKED = 0.15  # share of a text's characters, as in BERT
SCHEDULE = "warmup_cosine"  # of all five: warm-up in 5 % of the steps, then cosine to 0


@dataclass(frozen=True)
class Amount:
    """Examples to train on, examples per step, and passes over the data."""

    examples: int
    batch: int
    epochs: int


@dataclass(frozen=True)
class Sizes:
    """How large data and networks are."""

    images: Amount
    texts: Amount
    side: int  # of images, in pixels
    length: int  # of texts, in characters
    blocks: int  # of a stage of a residual net, at most
    layers: int  # of the transformers
    width: int  # of the vision transformer; the language models are twice as wide


FULL = Sizes(Amount(9600, 128, 8), Amount(9600, 32, 2), side=64, length=128, blocks=6, layers=12, width=384)
TOY = Sizes(Amount(64, 4, 4), Amount(256, 8, 2), side=8, length=16, blocks=1, layers=2, width=64)


@lru_cache(maxsize=1)
def _letters(n_train: int, side: int) -> Splits:
    rng = np.random.default_rng(0)
    drawn = made.strokes(rng, made.alphabet(rng, LETTERS), n_train + SPARE, side, 0.25)
    grey = examples(rng, *drawn, n_train)
    return Splits(*(Data(part.x.expand(-1, 3, -1, -1), part.y) for part in (grey.train, grey.val, grey.test)))


def _windows(length: int) -> np.ndarray:
    return np.concatenate([text.windows(text.characters(name), length) for name in text.available()])


def _training(name: str, splits: Splits, build: Build, optimizer: str, amount: Amount, rate: float, **own: Any):
    return recipe(
        "gpu", name, splits, build, optimizer, amount.batch, amount.epochs, textbook=(SCHEDULE, rate), **own
    )  # fmt: skip


def resnet18(sizes: Sizes) -> Workload:
    """SGD at 0.1, decay 1e-4, batches of 128 (He et al. 2015, arXiv:1512.03385, section 4.2)."""
    build = partial(networks.residual, True, [min(n, sizes.blocks) for n in (2, 2, 2, 2)], LETTERS)
    data = _letters(sizes.images.examples, sizes.side)
    return _training("resnet18", data, build, "sgd", sizes.images, 0.1, weight_decay=1e-4)


def resnet50(sizes: Sizes) -> Workload:
    """SGD at 0.1 per 256 examples of a batch, decay 1e-4 (Goyal et al. 2017, arXiv:1706.02677)."""
    build = partial(networks.residual, False, [min(n, sizes.blocks) for n in (3, 4, 6, 3)], LETTERS)
    data = _letters(sizes.images.examples, sizes.side)
    return _training("resnet50", data, build, "sgd", sizes.images, 0.05, weight_decay=1e-4)


def vit_small(sizes: Sizes) -> Workload:
    """AdamW at 1e-3, decay 1e-4, clipping (Beyer et al. 2022, arXiv:2205.01580)."""
    build = partial(networks.vision_transformer, sizes.side, sizes.layers, sizes.width, LETTERS)
    data = _letters(sizes.images.examples, sizes.side)
    return _training("vit-s", data, build, "adamw", sizes.images, 1e-3, weight_decay=1e-4, clip=1.0)


def gpt2_small(sizes: Sizes) -> Workload:
    """AdamW (.9, .95) at 6e-4, decay .1, clipping (Brown et al. 2020, arXiv:2005.14165, table 2.1)."""
    data = next_tokens(np.random.default_rng(0), _windows(sizes.length + 1), sizes.texts.examples)
    build = partial(networks.NextTokens, text.N_CHARACTERS, sizes.length, sizes.layers, 2 * sizes.width)
    return _training(
        "gpt2", data, build, "adamw", sizes.texts, 6e-4, betas=(0.9, 0.95), weight_decay=0.1, clip=1.0
    )  # fmt: skip


def bert_base(sizes: Sizes) -> Workload:
    """Masked characters: AdamW at 1e-4, decay .01, clipping (Devlin et al. 2018, arXiv:1810.04805, appendix A.2)."""
    rng, masked = np.random.default_rng(0), round(MASKED * sizes.length)
    words = _windows(sizes.length)
    places = np.sort(rng.random(words.shape).argsort(1)[:, :masked], axis=1)
    hidden = words.copy()
    np.put_along_axis(hidden, places, text.N_CHARACTERS, axis=1)
    data = examples(rng, hidden, np.take_along_axis(words, places, axis=1), sizes.texts.examples)
    build = partial(networks.MaskedTokens, text.N_CHARACTERS, sizes.length, sizes.layers, 2 * sizes.width, masked)
    return _training("bert-base", data, build, "adamw", sizes.texts, 1e-4, weight_decay=0.01, clip=1.0)


TRAININGS: dict[str, Callable[[Sizes], Workload]] = {
    "ResNet-18": resnet18, "ResNet-50": resnet50, "ViT-S": vit_small, "GPT-2 small": gpt2_small, "BERT-base": bert_base,
}  # fmt: skip
