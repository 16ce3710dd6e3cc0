"""Small architectures as pure functions of parameters and input, so that torch.func.vmap can map them.

Convolutions stay nn.Conv: under vmap with weights per member they took half the time of unfold + matmul.
Recurrent cells are explicit loops over time, because nn.GRU and nn.LSTM have no fast batching rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "elu": nn.functional.elu,
}
CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # cell -> number of gates


def initialise(layer: nn.Linear | nn.Conv1d | nn.Conv2d, gain: float) -> None:
    """Weights N(0, gain^2 / fan-in), biases (where there are any) zero."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def dropout(rate: float) -> nn.Module:
    """nn.Dropout, or nothing at rate 0, because every draw takes time."""
    return nn.Dropout(rate) if rate else nn.Identity()


def recurrent_step(cell: str, drive: Tensor, recurrence: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One time step of a tanh RNN, GRU or LSTM.

    drive, recurrence (B, gates * width): linear maps of the input and of h; h, c (B, width) -> new h, c (c: LSTM
    alone).
    """
    if cell == "rnn":
        return torch.tanh(drive + recurrence), c
    width = h.shape[-1]
    if cell == "gru":  # Cho et al. 2014, arXiv:1406.1078, reset after the product
        gates = torch.sigmoid(drive[:, : 2 * width] + recurrence[:, : 2 * width])
        reset, update = gates.chunk(2, -1)
        new = torch.tanh(drive[:, 2 * width :] + reset * recurrence[:, 2 * width :])
        return new + update * (h - new), c
    a = drive + recurrence
    gates = torch.sigmoid(a[:, : 3 * width])
    keep, write, show = gates.chunk(3, -1)
    c = keep * c + write * torch.tanh(a[:, 3 * width :])
    return show * torch.tanh(c), c


class MLP(nn.Module):
    """(B, sizes[0]) -> (B, sizes[-1]); two sizes: linear. `norm`: layer norm before the activation."""

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        gain: float = 1.4,
        norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.residual = residual
        hidden = [nn.Linear(a, b) for a, b in pairwise(sizes[:-1])]
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(layer.out_features) if norm else nn.Identity() for layer in hidden)
        self.head = nn.Linear(sizes[-2], sizes[-1])
        for layer in hidden:
            initialise(layer, gain)
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            z = self.activation(norm(layer(h)))
            h = h + z if self.residual and z.shape == h.shape else z
        return self.head(h)


class ConvNet(nn.Module):
    """Two strided 3 x 3 convolutions (5 wide for signals) and a linear layer: (B, c, *size) -> (B, n_out).

    `norm`: layer norm over all channels and places, before the activation.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: Sequence[int],
        n_out: int,
        activation: str = "relu",
        gain: float = 1.4,
        norm: bool = False,
    ):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        conv, kernel = (nn.Conv1d, 5) if len(size) == 1 else (nn.Conv2d, 3)
        convs = [conv(a, b, kernel, stride=2, padding=kernel // 2) for a, b in pairwise(channels)]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) if norm else nn.Identity() for c in channels[1:])
        for layer in convs:
            initialise(layer, gain)
            size = [-(-side // 2) for side in size]  # stride 2 rounds up
        self.head = nn.Linear(channels[-1] * math.prod(size), n_out)
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return self.head(x.flatten(1))


class Recurrent(nn.Module):
    """Next-symbol model: tokens (B, T) -> logits (B, T, vocabulary), by a tanh RNN, GRU or LSTM."""

    def __init__(self, cell: str, vocabulary: int, width: int, gain: float = 1.0) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        self.embedding = nn.Embedding(vocabulary, width)
        self.inputs = nn.Linear(width, CELLS[cell] * width)
        self.recurrence = nn.Linear(width, CELLS[cell] * width)
        self.head = nn.Linear(width, vocabulary)
        for layer in (self.inputs, self.recurrence):
            initialise(layer, gain)

    def forward(self, tokens: Tensor) -> Tensor:
        drive = self.inputs(self.embedding(tokens))  # (B, T, gates * width)
        h = c = drive.new_zeros(tokens.shape[0], self.width)
        states = []
        for z in drive.unbind(1):
            h, c = recurrent_step(self.cell, z, self.recurrence(h), h, c)
            states.append(h)
        return self.head(torch.stack(states, 1))


class Block(nn.Module):
    """Attention and a two-layer MLP, each with a residual connection: (B, T, d) -> (B, T, d).

    `drop` is the dropout of what either adds to the residual stream; `causal`: places attend to earlier ones alone.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        post_norm: bool,
        activation: str = "relu",
        drop: float = 0.0,
        causal: bool = True,
        hidden: int = 2,
    ) -> None:
        super().__init__()
        self.heads, self.post_norm, self.causal = heads, post_norm, causal
        self.activation = ACTIVATIONS[activation]
        self.qkv, self.mix = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, hidden * d), nn.Linear(hidden * d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.drop1, self.drop2 = dropout(drop), dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        if self.post_norm:
            x = self.norm1(x + self.drop1(self._attend(x)))
            return self.norm2(x + self.drop2(self._perceive(x)))
        x = x + self.drop1(self._attend(self.norm1(x)))
        return x + self.drop2(self._perceive(self.norm2(x)))

    def _perceive(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))

    def _attend(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        # (B, T, 3 d) -> three of (B, heads, T, d / heads)
        q, k, v = (part.reshape(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(d // self.heads)
        if self.causal:
            scores = scores + torch.full((t, t), -torch.inf, device=x.device).triu(1)
        weights = torch.softmax(scores, -1)
        return self.mix((weights @ v).transpose(1, 2).reshape(b, t, d))


class Transformer(nn.Module):
    """Next-symbol model: tokens (B, T) -> logits (B, T, vocabulary); learned positions."""

    def __init__(self, vocabulary: int, length: int, d: int, blocks: int, heads: int, post_norm: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d)
        self.positions = nn.Parameter(0.1 * torch.randn(length, d))
        self.blocks = nn.ModuleList(Block(d, heads, post_norm) for _ in range(blocks))
        self.norm = nn.Identity() if post_norm else nn.LayerNorm(d)
        self.head = nn.Linear(d, vocabulary)
        nn.init.normal_(self.embedding.weight, std=0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Bag(nn.Module):
    """Mean of word embeddings, then a linear layer: (B, L) -> logits (B, n_out). `scale`: their sd."""

    def __init__(self, vocabulary: int, d: int, n_out: int, scale: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d)
        self.head = nn.Linear(d, n_out)
        nn.init.normal_(self.embedding.weight, std=scale)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(1))
