"""Shallow networks with common additions: normalisation of two kinds, residuals, dropout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pipeline.workloads.networks.small import ACTIVATIONS, dropout, initialise

NORMS = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


class Perceptron(nn.Module):
    """(B, sizes[0]) -> (B, sizes[-1]); two sizes: linear. `norm`, one of NORMS, before the activation."""

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        gain: float = 1.4,
        norm: str = "none",
        residual: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation, self.residual = ACTIVATIONS[activation], residual
        hidden = [nn.Linear(a, b) for a, b in pairwise(sizes[:-1])]
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList(NORMS[norm](layer.out_features) for layer in hidden)
        self.drop = dropout(drop)
        self.head = nn.Linear(sizes[-2], sizes[-1])
        for layer in hidden:
            initialise(layer, gain)
        initialise(self.head, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            z = self.drop(self.activation(norm(layer(x))))
            x = x + z if self.residual and z.shape == x.shape else z
        return self.head(x)


class AveragedWords(nn.Module):
    """Mean of word embeddings, dropout, then a perceptron: tokens (B, L) -> logits (B, n_out).

    Iyyer et al. 2015 (deep averaging networks); without hidden layers the model of Joulin et al. 2016,
    arXiv:1607.01759. `scale`: standard deviation of the embeddings.
    """

    def __init__(
        self, vocabulary: int, d: int, hidden: Sequence[int], n_out: int, scale: float, norm: str, drop: float
    ) -> None:
        super().__init__()
        self.embedding, self.drop = nn.Embedding(vocabulary, d), dropout(drop)
        self.perceptron = Perceptron((d, *hidden, n_out), norm=norm, drop=drop)
        nn.init.normal_(self.embedding.weight, std=scale)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.perceptron(self.drop(self.embedding(tokens).mean(1)))
