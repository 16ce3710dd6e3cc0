"""Networks drawn at random: depth, width, normalisation, residuals, activation, initialisation and dropout.

Each function returns (label, build). Sizes are such that a step of one member takes about a millisecond at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from pipeline.workloads.building.recipes import choose
from pipeline.workloads.building.sampling import Build, Label, log_integer, log_uniform, pick
from pipeline.workloads.networks.deep_convnets import Autoencoder, Denoiser, PlainNet, ResidualNet, UNet
from pipeline.workloads.networks.deep_networks import DeepRecurrent, LanguageModel, TabularNet, VisionTransformer
from pipeline.workloads.networks.perceptrons import AveragedWords, Perceptron
from pipeline.workloads.networks.small import ACTIVATIONS, CELLS

Drawn = tuple[Label, Build]
WORK = 3_000_000  # weights x batch of an MLP at most
STEM = 2  # stride of the first convolution
MLP_NORMS = {"none": 0.5, "batch": 0.35, "layer": 0.15}
CONV_NORMS = {"none": 0.2, "batch": 0.6, "group": 0.2}
NORM_TITLES = {"batch": "batch norm", "layer": "layer norm", "group": "groupnorm"}


def draw_dropout(rng: np.random.Generator, share: float, highest: float = 0.5) -> float:
    """A rate of dropout in `share` of the draws, else 0."""
    return round(float(rng.uniform(0.05, highest)), 2) if rng.random() < share else 0.0


def _label(name: str, title: str, norm: str, drop: float) -> Label:
    """A network's, with its normalisation and dropout."""
    if norm != "none":
        name, title = f"{name}-{norm}norm", f"{title} {NORM_TITLES[norm]}"
    return Label(name, title).marked(f"drop{drop:g}" if drop else "")


def draw_perceptron(
    rng: np.random.Generator,
    n_in: int,
    n_out: int,
    batch_size: int,
    depths: tuple[int, int] = (1, 4),
    widths: tuple[int, int] = (16, 256),
    gains: tuple[float, float] = (0.8, 2.0),
    dropped: float = 0.35,
) -> Drawn:
    """An MLP, narrowed until its cost, weights x batch size, is within WORK; `dropped`: share of those with dropout."""
    depth, width = int(rng.integers(depths[0], depths[1] + 1)), log_integer(rng, *widths)
    sizes = (n_in, *(width,) * depth, n_out)
    while sum(a * b for a, b in pairwise(sizes)) * batch_size > WORK:
        width = width * 3 // 4
        sizes = (n_in, *(width,) * depth, n_out)
    activation, norm = pick(rng, tuple(ACTIVATIONS)), choose(rng, MLP_NORMS)
    residual, drop, gain = bool(rng.random() < 0.25), draw_dropout(rng, dropped), log_uniform(rng, *gains)
    build = partial(Perceptron, sizes, activation, gain, norm, residual, drop)
    if not depth:
        return Label("linear", "linear"), build
    return _label(f"mlp{depth}x{sizes[1]}-{activation}", f"MLP {depth}×{sizes[1]}", norm, drop), build


def draw_convnet(rng: np.random.Generator, shape: Sequence[int], n_out: int) -> Drawn:
    """A residual or a plain net for inputs of `shape` (channels, *size), of two to nine convolutions."""
    norm, activation = choose(rng, CONV_NORMS), pick(rng, ("relu", "relu", "gelu", "silu", "elu"))
    gain = log_uniform(rng, 0.9, 1.8)
    drop, width = draw_dropout(rng, 0.35, 0.4), log_integer(rng, 8, 20)
    residual, stages = rng.random() < 0.55, int(rng.integers(2, 4))
    if residual:
        blocks, widths = 1 if stages == 3 else int(rng.integers(1, 3)), [width * 2**stage for stage in range(stages)]
        build = partial(ResidualNet, shape, widths, blocks, n_out, norm, activation, gain, drop, STEM)
        title = f"residual net {blocks}×{stages}×{width}"
        return _label(f"resnet{blocks}x{stages}x{width}", title, norm, drop), build
    convs, hidden = int(rng.integers(1, 4)), log_integer(rng, 32, 256)
    build = partial(PlainNet, shape, (width, 2 * width), convs, n_out, norm, activation, gain, drop, hidden, STEM)
    return _label(f"plain{convs}x2x{width}", f"conv net {convs}×2×{width}", norm, drop), build


