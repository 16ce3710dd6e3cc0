"""Families of wide networks: the sizes at which people make their first try, within the means of two cores.

Each training costs FLOPS at most. So wide and deep networks have small batches of short sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.workloads.base import Data, Family, Workload
from pipeline.workloads.building import augmentation
from pipeline.workloads.building.architectures import Drawn
from pipeline.workloads.building.recipes import Network, Sizes, assemble, choose
from pipeline.workloads.building.sampling import Build, Splits, corrupt, log_integer, log_uniform, pick, split
from pipeline.workloads.building.wide_networks import (
    draw_encoder,
    draw_language_model,
    draw_vision,
    draw_wide_convnet,
    draw_wide_perceptron,
    draw_wide_recurrent,
)
from pipeline.workloads.datasets import grammars
from pipeline.workloads.datasets.images import draw_images
from pipeline.workloads.datasets.windows import next_symbol

Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

AUGMENTED = 0.3  # share of the classifiers of images
FLOPS = 1.6e12  # of a training, at most
STEPS = (200, 600)
EPOCHS = (1, 12)
BATCHES = {16: 0.35, 32: 0.45, 64: 0.20}
HELD_BACK = 768  # validation and test examples together
EXAMPLES = (1500, 20_000)
WRONG = (0.0, 0.0, 0.0, 0.1, 0.3)  # shares of wrong labels


def _sizes(rng: np.random.Generator) -> Sizes:
    """Steps, batch and examples, each log-uniform but for the batch."""
    n_steps, batch_size = log_integer(rng, *STEPS), choose(rng, BATCHES)
    n_train = round(n_steps * batch_size / log_uniform(rng, *EPOCHS))
    return Sizes(int(np.clip(n_train, *EXAMPLES)), n_steps, batch_size)


def affordable(
    rng: np.random.Generator, splits: Splits, sizes: Sizes, draw: Callable[[], Drawn]
) -> tuple[Drawn, Sizes]:
    """A network whose training costs FLOPS at most, if need be with a smaller batch, then with fewer steps."""
    while True:
        drawn = draw()
        per_example = work(drawn[1], splits.train.x[:4]) / 4
        batch_size, n_steps = sizes.batch_size, sizes.n_steps
        while batch_size > min(BATCHES) and per_example * batch_size * n_steps > FLOPS:
            batch_size //= 2
        n_steps = min(n_steps, int(FLOPS / (per_example * batch_size)))
        if n_steps >= STEPS[0]:
            return drawn, replace(sizes, batch_size=batch_size, n_steps=n_steps)


def flops(workload: Workload) -> float:
    """Of a whole training."""
    return work(workload.build, workload.train.x[:4]) / 4 * workload.batch_size * workload.n_steps


def work(build: Build, batch: Tensor) -> float:
    """FLOPs of a training step of a network on a batch, about: three times those of its forward pass."""
    model = build()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(batch)
    return 3.0 * counter.get_total_flops()


def _assembled(
    rng: np.random.Generator, family: str, network: Network, data: str, splits: Splits, sizes: Sizes,
    draw: Callable[[], Drawn], augment: Augment | None = None,
) -> Workload:  # fmt: skip
    (label, build), sizes = affordable(rng, splits, sizes, draw)
    label = label.of(data).marked("moved" * (augment is not None))
    return assemble(rng, family, "ordinary", network, label, splits, build, sizes, augment=augment)


def wide_gpt(rng: np.random.Generator) -> Workload:
    """Next symbols of chains or of sentences of templates, by a language model; up to twelve passes."""
    sizes, vocabulary, length = _sizes(rng), log_integer(rng, 16, 128), log_integer(rng, 16, 48)
    kind = pick(rng, ("chain", "order2", "templates", "templates"))
    sequences = grammars.WRITERS[kind](rng, sizes.n_train + HELD_BACK, length + 1, vocabulary)
    splits = next_symbol(rng, sequences, sizes.n_train)
    return _assembled(
        rng, "wide_gpt", "transformer", f"{kind}{vocabulary}", splits, sizes,
        lambda: draw_language_model(rng, vocabulary, length),
    )  # fmt: skip


def _authors(rng: np.random.Generator, sizes: Sizes, length: int, classes: int) -> tuple[int, Splits]:
    vocabulary = log_integer(rng, 500, 5000)
    x, y = grammars.authors(rng, sizes.n_train + HELD_BACK, length, vocabulary, classes)
    return vocabulary, corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, WRONG), classes)


def wide_encoder(rng: np.random.Generator) -> Workload:
    """Who wrote a text, by an encoder; sometimes with wrong labels."""
    sizes, length, classes = _sizes(rng), log_integer(rng, 16, 48), int(rng.integers(2, 9))
    vocabulary, splits = _authors(rng, sizes, length, classes)
    return _assembled(
        rng, "wide_encoder", "transformer", f"authors{classes}", splits, sizes,
        lambda: draw_encoder(rng, vocabulary, length, classes),
    )  # fmt: skip


def wide_recurrent(rng: np.random.Generator) -> Workload:
    """Who wrote a text, or the next symbols of one, by an LSTM or a GRU."""
    sizes, length = _sizes(rng), log_integer(rng, 12, 32)
    if rng.random() < 0.5:
        classes = int(rng.integers(2, 9))
        vocabulary, splits = _authors(rng, sizes, length, classes)
        return _assembled(
            rng, "wide_recurrent", "recurrent", f"authors{classes}", splits, sizes,
            lambda: draw_wide_recurrent(rng, classes, vocabulary, True),
        )  # fmt: skip
    vocabulary = log_integer(rng, 16, 128)
    splits = next_symbol(rng, grammars.templates(rng, sizes.n_train + HELD_BACK, length + 1, vocabulary), sizes.n_train)
    return _assembled(
        rng, "wide_recurrent", "recurrent", f"templates{vocabulary}", splits, sizes,
        lambda: draw_wide_recurrent(rng, vocabulary, vocabulary, False),
    )  # fmt: skip


def _pictures(rng: np.random.Generator, sizes: Sizes) -> tuple[str, Splits, int]:
    kind, x, y = draw_images(rng, sizes.n_train + HELD_BACK, int(pick(rng, (12, 16, 16))))
    classes = int(y.max()) + 1
    return f"{kind}{classes}", corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, WRONG), classes), classes


def wide_vit(rng: np.random.Generator) -> Workload:
    """Gratings, blobs, cells or polygons, by a vision transformer or an MLP-Mixer."""
    sizes = _sizes(rng)
    data, splits, classes = _pictures(rng, sizes)
    augment = augmentation.moved if rng.random() < AUGMENTED else None
    shape = splits.train.x.shape[1:]
    return _assembled(
        rng, "wide_vit", "transformer", data, splits, sizes, lambda: draw_vision(rng, shape, classes), augment
    )


def wide_conv(rng: np.random.Generator) -> Workload:
    """The same, by a residual or a plain convolutional net."""
    sizes = _sizes(rng)
    data, splits, classes = _pictures(rng, sizes)
    augment = augmentation.moved if rng.random() < AUGMENTED else None
    shape = splits.train.x.shape[1:]
    return _assembled(
        rng, "wide_conv", "conv", data, splits, sizes, lambda: draw_wide_convnet(rng, shape, classes), augment
    )


def wide_perceptron(rng: np.random.Generator) -> Workload:
    """The same, all numbers of an image in one row, by an MLP."""
    sizes = _sizes(rng)
    data, splits, classes = _pictures(rng, sizes)
    splits = Splits(*(Data(part.x.flatten(1), part.y) for part in (splits.train, splits.val, splits.test)))
    n_in = splits.train.x.shape[1]
    return _assembled(
        rng, "wide_perceptron", "mlp", data, splits, sizes, lambda: draw_wide_perceptron(rng, n_in, classes)
    )


FAMILIES = (
    Family("wide_gpt", "train", wide_gpt, "ordinary", "wide", dear=True),
    Family("wide_encoder", "train", wide_encoder, "ordinary", "wide", dear=True),
    Family("wide_vit", "train", wide_vit, "ordinary", "wide", dear=True),
    Family("wide_conv", "train", wide_conv, "ordinary", "wide", dear=True),
    Family("wide_recurrent", "train", wide_recurrent, "ordinary", "wide", dear=True),
    Family("wide_perceptron", "train", wide_perceptron, "ordinary", "wide", dear=True),
)
