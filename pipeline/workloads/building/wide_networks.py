"""Wide networks drawn at random: width 32 to 512, depth 2 to 12, at most some three million weights.

They begin as their libraries begin them (`library_starts.py`). Each function returns (label, build), as those of
`architectures.py` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline.workloads.building.architectures import CONV_NORMS, Drawn, draw_dropout
from pipeline.workloads.building.library_starts import Started
from pipeline.workloads.building.recipes import choose
from pipeline.workloads.building.sampling import Label, log_uniform, pick
from pipeline.workloads.networks.deep_convnets import PlainNet, ResidualNet
from pipeline.workloads.networks.deep_networks import DeepRecurrent, Encoder, LanguageModel, VisionTransformer
from pipeline.workloads.networks.mixer import Mixer
from pipeline.workloads.networks.perceptrons import Perceptron

WEIGHTS = 3_200_000  # at most
WIDTHS = (32, 512)
GPT_STARTS = {"gpt": 0.6, "bert": 0.2, "torch": 0.2}
ENCODER_STARTS = {"bert": 0.5, "torch": 0.25, "xavier": 0.25}
VISION_STARTS = {"bert": 0.4, "torch": 0.3, "xavier": 0.3}
CONV_STARTS = {"torch": 0.5, "kaiming": 0.35, "xavier": 0.15}
PLAIN_STARTS = {"torch": 0.7, "xavier": 0.3}


def draw_shape(rng: np.random.Generator, depths: tuple[int, int], per_layer: float) -> tuple[int, int]:
    """Width, a multiple of 16, and depth, each log-uniform, of a network of `per_layer` width^2 weights per layer."""
    while True:
        width = 16 * round(log_uniform(rng, *WIDTHS) / 16)
        depth = min(depths[1], int(log_uniform(rng, depths[0], depths[1] + 1)))
        if per_layer * width**2 * depth <= WEIGHTS:
            return width, depth


def _heads(rng: np.random.Generator, width: int) -> int:
    """Heads of 16 to 64 numbers."""
    return width // pick(rng, [size for size in (16, 32, 48, 64) if width % size == 0])


def _label(kind: str, title: str, width: int, depth: int, start: str) -> Label:
    return Label(f"{kind}{depth}x{width}-{start}", f"{title} {depth}×{width} {start}")


def draw_language_model(rng: np.random.Generator, vocabulary: int, length: int) -> Drawn:
    """A next-symbol model of GPT kind."""
    width, depth = draw_shape(rng, (2, 12), 12)
    start, drop, tied = choose(rng, GPT_STARTS), draw_dropout(rng, 0.3, 0.2), bool(rng.random() < 0.4)
    tied = tied and start != "torch"  # whose embeddings are too long to be read as logits
    build = partial(LanguageModel, vocabulary, length, width, depth, _heads(rng, width), drop, tied)
    return _label("gpt", "language model", width, depth, start), Started(build, start)


def draw_encoder(rng: np.random.Generator, vocabulary: int, length: int, n_out: int) -> Drawn:
    """A classifier of BERT kind, post-norm or pre-norm."""
    width, depth = draw_shape(rng, (2, 12), 12)
    start, post = choose(rng, ENCODER_STARTS), bool(rng.random() < 0.6)
    drop, activation = draw_dropout(rng, 0.6, 0.2), pick(rng, ("gelu", "relu"))
    build = partial(
        Encoder,
        vocabulary,
        length,
        width,
        depth,
        _heads(rng, width),
        drop,
        n_out=n_out,
        activation=activation,
        post_norm=post,
    )
    return _label("post" if post else "pre", "encoder", width, depth, start), Started(build, start)


def draw_vision(rng: np.random.Generator, shape: Sequence[int], n_out: int) -> Drawn:
    """A vision transformer or an MLP-Mixer."""
    width, depth = draw_shape(rng, (2, 12), 12)
    start, drop, patch = choose(rng, VISION_STARTS), draw_dropout(rng, 0.5, 0.2), pick(rng, (3, 4, 4))
    patch = patch if shape[1] % patch == 0 else 4
    if rng.random() < 0.3:
        build = partial(Mixer, shape, patch, width, max(2, depth // 2), n_out, drop)
        return _label("mixer", "MLP-Mixer", width, max(2, depth // 2), start), Started(build, start)
    build = partial(VisionTransformer, shape, patch, width, depth, _heads(rng, width), n_out, drop)
    return _label("vit", "vision transformer", width, depth, start), Started(build, start)


def draw_wide_convnet(rng: np.random.Generator, shape: Sequence[int], n_out: int) -> Drawn:
    """A residual or a plain net whose first stage has 16 to 96 channels, and the last up to eight times as many."""
    start, norm, drop = choose(rng, CONV_STARTS), choose(rng, CONV_NORMS), draw_dropout(rng, 0.3, 0.3)
    while True:
        stages, blocks = int(rng.integers(2, 4)), int(rng.integers(1, 4))
        widths = [round(log_uniform(rng, 16, 96) / 8) * 8]
        while len(widths) < stages:
            widths.append(min(512, widths[-1] * int(rng.integers(1, 3))))
        if sum(9 * 2 * blocks * width**2 for width in widths) <= WEIGHTS:
            break
    if rng.random() < 0.6:
        build = partial(ResidualNet, shape, widths, blocks, n_out, norm, pick(rng, ("relu", "relu", "silu")), drop=drop)
        return _label(f"resnet{stages}-", "residual net", widths[-1], blocks, start), Started(build, start)
    hidden = int(pick(rng, (64, 128, 256, 512)))
    build = partial(PlainNet, shape, widths, blocks, n_out, norm, "relu", drop=drop, hidden=hidden)
    return _label(f"plain{stages}-", "conv net", widths[-1], blocks, start), Started(build, start)


def draw_wide_recurrent(rng: np.random.Generator, n_out: int, vocabulary: int, last: bool) -> Drawn:
    """An LSTM or GRU of one to three layers."""
    cell = pick(rng, ("lstm", "lstm", "gru"))
    width, depth = draw_shape(rng, (1, 3), 8 if cell == "lstm" else 6)
    start, drop = choose(rng, PLAIN_STARTS), draw_dropout(rng, 0.6, 0.5)
    build = partial(DeepRecurrent, cell, width, depth, n_out, vocabulary=vocabulary, last=last, drop=drop)
    return _label(cell, cell.upper(), width, depth, start), Started(build, start)


def draw_wide_perceptron(rng: np.random.Generator, n_in: int, n_out: int) -> Drawn:
    """An MLP of two to eight hidden layers."""
    width, depth = draw_shape(rng, (2, 8), 1)
    width = min(1024, 2 * width)
    start, norm = choose(rng, PLAIN_STARTS), choose(rng, {"none": 0.6, "batch": 0.2, "layer": 0.2})
    drop, activation = draw_dropout(rng, 0.4), pick(rng, ("relu", "relu", "gelu", "tanh"))
    build = partial(Perceptron, (n_in, *(width,) * depth, n_out), activation, 1.0, norm, depth > 4, drop)
    return _label(f"mlp-{activation}", "MLP", width, depth, start), Started(build, start)
