"""Augmentation of batches of images, as `Workload.augment` wants it; draws come from torch's global generator."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, c, h, w), each shifted by up to one place along either side, half of them mirrored."""
    rows, columns = torch.randint(-1, 2, (2, len(x), 1))
    b, c, h, w = x.shape
    down, across = (torch.arange(h) - rows) % h, (torch.arange(w) - columns) % w  # (B, h), (B, w)
    across = torch.where(torch.rand(b, 1) < 0.5, across.flip(1), across)
    x = x.gather(2, down[:, None, :, None].expand(b, c, h, w))
    return x.gather(3, across[:, None, None, :].expand(b, c, h, w)), y