def draw_vision_transformer(rng: np.random.Generator, shape: Sequence[int], n_out: int) -> Drawn:
    """Two to four blocks on four to nine patches."""
    d, blocks = pick(rng, ((16, 2), (24, 2), (32, 2), (40, 2), (24, 3), (32, 3), (16, 4)))
    patch, drop = shape[1] // pick(rng, (2, 3) if shape[1] % 3 == 0 else (2,)), draw_dropout(rng, 0.6, 0.3)
    build = partial(
        VisionTransformer, shape, patch, d, blocks, pick(rng, (2, 4)), n_out, drop, gain=log_uniform(rng, 0.4, 1.2)
    )
    return _label(f"vit{blocks}x{d}", f"vision transformer {blocks}×{d}", "none", drop), build


def draw_image_map(rng: np.random.Generator, shape: Sequence[int], n_out: int, kinds: Sequence[str]) -> Drawn:
    """An autoencoder, a denoiser or a U-Net: (B, *shape) -> (B, *size, n_out)."""
    kind, norm, activation = pick(rng, kinds), choose(rng, CONV_NORMS), pick(rng, ("relu", "gelu", "silu"))
    width, gain = log_integer(rng, 6, 12), log_uniform(rng, 0.9, 1.8)
    if kind == "autoencoder":
        build = partial(Autoencoder, shape, (width, 2 * width), log_integer(rng, 4, 32), norm, activation, gain)
    elif kind == "denoiser":
        build = partial(Denoiser, shape, width, int(rng.integers(3, 6)), norm, activation, gain)
    else:
        drop = draw_dropout(rng, 0.4, 0.3)
        build = partial(UNet, shape, (width, 2 * width), n_out, norm, activation, gain, drop)
        return _label(f"unet{width}", f"U-Net {width}", norm, drop), build
    return _label(f"{kind}{width}", f"{kind}{width}", norm, 0), build


def draw_attention(rng: np.random.Generator, vocabulary: int, length: int) -> Drawn:
    """A next-symbol model of GPT kind of one to four blocks."""
    d, blocks, drop = *pick(rng, ((16, 1), (16, 2), (24, 1), (24, 2), (32, 1), (16, 3))), draw_dropout(rng, 0.4, 0.25)
    tied, gain = bool(rng.random() < 0.4), log_uniform(rng, 0.4, 1.2)
    build = partial(LanguageModel, vocabulary, length, d, blocks, pick(rng, (2, 4)), drop, tied, gain=gain)
    return _label(f"gpt{blocks}x{d}", f"language model {blocks}×{d}", "none", drop), build


def draw_recurrent(
    rng: np.random.Generator,
    n_out: int,
    vocabulary: int | None = None,
    n_in: int = 1,
    last: bool = False,
    widths: tuple[int, int] = (12, 40),
) -> Drawn:
    """A recurrent cell of one or two layers over tokens or numbers; `last`: one answer for the whole sequence."""
    cell, width, layers = pick(rng, tuple(CELLS)), log_integer(rng, *widths), int(rng.integers(1, 3))
    drop, gain = draw_dropout(rng, 0.7), log_uniform(rng, 0.6, 1.4)
    build = partial(
        DeepRecurrent, cell, width, layers, n_out, vocabulary=vocabulary, n_in=n_in, last=last, drop=drop, gain=gain
    )
    return _label(f"{cell}{layers}x{width}", f"{cell.upper()} {layers}×{width}", "none", drop), build


def draw_tabular(rng: np.random.Generator, sizes: Sequence[int], n_numeric: int, n_out: int) -> Drawn:
    """An embedding per categorical column, then an MLP, mostly with batch norm and dropout."""
    widths = [log_integer(rng, 24, 128)]
    while len(widths) < 3 and rng.random() < 0.6:
        widths.append(max(16, widths[-1] // int(rng.integers(1, 3))))
    norm, drop = bool(rng.random() < 0.75), draw_dropout(rng, 0.65)
    embedded = pick(rng, (None, 16, 24, 32))
    activation, gain = pick(rng, ("relu", "gelu", "silu", "elu")), log_uniform(rng, 0.8, 1.8)
    build = partial(TabularNet, sizes, n_numeric, widths, n_out, norm, drop, activation, gain, embedded)
    name, title = (f"tabular{times.join(map(str, widths))}" for times in "x×")
    return _label(name, title, "batch" if norm else "none", drop), build


def draw_bag(rng: np.random.Generator, vocabulary: int, n_out: int) -> Drawn:
    """Averaged word vectors, then up to two hidden layers."""
    d, scale = pick(rng, (16, 24, 32)), log_uniform(rng, 0.05, 1)
    hidden = (log_integer(rng, 16, 64),) * int(rng.integers(0, 3))
    norm, drop = choose(rng, MLP_NORMS), draw_dropout(rng, 0.45)
    build = partial(AveragedWords, vocabulary, d, hidden, n_out, scale, norm, drop)
    name, title = f"bag{vocabulary}x{d}x{len(hidden)}", f"bag {vocabulary}×{d}×{len(hidden)}"
    return _label(name, title, norm if hidden else "none", drop), build
