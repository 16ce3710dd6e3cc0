"""Fine-tuning families: a network trained on one version of the data continues on another, with few examples.

The pretrained weights are the workload's `start`, the same for every run; the two versions share no example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import pretraining, recipes
from pipeline.workloads.building.architectures import draw_convnet, draw_perceptron
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import log_integer, split
from pipeline.workloads.datasets import packaged
from pipeline.workloads.datasets.shifts import Shift, shift_image, shift_signal
from pipeline.workloads.recorded.synthetic import draw_signals

GREY = np.float32(0.5)  # mean of images: networks train badly on what is all positive


def _tuned(
    rng: np.random.Generator,
    family: str,
    table: packaged.Table,
    shift: Callable[[np.random.Generator, np.ndarray, np.ndarray], Shift],
    n_pretrain: int,
    examples: tuple[int, int],
) -> Workload:
    """Signals with a channel axis go to a conv net, images (n, h, w) to an MLP; `examples`: bounds of their number."""
    x, y = table
    convolve, order = x.shape[1] == 1, rng.permutation(len(x))
    sizes = draw_sizes(rng, "finetuning", examples, (300, 1500), deep=convolve)
    old, new = order[:n_pretrain], order[n_pretrain:]
    kind, shifted, targets = shift(rng, x[new], y[new])
    if convolve:
        label, build = draw_convnet(rng, x.shape[1:], 10)
    else:
        x, shifted = x.reshape(len(x), -1), shifted.reshape(len(shifted), -1)
        label, build = draw_perceptron(rng, x.shape[1], 10, sizes.batch_size, (1, 3), (32, 192), (1, 1.6))
    n_steps = log_integer(rng, 100, 400)
    start = pretraining.pretrained(rng, build, pretraining.batches(rng, x[old], y[old], n_steps))
    splits = split(rng, shifted, targets, sizes.n_train)
    network = "conv" if convolve else "mlp"
    return recipes.assemble(rng, family, "finetuning", network, label.of(kind), splits, build, sizes, start=start)


def finetune_digits(rng: np.random.Generator) -> Workload:
    """scikit-learn digits, 40-450 examples of the new version."""
    return _tuned(rng, "finetune_digits", packaged.digits(), shift_image, 800, (40, 450))


def finetune_signals(rng: np.random.Generator) -> Workload:
    """Generated signals by a one-dimensional convolution, 200-4000 examples of the new version."""
    x, y = draw_signals(rng, 6500, 10, int(rng.integers(24, 49)))
    return _tuned(rng, "finetune_signals", (x[:, None], y), shift_signal, 2000, (200, 4000))


def finetune_tiles(rng: np.random.Generator) -> Workload:
    """Which of ten photographs a grey tile was cut from, by an MLP, 100-900 examples of the new version."""
    photos = rng.choice(packaged.PHOTOS, 10, replace=False)
    tiles = [packaged.photo_tiles(str(photo), False)[:, 0] for photo in photos]
    x, y = np.concatenate(tiles) - GREY, np.repeat(np.arange(10), [len(t) for t in tiles])

    def shift(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
        kind, x, y = shift_image(rng, x + GREY, y)
        return kind, x - GREY, y

    return _tuned(rng, "finetune_tiles", (x, y), shift, len(x) // 3, (100, 900))


FAMILIES = (
    Family("finetune_digits", "train", finetune_digits, "finetuning", "fine-tuned digits"),
    Family("finetune_signals", "train", finetune_signals, "finetuning", "fine-tuned signals"),
    Family("finetune_tiles", "train", finetune_tiles, "finetuning", "fine-tuned tiles"),
)
