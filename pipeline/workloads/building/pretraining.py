"""Pretraining: the initial weights of fine-tuning workloads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.workloads.building.sampling import Build, cross_entropy, draw_seed, log_uniform

BATCH = 32  # examples in a step
MASKED = 0.15  # share of the words that are hidden (Devlin et al. 2018, arXiv:1810.04805)
Step = tuple[Tensor, Tensor]


def pretrained(
    rng: np.random.Generator, build: Build, steps: list[Step], heads: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """A state without the entries of `heads`, after steps of AdamW at a linearly falling rate.

    A step has inputs and classes; classes of -100 are ignored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(rng))
        model = build()
        optimizer = torch.optim.AdamW(model.parameters(), lr=log_uniform(rng, 1e-3, 5e-3), fused=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, len(steps))
        for inputs, targets in steps:
            optimizer.zero_grad()
            cross_entropy(model(inputs), targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return {name: value for name, value in model.state_dict().items() if not name.startswith(heads)}


def batches(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, n_steps: int) -> list[Step]:
    """Random batches of examples x (n, ...), y (n,)."""
    order = rng.integers(0, len(x), (n_steps, BATCH))
    return [(torch.from_numpy(x[rows]), torch.from_numpy(y[rows])) for rows in order]


def masked_batches(rng: np.random.Generator, texts: np.ndarray, vocabulary: int, n_steps: int) -> list[Step]:
    """Texts (n, T) whose masked words are `vocabulary`, and these words; -100 elsewhere."""
    texts = texts[rng.integers(0, len(texts), (n_steps, BATCH))]
    masked = rng.random(texts.shape) < MASKED
    inputs, targets = np.where(masked, vocabulary, texts), np.where(masked, texts, -100)
    return list(zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True))
