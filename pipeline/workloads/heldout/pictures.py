"""Held-out recipes on images and signals: strokes, MNIST, ponds and strings; one task each.

Optimizer, decay, clipping, smoothing, augmentation and default rate follow the source in a recipe's docstring. The
sizes are small ones of its kind.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from pipeline.workloads.base import Data, Family, Workload
from pipeline.workloads.benchmark.recipes import ADAM, SGD, SPARE, WARM, examples, noised, recipe, shifted
from pipeline.workloads.building.sampling import Splits, corrupt, pick
from pipeline.workloads.building.training_losses import Smoothed
from pipeline.workloads.datasets import packaged
from pipeline.workloads.heldout import data as made
from pipeline.workloads.networks.deep_convnets import Autoencoder, Denoiser, PlainNet, ResidualNet, UNet
from pipeline.workloads.networks.deep_networks import TabularNet, VisionTransformer

LETTERS = 16


def _strokes(rng: np.random.Generator, n_train: int, side: int, noise: float) -> Splits:
    letters = made.alphabet(rng, LETTERS)
    return examples(rng, *made.strokes(rng, letters, n_train + SPARE, side, noise), n_train)


def _mnist(rng: np.random.Generator, n_train: int = 2688) -> Splits:
    x, y = packaged.mnist()
    return examples(rng, (x[:, None] - np.float32(0.13)) / np.float32(0.28), y, n_train)


def strokes_residual(rng: np.random.Generator) -> Workload:
    """Wide residual networks (arXiv:1605.07146): SGD with Nesterov momentum, decay 5e-4, shifts."""
    build = partial(ResidualNet, (1, 8, 8), (8, 16, 24), 1, LETTERS, "batch", drop=pick(rng, (0.0, 0.1)))
    return recipe(
        "strokes_residual", "strokes-residual-batch", _strokes(rng, 6000, 8, 0.15), build, "sgd", 32, 4,
        weight_decay=5e-4, nesterov=True, augment=shifted, textbook=SGD,
    )  # fmt: skip


def mnist_residual(rng: np.random.Generator) -> Workload:
    """timm's AdamW recipes (arXiv:2110.00476): decay .05, label smoothing, group norm for small batches."""
    build = partial(ResidualNet, (1, 14, 14), (12, 24), 1, 10, "group", pick(rng, ("relu", "silu")), stem=2)
    return recipe(
        "mnist_residual", "mnist-residual-group", _mnist(rng), build, "adamw", 32, 8,
        weight_decay=0.05, train_loss=Smoothed(0.1), textbook=ADAM,
    )  # fmt: skip


def mnist_plain(rng: np.random.Generator) -> Workload:
    """VGG with batch norm and dropout as commonly trained on CIFAR: SGD with momentum, decay 5e-4, shifts."""
    build = partial(
        PlainNet, (1, 14, 14), (16, 48), 1, 10, "batch", pick(rng, ("relu", "silu")), drop=0.3, hidden=64, stem=2
    )
    return recipe(
        "mnist_plain", "mnist-plain-batch-dropout", _mnist(rng), build, "sgd", 32, 10,
        weight_decay=5e-4, augment=shifted, textbook=SGD,
    )  # fmt: skip


def strokes_plain(rng: np.random.Generator) -> Workload:
    """Keras' conv nets without normalisation, dropout before the head, Adam; a fifth of many labels wrong."""
    build = partial(PlainNet, (1, 8, 8), (16, 40), 1, LETTERS, "none", pick(rng, ("relu", "elu")), drop=0.3)
    splits = corrupt(rng, _strokes(rng, 12_000, 8, 0.15), 0.2, LETTERS)
    return recipe("strokes_plain", "strokes-plain-noisy-labels", splits, build, "adam", 32, 2, textbook=ADAM)


def mnist_wide(rng: np.random.Generator) -> Workload:
    """Keras' mnist_mlp: two wide layers with dropout .2, Adam, many epochs; a sixth of the labels wrong."""
    build = partial(TabularNet, (), 196, (256, 256), 10, norm=False, drop=0.2, activation=pick(rng, ("relu", "gelu")))
    flat = _mnist(rng)
    splits = Splits(*(Data(part.x.flatten(1), part.y) for part in (flat.train, flat.val, flat.test)))
    splits = corrupt(rng, splits, 1 / 6, 10)
    return recipe("mnist_wide", "mnist-wide-noisy-labels", splits, build, "adam", 64, 20, textbook=ADAM)


def strokes_vit(rng: np.random.Generator) -> Workload:
    """A vision transformer as DeiT trains it (arXiv:2012.12877): AdamW, decay .05, clipping, smoothing, warm-up."""
    build = partial(VisionTransformer, (1, 9, 9), 3, 24, 2, pick(rng, (2, 3)), LETTERS, 0.1, hidden=2)
    return recipe(
        "strokes_vit", "strokes-vit", _strokes(rng, 6000, 9, 0.15), build, "adamw", 32, 5,
        weight_decay=0.05, clip=1.0, train_loss=Smoothed(0.1), textbook=WARM,
    )  # fmt: skip


