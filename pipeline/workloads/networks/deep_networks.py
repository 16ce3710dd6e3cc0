"""Deep networks for tokens, patches, sequences and tables: transformers, recurrent networks, MLPs with embeddings.

Families draw their parameters: depth, width, dropout, activation, gain of the initialisation. The convolutional
networks are in `deep_convnets.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.workloads.networks.small import ACTIVATIONS, CELLS, Block, dropout, initialise, recurrent_step


def _blocks(
    d: int,
    blocks: int,
    heads: int,
    post_norm: bool,
    activation: str,
    drop: float,
    causal: bool,
    gain: float,
    hidden: int,
) -> nn.ModuleList:
    """Blocks of width d whose MLPs are `hidden` times as wide, all weights drawn with `gain`."""
    stack = nn.ModuleList(Block(d, heads, post_norm, activation, drop, causal, hidden) for _ in range(blocks))
    for layer in stack.modules():
        if isinstance(layer, nn.Linear):
            initialise(layer, gain)
    return stack


def _embedding(vocabulary: int, d: int) -> nn.Embedding:
    """Vectors of length one, about."""
    embedding = nn.Embedding(vocabulary, d)
    nn.init.normal_(embedding.weight, std=1 / math.sqrt(d))
    return embedding


def _positions(length: int, d: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(length, d) / math.sqrt(d))


class VisionTransformer(nn.Module):
    """Images (B, c, h, w) -> (B, n_out): patches, pre-norm blocks, the mean over places, a linear layer.

    Dosovitskiy et al. 2020, arXiv:2010.11929. `patch` divides both sides.
    """

    def __init__(
        self,
        shape: Sequence[int],
        patch: int,
        d: int,
        blocks: int,
        heads: int,
        n_out: int,
        drop: float = 0.0,
        activation: str = "gelu",
        gain: float = 0.7,
        hidden: int = 4,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patches = nn.Linear(shape[0] * patch**2, d)
        self.positions = _positions(math.prod(side // patch for side in shape[1:]), d)
        self.drop = dropout(drop)
        self.blocks = _blocks(d, blocks, heads, False, activation, drop, False, gain, hidden)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, n_out)

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch
        # (B, c, h, w) -> (B, c, h / p, p, w / p, p) -> (B, places, c p p)
        tiles = x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = self.drop(self.patches(tiles) + self.positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class LanguageModel(nn.Module):
    """Next-symbol model of GPT kind: tokens (B, T) -> logits (B, T, vocabulary); pre-norm blocks.

    `tied`: the last layer's weights are those of the embedding (Press & Wolf 2016, arXiv:1608.05859).
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        d: int,
        blocks: int,
        heads: int,
        drop: float = 0.0,
        tied: bool = False,
        activation: str = "gelu",
        gain: float = 0.7,
        hidden: int = 4,
    ) -> None:
        super().__init__()
        self.embedding, self.positions = _embedding(vocabulary, d), _positions(length, d)
        self.drop = dropout(drop)
        self.blocks = _blocks(d, blocks, heads, False, activation, drop, True, gain, hidden)
        self.norm = nn.LayerNorm(d)
        self.head = None if tied else nn.Linear(d, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.embedding(tokens) + self.positions)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x @ self.embedding.weight.T if self.head is None else self.head(x)


