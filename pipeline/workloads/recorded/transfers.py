"""Fine-tuning deep networks: encoders pretrained on masked words, nets pretrained on other images."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.architectures import (
    draw_convnet,
    draw_dropout,
    draw_perceptron,
    draw_vision_transformer,
)
from pipeline.workloads.building.pretraining import BATCH, batches, masked_batches, pretrained
from pipeline.workloads.building.recipes import assemble, draw_sizes
from pipeline.workloads.building.sampling import Label, log_integer, log_uniform, pick, split
from pipeline.workloads.datasets import grammars
from pipeline.workloads.datasets.images import draw_images
from pipeline.workloads.datasets.mixed_tables import draw_table
from pipeline.workloads.networks.deep_networks import Encoder

PRETRAINING = (120, 300)  # steps of it
HELD_BACK = 512  # validation and test examples together


def finetune_encoder(rng: np.random.Generator) -> Workload:
    """Who wrote a text, by a post-norm encoder that has learned to name masked words of other texts of all authors."""
    sizes = draw_sizes(rng, "finetuning", (500, 6000), deep=True, epochs=(2, 8))
    vocabulary, classes, length = log_integer(rng, 1000, 4000), int(rng.integers(2, 6)), int(rng.integers(8, 13))
    n_steps = log_integer(rng, *PRETRAINING)
    x, y = grammars.authors(rng, sizes.n_train + HELD_BACK + BATCH * n_steps // 4, length, vocabulary, classes)
    d, blocks = pick(rng, ((16, 2), (24, 1), (24, 2), (32, 1), (32, 2)))
    drop, gain = draw_dropout(rng, 0.8, 0.2), log_uniform(rng, 0.5, 1)
    build = partial(Encoder, vocabulary + 1, length, d, blocks, 2, drop, gain=gain)
    mine = sizes.n_train + HELD_BACK
    start = pretrained(rng, build, masked_batches(rng, x[mine:], vocabulary, n_steps), ("masked.",))
    splits = split(rng, x[:mine], y[:mine], sizes.n_train)
    label = Label(f"encoder{blocks}x{d}", f"encoder {blocks}×{d}").of(f"authors{classes}")
    tuned = partial(build, n_out=classes)
    return assemble(rng, "finetune_encoder", "finetuning", "transformer", label, splits, tuned, sizes, start=start)


def finetune_pictures(rng: np.random.Generator) -> Workload:
    """Images of one kind, by a net that has learned to tell those of another; its head is new."""
    sizes = draw_sizes(rng, "finetuning", (300, 5000), deep=True)
    n_steps, attending = log_integer(rng, *PRETRAINING), bool(rng.random() < 0.3)
    old, x, y = draw_images(rng, 4000, 8)
    channels = x.shape[1]
    kind, new, targets = draw_images(rng, sizes.n_train + HELD_BACK, 8)
    new = np.repeat(new.mean(1, keepdims=True), channels, 1) if new.shape[1] != channels else new
    draw = draw_vision_transformer if attending else draw_convnet
    label, build = draw(rng, x.shape[1:], 10)
    start = pretrained(rng, build, batches(rng, x, y, n_steps), ("head.",))
    splits = split(rng, np.ascontiguousarray(new, np.float32), targets, sizes.n_train)
    network = "transformer" if attending else "conv"
    label = label.of(f"{old}-{kind}", f"{old} {kind}")
    return assemble(rng, "finetune_pictures", "finetuning", network, label, splits, build, sizes, start=start)


def finetune_table(rng: np.random.Generator) -> Workload:
    """Classes of rows, by an MLP that has learned other classes of such rows; its head is new."""
    sizes = draw_sizes(rng, "finetuning", (300, 4000), (300, 1500))
    n_steps, classes = log_integer(rng, *PRETRAINING), int(rng.integers(2, 7))
    table = draw_table(rng, 4000 + sizes.n_train + HELD_BACK, 6, 3)
    x = table.x[:, len(table.sizes) :]
    label, build = draw_perceptron(rng, x.shape[1], 6, sizes.batch_size, (2, 3), (48, 224), (1, 1.6))
    start = pretrained(rng, build, batches(rng, x[:4000], table.y[:4000], n_steps), ("head.",))
    new = x[4000:]
    scores = np.tanh(new @ rng.standard_normal((new.shape[1], 12)) / 2) @ rng.standard_normal((12, classes))
    y = (scores + rng.uniform(0, 1) * rng.standard_normal(scores.shape)).argmax(1)
    splits = split(rng, np.ascontiguousarray(new), y, sizes.n_train)
    return assemble(rng, "finetune_table", "finetuning", "mlp", label.of("rows"), splits, build, sizes, start=start)


FAMILIES = (
    Family("finetune_encoder", "train", finetune_encoder, "finetuning", "fine-tuned"),
    Family("finetune_pictures", "train", finetune_pictures, "finetuning", "fine-tuned pictures"),
    Family("finetune_table", "train", finetune_table, "finetuning", "fine-tuned table"),
)
