"""Fine-tuning of wide networks: encoders pretrained on masked words, vision nets pretrained on other images."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.library_starts import Started
from pipeline.workloads.building.pretraining import BATCH, batches, masked_batches, pretrained
from pipeline.workloads.building.recipes import Sizes, assemble, choose
from pipeline.workloads.building.sampling import Build, log_integer, log_uniform, split
from pipeline.workloads.building.wide_networks import draw_encoder, draw_vision, draw_wide_convnet
from pipeline.workloads.datasets import grammars
from pipeline.workloads.datasets.images import draw_images
from pipeline.workloads.recorded.wide import STEPS, affordable

PRETRAINING = (120, 300)  # steps of it
HELD_BACK = 512  # validation and test examples together
BATCHES = {16: 0.6, 32: 0.4}
EPOCHS = (2, 10)
EXAMPLES = (400, 6000)


def _sizes(rng: np.random.Generator) -> Sizes:
    n_steps, batch_size = log_integer(rng, *STEPS), choose(rng, BATCHES)
    n_train = round(n_steps * batch_size / log_uniform(rng, *EPOCHS))
    return Sizes(int(np.clip(n_train, *EXAMPLES)), n_steps, batch_size)


def wide_finetune_encoder(rng: np.random.Generator) -> Workload:
    """Who wrote a text, by an encoder that has learned to name masked words of other texts of all authors."""
    sizes, length, classes = _sizes(rng), log_integer(rng, 16, 32), int(rng.integers(2, 7))
    vocabulary, n_steps = log_integer(rng, 500, 4000), log_integer(rng, *PRETRAINING)
    mine = sizes.n_train + HELD_BACK
    x, y = grammars.authors(rng, mine + BATCH * n_steps // 4, length, vocabulary, classes)
    splits = split(rng, x[:mine], y[:mine], sizes.n_train)
    (label, build), sizes = affordable(
        rng, splits, sizes, lambda: draw_encoder(rng, vocabulary + 1, length, classes)
    )  # fmt: skip
    start = pretrained(rng, masking(build), masked_batches(rng, x[mine:], vocabulary, n_steps), ("masked.",))
    label = label.of(f"authors{classes}")
    return assemble(
        rng, "wide_finetune_encoder", "finetuning", "transformer", label, splits, build, sizes, start=start
    )  # fmt: skip


def masking(build: Build) -> Build:
    """The same encoder with a head that names masked words."""
    assert isinstance(build, Started)
    encoder: Any = build.build
    return Started(partial(encoder, n_out=None), build.start)


def wide_finetune_pictures(rng: np.random.Generator) -> Workload:
    """Images of one kind, by a net that has learned to tell those of another; its head is new."""
    sizes, side, attending = _sizes(rng), int(rng.choice((12, 16))), bool(rng.random() < 0.6)
    n_steps = log_integer(rng, *PRETRAINING)
    old, x, y = draw_images(rng, 4000, side)
    channels = x.shape[1]
    kind, new, targets = draw_images(rng, sizes.n_train + HELD_BACK, side)
    new = np.repeat(new.mean(1, keepdims=True), channels, 1) if new.shape[1] != channels else new
    splits = split(rng, np.ascontiguousarray(new, np.float32), targets, sizes.n_train)
    draw = draw_vision if attending else draw_wide_convnet
    (label, build), sizes = affordable(rng, splits, sizes, lambda: draw(rng, x.shape[1:], 10))
    start = pretrained(rng, build, batches(rng, x, y, n_steps), ("head.",))
    label, network = label.of(f"{old}-{kind}", f"{old} {kind}"), "transformer" if attending else "conv"
    return assemble(rng, "wide_finetune_pictures", "finetuning", network, label, splits, build, sizes, start=start)


FAMILIES = (
    Family("wide_finetune_encoder", "train", wide_finetune_encoder, "finetuning", "wide fine-tuned", dear=True),
    Family(
        "wide_finetune_pictures", "train", wide_finetune_pictures, "finetuning", "wide fine-tuned pictures", dear=True
    ),
)  # fmt: skip