class Encoder(nn.Module):
    """Encoder of BERT kind (Devlin et al. 2018, arXiv:1810.04805) of tokens (B, T), post-norm unless said otherwise.

    Without `n_out` its head names masked tokens, logits (B, T, vocabulary); with it, it classifies from the first
    token, (B, n_out). Both share all other weights by name.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        d: int,
        blocks: int,
        heads: int,
        drop: float = 0.0,
        n_out: int | None = None,
        activation: str = "gelu",
        gain: float = 0.7,
        hidden: int = 4,
        post_norm: bool = True,
    ) -> None:
        super().__init__()
        self.embedding, self.positions = _embedding(vocabulary, d), _positions(length, d)
        self.norm, self.drop = nn.LayerNorm(d), dropout(drop)
        self.blocks = _blocks(d, blocks, heads, post_norm, activation, drop, False, gain, hidden)
        if n_out is None:
            self.masked = nn.Linear(d, vocabulary)
        else:
            self.pool, self.head = nn.Linear(d, d), nn.Linear(d, n_out)
        self.classifies = n_out is not None

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.norm(self.embedding(tokens) + self.positions))
        for block in self.blocks:
            x = block(x)
        if not self.classifies:
            return self.masked(x)
        return self.head(self.drop(torch.tanh(self.pool(x[:, 0]))))


class _RecurrentLayer(nn.Module):
    """States (B, T, width) of a cell for inputs (B, T, n_in)."""

    def __init__(self, cell: str, n_in: int, width: int, gain: float) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        self.inputs, self.recurrence = (nn.Linear(n, CELLS[cell] * width) for n in (n_in, width))
        for layer in (self.inputs, self.recurrence):
            initialise(layer, gain)

    def forward(self, x: Tensor) -> Tensor:
        drive = self.inputs(x)
        h = c = drive.new_zeros(x.shape[0], self.width)
        states = []
        for z in drive.unbind(1):
            h, c = recurrent_step(self.cell, z, self.recurrence(h), h, c)
            states.append(h)
        return torch.stack(states, 1)


class DeepRecurrent(nn.Module):
    """Recurrent layers with dropout before and between them and before the head.

    Tokens (B, T) if `vocabulary` is given, else numbers (B, T, n_in); -> (B, T, n_out), or with `last` (B, n_out) from
    the last state. Embeddings have `width` numbers.
    """

    def __init__(
        self,
        cell: str,
        width: int,
        layers: int,
        n_out: int,
        *,
        vocabulary: int | None = None,
        n_in: int = 1,
        last: bool = False,
        drop: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.last = last
        self.embedding = None if vocabulary is None else nn.Embedding(vocabulary, width)
        sizes = [n_in if vocabulary is None else width, *(width,) * layers]
        self.layers = nn.ModuleList(_RecurrentLayer(cell, a, b, gain) for a, b in pairwise(sizes))
        self.drop, self.head = dropout(drop), nn.Linear(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is not None:
            x = self.drop(self.embedding(x))
        for layer in self.layers:
            x = self.drop(layer(x))
        return self.head(x[:, -1] if self.last else x)


class TabularNet(nn.Module):
    """Rows (B, columns) -> (B, n_out), as fast.ai's tabular model: an embedding per categorical column, an MLP.

    Rows hold the codes of the categorical columns first (0..sizes[i]-1, as floats), then `n_numeric` numbers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        n_numeric: int,
        widths: Sequence[int],
        n_out: int,
        norm: bool = True,
        drop: float = 0.0,
        activation: str = "relu",
        gain: float = 1.4,
        embedded: int | None = None,
    ) -> None:
        """`norm`: batch norm of the numbers and after each activation. `embedded`: numbers per code, by default from a
        rule.
        """
        super().__init__()
        lengths = [embedded or min(24, round(1.6 * size**0.56)) for size in sizes]  # fast.ai's emb_sz_rule
        self.embeddings = nn.ModuleList(nn.Embedding(n, d) for n, d in zip(sizes, lengths, strict=True))
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.5)  # pyright: ignore[reportArgumentType]
        batch_norm = nn.BatchNorm1d if norm else nn.Identity
        self.numbers = batch_norm(n_numeric)
        layers = [sum(lengths) + n_numeric, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))
        self.norms = nn.ModuleList(batch_norm(width) for width in widths)
        self.activation, self.drop = ACTIVATIONS[activation], dropout(drop)
        self.head = nn.Linear(widths[-1], n_out)
        for layer in self.hidden:
            initialise(layer, gain)  # pyright: ignore[reportArgumentType]
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        codes = x[:, : len(self.embeddings)].long()
        parts = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        x = torch.cat([*parts, self.numbers(x[:, len(parts) :])], 1)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = self.drop(norm(self.activation(layer(x))))
        return self.head(x)
