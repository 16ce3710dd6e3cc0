"""MLP-Mixer: perceptrons over places and over channels in turns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.workloads.networks.small import dropout


class _Layer(nn.Module):
    """(B, places, d) -> the same."""

    def __init__(self, places: int, d: int, hidden: tuple[int, int], drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.places = nn.Sequential(nn.Linear(places, hidden[0]), nn.GELU(), nn.Linear(hidden[0], places))
        self.channels = nn.Sequential(nn.Linear(d, hidden[1]), nn.GELU(), nn.Linear(hidden[1], d))
        self.drop = dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2))
        return x + self.drop(self.channels(self.norm2(x)))


class Mixer(nn.Module):
    """Images (B, c, h, w) -> (B, n_out) (Tolstikhin et al. 2021, arXiv:2105.01601). `patch` divides both sides.

    Channels have `hidden` times as many hidden units as numbers, places half as many as channels.
    """

    def __init__(
        self, shape: Sequence[int], patch: int, d: int, blocks: int, n_out: int, drop: float = 0.0, hidden: int = 4
    ) -> None:
        super().__init__()
        self.patch = patch
        places = math.prod(side // patch for side in shape[1:])
        self.patches = nn.Conv2d(shape[0], d, patch, stride=patch)
        self.layers = nn.Sequential(*(_Layer(places, d, (d // 2, hidden * d), drop) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, places, d)
        return self.head(self.norm(self.layers(x)).mean(1))
