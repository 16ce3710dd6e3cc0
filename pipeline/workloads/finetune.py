"""Fine-tuning families: a network trained on one version of the data continues on another, with few examples.

The pretrained weights are the workload's `start`, the same for every run; the two versions share no example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.workloads import data, recipes, transfer_families
from pipeline.workloads.architectures import draw_convnet, draw_perceptron
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.recipes import draw_sizes
from pipeline.workloads.sampling import (
    Build,
    assemble,
    cross_entropy,
    draw_budget,
    draw_seed,
    log_integer,
    log_uniform,
    pick,
    random_convnet,
    random_mlp,
    split,
)
from pipeline.workloads.synthetic import draw_signals

BATCH = 32  # of the pretraining
GREY = np.float32(0.5)  # mean of images: networks train badly on what is all positive

Shift = tuple[str, np.ndarray, np.ndarray]  # label, x, y of the version to fine-tune on


def pretrain(rng: np.random.Generator, build: Build, x: np.ndarray, y: np.ndarray, n_steps: int) -> dict[str, Tensor]:
    """Parameters after `n_steps` of Adam with a linearly falling rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(rng))
        model = build()
    batches = torch.from_numpy(rng.integers(0, len(x), (n_steps, BATCH)))
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), lr=log_uniform(rng, 1e-3, 5e-3), fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, n_steps)
    for batch in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def shift_image(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
    """Images (n, h, w): turned, moved, negative, noisy, or with other names for the classes."""
    kind = pick(rng, ("turned", "moved", "negative", "noisy", "renamed"), (0.3, 0.25, 0.15, 0.1, 0.2))
    if kind == "turned":
        x = ndimage.rotate(x, rng.uniform(30, 180), axes=(1, 2), reshape=False, order=1)
    elif kind == "moved":
        x = ndimage.shift(x, (0, *rng.choice((-2, 2), 2)), order=0)
    elif kind == "negative":
        x = 1 - x
    elif kind == "noisy":
        x = x + rng.uniform(0.4, 0.8) * rng.standard_normal(x.shape)
    else:
        y = rng.permutation(10)[y]
    return kind, np.ascontiguousarray(x, dtype=np.float32), y


def shift_signal(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
    """Signals (n, 1, length): reversed, upside down, or with other names for the classes."""
    kind = pick(rng, ("reversed", "inverted", "renamed"))
    if kind == "renamed":
        return kind, x, rng.permutation(10)[y]
    return kind, np.ascontiguousarray(x[:, :, ::-1] if kind == "reversed" else -x), y


def _finetune(
    rng: np.random.Generator,
    family: str,
    table: data.Table,
    shift: Callable[[np.random.Generator, np.ndarray, np.ndarray], Shift],
    n_pretrain: int,
    n_train: int,
) -> Workload:
    """Signals with a channel axis go to a ConvNet, images (n, h, w) to an MLP."""
    x, y = table
    order = rng.permutation(len(x))
    old, new = order[:n_pretrain], order[n_pretrain:]
    convolve = x.shape[1] == 1
    flat = (lambda inputs: inputs) if convolve else (lambda inputs: inputs.reshape(len(inputs), -1))
    kind, shifted, targets = shift(rng, x[new], y[new])
    splits = split(rng, flat(shifted), targets, n_train)
    budget = draw_budget(rng, len(splits.train), batch=(8, 32))
    if convolve:
        label, build = random_convnet(rng, x.shape[1:], 10)
    else:
        n_in = splits.train.x.shape[1]
        label, build = random_mlp(rng, n_in, 10, budget.batch_size, (1, 3), (32, 128), gains=(1, 1.6))
        label = f"mlp-{label}"
    start = pretrain(rng, build, flat(x[old]), y[old], log_integer(rng, 100, 600))
    return assemble(rng, family, f"{kind}-{label}", splits, build, budget, start=start)


def _tuned(
    rng: np.random.Generator,
    family: str,
    table: data.Table,
    shift: Callable[[np.random.Generator, np.ndarray, np.ndarray], Shift],
    n_pretrain: int,
    examples: tuple[int, int],
) -> Workload:
    """Like `_finetune`, by networks and settings as they are recorded; `examples`: bounds of their number."""
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
    start = transfer_families.pretrained(rng, build, transfer_families.batches(rng, x[old], y[old], n_steps))
    splits = split(rng, shifted, targets, sizes.n_train)
    network = "conv" if convolve else "mlp"
    return recipes.assemble(rng, family, "finetuning", network, f"{kind}-{label}", splits, build, sizes, start=start)


def finetune_digits(rng: np.random.Generator) -> Workload:
    """scikit-learn digits, 40-450 examples of the new version."""
    return _tuned(rng, "finetune_digits", data.digits(), shift_image, 800, (40, 450))


def finetune_signals(rng: np.random.Generator) -> Workload:
    """Generated signals by a one-dimensional convolution, 200-4000 examples of the new version."""
    x, y = draw_signals(rng, 6500, 10, int(rng.integers(24, 49)))
    return _tuned(rng, "finetune_signals", (x[:, None], y), shift_signal, 2000, (200, 4000))


def finetune_tiles(rng: np.random.Generator) -> Workload:
    """Which of ten photographs a grey tile was cut from, by an MLP, 100-900 examples of the new version."""
    photos = rng.choice(data.PHOTOS, 10, replace=False)
    tiles = [data.photo_tiles(str(photo), False)[:, 0] for photo in photos]
    x, y = np.concatenate(tiles) - GREY, np.repeat(np.arange(10), [len(t) for t in tiles])

    def shift(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
        kind, x, y = shift_image(rng, x + GREY, y)
        return kind, x - GREY, y

    return _tuned(rng, "finetune_tiles", (x, y), shift, len(x) // 3, (100, 900))


def finetune_mnist1d(rng: np.random.Generator) -> Workload:
    """MNIST-1D by a one-dimensional convolution, 100-800 examples of the new version."""
    x, y = data.mnist1d()
    return _finetune(rng, "finetune_mnist1d", (x[:, None], y), shift_signal, 2000, log_integer(rng, 100, 800))


def mnist_finetune(rng: np.random.Generator) -> Workload:
    """MNIST, 60-100 turned and moved digits."""

    def turn_and_move(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Shift:
        x = ndimage.rotate(x, rng.uniform(20, 60) * rng.choice((-1, 1)), axes=(1, 2), reshape=False, order=1)
        return "turned", ndimage.shift(x, (0, *rng.choice((-2, 2), 2)), order=0), y

    return _finetune(rng, "mnist_finetune", data.mnist(), turn_and_move, 2000, log_integer(rng, 60, 100))


FAMILIES = (
    Family("finetune_digits", "train", finetune_digits, "finetuning"),
    Family("finetune_signals", "train", finetune_signals, "finetuning"),
    Family("finetune_tiles", "train", finetune_tiles, "finetuning"),
    Family("finetune_mnist1d", "selection", finetune_mnist1d, "finetuning"),
    Family("mnist_finetune", "heldout", mnist_finetune, "finetuning"),
)
