"""Deep convolutional networks for signals (1-d) and images (2-d): residual, plain, autoencoder, denoiser, U-Net.

Families draw their parameters: depth, width, normalisation, activation, gain of the initialisation, dropout. Networks
with an answer per place return channels last, (B, *size, n_out), as losses for classes expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.workloads.networks.small import ACTIVATIONS, dropout, initialise

NORMS = ("batch", "group", "none")
_CONVS, _BATCH_NORMS = {1: nn.Conv1d, 2: nn.Conv2d}, {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d}


def _norm(kind: str, channels: int, dims: int) -> nn.Module:
    """One of NORMS; groups of four channels at least."""
    if kind == "batch":
        return _BATCH_NORMS[dims](channels)
    return nn.GroupNorm(max(1, math.gcd(channels // 4, channels)), channels) if kind == "group" else nn.Identity()


class Conv(nn.Module):
    """Convolution, normalisation, activation ("" for none): (B, a, *size) -> (B, b, *size / stride)."""

    def __init__(
        self, dims: int, a: int, b: int, norm: str, activation: str, gain: float, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = _CONVS[dims](a, b, kernel, stride, kernel // 2, bias=norm == "none")
        self.norm = _norm(norm, b, dims)
        self.activation = ACTIVATIONS[activation] if activation else None
        initialise(self.conv, gain)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a short cut (He et al. 2015, arXiv:1512.03385), dropout between them."""

    def __init__(
        self, dims: int, a: int, b: int, norm: str, activation: str, gain: float, drop: float, stride: int
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.first = Conv(dims, a, b, norm, activation, gain, stride=stride)
        self.drop = dropout(drop)
        self.second = Conv(dims, b, b, norm, "", gain)
        same = stride == 1 and a == b
        self.short = nn.Identity() if same else Conv(dims, a, b, norm, "", 1.0, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.short(x) + self.second(self.drop(self.first(x))))


class ResidualNet(nn.Module):
    """(B, c, *size) -> (B, n_out): a stem, a stage per width, the mean over places, a linear layer.

    Every stage after the first halves the sides. `shape` is that of one input, (c, *size); `stem`: stride of the stem;
    `drop`: dropout inside the blocks.
    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        n_out: int,
        norm: str = "batch",
        activation: str = "relu",
        gain: float = 1.4,
        drop: float = 0.0,
        stem: int = 1,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        self.stem = Conv(dims, shape[0], widths[0], norm, activation, gain, stride=stem)
        layers: list[nn.Module] = []
        for stage, (a, b) in enumerate(pairwise([widths[0], *widths])):
            for i in range(blocks):
                stride = 2 if stage and not i else 1
                layers.append(_ResidualBlock(dims, b if i else a, b, norm, activation, gain, drop, stride))
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], n_out)
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).flatten(2).mean(-1))


class PlainNet(nn.Module):
    """(B, c, *size) -> (B, n_out), of VGG kind (Simonyan & Zisserman 2014, arXiv:1409.1556).

    Per width `convs` convolutions and a pooling that halves the sides; then dropout and two linear layers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        convs: int,
        n_out: int,
        norm: str = "batch",
        activation: str = "relu",
        gain: float = 1.4,
        drop: float = 0.0,
        hidden: int = 32,
        stem: int = 1,
    ) -> None:
        super().__init__()
        dims, size, layers = len(shape) - 1, [-(-side // stem) for side in shape[1:]], []
        for stage, (a, b) in enumerate(pairwise([shape[0], *widths])):
            for i in range(convs):
                stride = 1 if stage or i else stem
                layers.append(Conv(dims, b if i else a, b, norm, activation, gain, stride=stride))
            layers.append(_MAX_POOLS[dims](2))
            size = [side // 2 for side in size]
        self.features = nn.Sequential(*layers)
        self.activation, self.drop = ACTIVATIONS[activation], dropout(drop)
        self.hidden, self.head = nn.Linear(widths[-1] * math.prod(size), hidden), nn.Linear(hidden, n_out)
        initialise(self.hidden, gain)
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.features(x).flatten(1))
        return self.head(self.drop(self.activation(self.hidden(x))))


def _up(x: Tensor) -> Tensor:
    """Every place twice along every side: (B, c, *size) -> (B, c, *2 size)."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(2, axis)
    return x


class Autoencoder(nn.Module):
    """(B, c, *size) -> (B, *size, c) through `code` numbers; the sides are halved once per width."""

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        code: int,
        norm: str = "none",
        activation: str = "relu",
        gain: float = 1.4,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        self.small = (widths[-1], *(side >> len(widths) for side in shape[1:]))
        self.down = nn.Sequential(
            *(Conv(dims, a, b, norm, activation, gain, stride=2) for a, b in pairwise([shape[0], *widths]))
        )
        self.code, self.decode = nn.Linear(math.prod(self.small), code), nn.Linear(code, math.prod(self.small))
        outward = [*reversed(widths), widths[0]]
        self.up = nn.ModuleList(Conv(dims, a, b, norm, activation, gain) for a, b in pairwise(outward))
        self.head = Conv(dims, widths[0], shape[0], "none", "", 1.0)
        for layer in (self.code, self.decode):
            initialise(layer, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.decode(self.code(self.down(x).flatten(1))).unflatten(1, self.small)
        for layer in self.up:
            x = layer(_up(x))
        return self.head(x).movedim(1, -1)


class Denoiser(nn.Module):
    """(B, c, *size) -> (B, *size, c): the input minus what `depth` convolutions predict as noise.

    Zhang et al. 2016, arXiv:1608.03981.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        depth: int,
        norm: str = "batch",
        activation: str = "relu",
        gain: float = 1.4,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        inner = (Conv(dims, width, width, norm, activation, gain) for _ in range(depth - 2))
        first = Conv(dims, shape[0], width, "none", activation, gain)
        self.layers = nn.Sequential(first, *inner, Conv(dims, width, shape[0], "none", "", 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.layers(x)).movedim(1, -1)


class UNet(nn.Module):
    """(B, c, *size) -> (B, *size, n_out): down, up, and short cuts across (Ronneberger et al. 2015, arXiv:1505.04597).

    The sides are halved between widths; `drop`: dropout at the bottom.
    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        n_out: int,
        norm: str = "batch",
        activation: str = "relu",
        gain: float = 1.4,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        steps = list(pairwise([shape[0], *widths]))
        self.down = nn.ModuleList(
            Conv(dims, a, b, norm, activation, gain, stride=2 if level else 1) for level, (a, b) in enumerate(steps)
        )
        self.drop = dropout(drop)
        self.up = nn.ModuleList(
            Conv(dims, below + across, across, norm, activation, gain)
            for across, below in reversed(list(pairwise(widths)))
        )
        self.head = Conv(dims, widths[0], n_out, "none", "", 1.0, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for layer in self.down:
            x = layer(x)
            levels.append(x)
        x = self.drop(levels.pop())
        for layer, across in zip(self.up, reversed(levels), strict=True):
            x = layer(torch.cat([_up(x), across], 1))
        return self.head(x).movedim(1, -1)
