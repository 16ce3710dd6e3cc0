"""Networks of today that no recorded training has: for the large tasks of the benchmark.

All weights are drawn as PyTorch draws them, unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.workloads.networks.small import dropout


class _RMSNorm(nn.Module):
    """x / rms(x) times a gain (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def _rotated(x: Tensor) -> Tensor:
    """Queries or keys (B, heads, T, d), turned by their place (Su et al. 2021, arXiv:2104.09864)."""
    half = x.shape[-1] // 2
    pace = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * pace  # (T, half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


class _LlamaBlock(nn.Module):
    """(B, T, d) -> the same: causal attention with rotary places, then SwiGLU; no biases."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, hidden = heads, 8 * d // 3 // 8 * 8
        self.norm1, self.norm2 = _RMSNorm(d), _RMSNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(d, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = _rotated(q) @ _rotated(k).transpose(-1, -2) / math.sqrt(q.shape[-1])
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf, device=x.device).triu(1)
        x = x + self.o((torch.softmax(scores + mask, -1) @ v).transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """Next-symbol model: tokens (B, T) -> logits (B, T, vocabulary) (Touvron et al. 2023, arXiv:2302.13971).

    Weights N(0, 0.02^2), as in Transformers.
    """

    def __init__(self, vocabulary: int, d: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d)
        self.blocks = nn.Sequential(*(_LlamaBlock(d, heads) for _ in range(blocks)))
        self.norm, self.head = _RMSNorm(d), nn.Linear(d, vocabulary, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(tokens))))


class _Attention(nn.Module):
    """(B, T, d) -> the same: every place attends to all."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class _ScaledBlock(nn.Module):
    """Pre-norm attention and MLP, each times a gain per channel that starts small (LayerScale, arXiv:2103.17239)."""

    def __init__(self, d: int, heads: int, drop: float, scale: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = _Attention(d, heads)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.scale1, self.scale2 = (nn.Parameter(torch.full((d,), scale)) for _ in range(2))
        self.drop = dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.scale1 * self.attention(self.norm1(x)))
        return x + self.drop(self.scale2 * self.mlp(self.norm2(x)))


class TokenVit(nn.Module):
    """Images (B, c, h, w) -> (B, n_out): a convolutional stem, a class token, blocks with LayerScale."""

    def __init__(
        self, shape: Sequence[int], d: int, blocks: int, heads: int, n_out: int, drop: float = 0.0, scale: float = 0.1
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], d // 2, 3, 2, 1), nn.GELU(), nn.Conv2d(d // 2, d, 3, 2, 1)
        )  # a quarter of the sides
        places = math.prod(-(-side // 4) for side in shape[1:])
        self.token = nn.Parameter(0.02 * torch.randn(1, d))
        self.positions = nn.Parameter(0.02 * torch.randn(places + 1, d))
        self.blocks = nn.Sequential(*(_ScaledBlock(d, heads, drop, scale) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x)[:, 0]))


class SeriesTransformer(nn.Module):
    """Numbers (B, T, n_in) -> forecasts (B, n_out) from the mean over time."""

    def __init__(self, n_in: int, length: int, d: int, blocks: int, heads: int, n_out: int, drop: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.positions = nn.Linear(n_in, d), nn.Parameter(0.02 * torch.randn(length, d))
        self.blocks = nn.Sequential(*(_ScaledBlock(d, heads, drop, 1.0) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.inputs(x) + self.positions)).mean(1))


class _NextBlock(nn.Module):
    """(B, d, h, w) -> the same: a wide convolution per channel, then an MLP over channels."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.places = nn.Conv2d(d, d, 5, padding=2, groups=d)
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.places(x).movedim(1, -1))
        return x + self.down(nn.functional.gelu(self.up(h))).movedim(-1, 1)


class ConvNext(nn.Module):
    """Images (B, c, h, w) -> (B, n_out) (Liu et al. 2022, arXiv:2201.03545). Each stage after the first halves the
    sides.
    """

    def __init__(self, shape: Sequence[int], widths: Sequence[int], blocks: int, n_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(shape[0], widths[0], 2, 2)]
        for stage, d in enumerate(widths):
            if stage:
                layers += [nn.GroupNorm(1, widths[stage - 1]), nn.Conv2d(widths[stage - 1], d, 2, 2)]
            layers += [_NextBlock(d) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(x).mean((2, 3))))


class BothWays(nn.Module):
    """Tokens (B, T) -> (B, n_out): a bidirectional LSTM of PyTorch's, its states averaged over time."""

    def __init__(self, vocabulary: int, width: int, layers: int, n_out: int, drop: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=True)
        self.drop, self.head = dropout(drop), nn.Linear(2 * width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.drop(self.embedding(x)))
        return self.head(self.drop(states.mean(1)))