def strings_residual(rng: np.random.Generator) -> Workload:
    """A one-dimensional residual network for time series (arXiv:1611.06455), by SGD with momentum, decay 1e-4."""
    splits = examples(rng, *made.strings(rng, 5000 + SPARE, 10, 0.8), 5000)
    build = partial(ResidualNet, (1, 40), (12, 16, 24), 1, 10, "batch", pick(rng, ("relu", "elu")), stem=2)
    return recipe(
        "strings_residual", "strings-residual-batch", splits, build, "sgd", 32, 5,
        weight_decay=1e-4, textbook=SGD,
    )  # fmt: skip


def strokes_autoencoder(rng: np.random.Generator) -> Workload:
    """Keras' convolutional autoencoder: Adam, no normalisation."""
    x = made.clean_strokes(rng, made.alphabet(rng, 40), 5000 + SPARE, 8)
    build = partial(Autoencoder, (1, 8, 8), (8, 24), pick(rng, (8, 12)))
    splits = examples(rng, x, np.moveaxis(x, 1, -1).copy(), 5000)
    return recipe("strokes_autoencoder", "strokes-autoencoder", splits, build, "adam", 32, 5, textbook=ADAM)


def strokes_denoiser(rng: np.random.Generator) -> Workload:
    """DnCNN (arXiv:1608.03981) with Adam: batch norm, fresh noise in every step."""
    x = made.clean_strokes(rng, made.alphabet(rng, 40), 4000 + SPARE, 8)
    splits, noise = examples(rng, x, np.moveaxis(x, 1, -1).copy(), 4000), pick(rng, (0.5, 0.8))
    for part in (splits.val, splits.test):
        part.x.add_(noise * torch.from_numpy(rng.standard_normal(part.x.shape).astype(np.float32)))
    build = partial(Denoiser, (1, 8, 8), 10, 4)
    return recipe(
        "strokes_denoiser", "strokes-denoiser", splits, build, "adam", 32, 5,
        augment=partial(noised, deviation=noise), textbook=ADAM,
    )  # fmt: skip


def ponds_unet(rng: np.random.Generator) -> Workload:
    """A U-Net that forecasts waves, as surrogates of fluids are trained: AdamW, group norm."""
    splits = examples(rng, *made.ponds(rng, 5000 + SPARE, 8, 0.1), 5000)
    build = partial(UNet, (3, 8, 8), (8, 12, 16), 1, "group", pick(rng, ("gelu", "silu")))
    return recipe("ponds_unet", "ponds-unet-group", splits, build, "adamw", 32, 5, weight_decay=0.01, textbook=ADAM)


def crossed_unet(rng: np.random.Generator) -> Workload:
    """Keras' U-Net for segmentation: batch norm, Adam; two letters that cover each other."""
    splits = examples(rng, *made.crossed_strokes(rng, made.alphabet(rng, 12), 5000 + SPARE, 8, 0.2), 5000)
    build = partial(UNet, (1, 8, 8), (8, 12, 16), 3, drop=pick(rng, (0.0, 0.2)))
    return recipe("crossed_unet", "crossed-unet-batch", splits, build, "adam", 32, 4, textbook=ADAM)


FAMILIES = (
    Family("strokes_residual", "heldout", strokes_residual, "ordinary", "strokes residual net batch norm", frozen=1),
    Family("mnist_residual", "heldout", mnist_residual, "ordinary", "MNIST residual net group norm", frozen=1),
    Family("mnist_plain", "heldout", mnist_plain, "ordinary", "MNIST conv net batch norm dropout", frozen=1),
    Family("strokes_plain", "heldout", strokes_plain, "ordinary", "strokes conv net noisy labels", frozen=1),
    Family("mnist_wide", "heldout", mnist_wide, "ordinary", "MNIST wide MLP noisy labels", frozen=1),
    Family("strokes_vit", "heldout", strokes_vit, "ordinary", "strokes vision transformer", frozen=1),
    Family("strings_residual", "heldout", strings_residual, "ordinary", "strings residual net batch norm", frozen=1),
    Family("strokes_autoencoder", "heldout", strokes_autoencoder, "ordinary", "strokes autoencoder", frozen=1),
    Family("strokes_denoiser", "heldout", strokes_denoiser, "ordinary", "strokes denoiser", frozen=1),
    Family("ponds_unet", "heldout", ponds_unet, "ordinary", "ponds U-Net group norm", frozen=1),
    Family("crossed_unet", "heldout", crossed_unet, "ordinary", "crossed U-Net batch norm", frozen=1),
)
