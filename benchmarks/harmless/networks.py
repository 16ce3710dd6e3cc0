"""Networks of small trainings. Weights come from torch's global generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from benchmarks.harmless.data import FEATURES, surface


def mlp(
    *widths: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    drop: float = 0.0,
) -> nn.Module:
    """Linear layers; images are flattened first."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths[:-1]):
        layers += [nn.Linear(a, b), *([norm(b)] if norm else []), act(), *([nn.Dropout(drop)] if drop else [])]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def convolutions(classes: int, side: int, norm: bool = False) -> nn.Module:
    def block(a: int, b: int, stride: int) -> Sequence[nn.Module]:
        return [nn.Conv2d(a, b, 3, stride, 1), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]

    return nn.Sequential(*block(1, 8, 1), *block(8, 16, 2), nn.Flatten(), nn.Linear(16 * (side // 2) ** 2, classes))


class Recurrent(nn.Module):
    """A sequence (B, T, F), or tokens (B, T) of `vocabulary` kinds, through an LSTM or GRU: outputs at its end, or at
    each place.
    """

    def __init__(
        self, cells: type[nn.LSTM | nn.GRU], features: int, out: int, vocabulary: int = 0, each: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, features) if vocabulary else None
        self.cells, self.head, self.each = cells(features, 32, batch_first=True), nn.Linear(32, out), each

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(1) if self.embedding is None and x.dim() == 4 else x  # an image's rows
        h = self.cells(x if self.embedding is None else self.embedding(x))[0]
        return self.head(h if self.each else h[:, -1])


class Encoder(nn.Module):
    """Two layers of `nn.TransformerEncoderLayer` over tokens: logits of the mean, or at each place."""

    def __init__(
        self, vocabulary: int, length: int, out: int, pre_norm: bool, each: bool = False, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, 32), nn.Parameter(0.02 * torch.randn(length, 32))
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(32, 4, 64, drop, batch_first=True, norm_first=pre_norm) for _ in range(2))
        )
        self.head, self.each = nn.Linear(32, out), each

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers(self.tokens(x) + self.places)
        return self.head(h if self.each else h.mean(1))


class Bert(nn.Module):
    """`BertForSequenceClassification` from its configuration: logits (B, 2)."""

    def __init__(self, vocabulary: int = 8, length: int = 12, drop: float = 0.1) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=length, hidden_dropout_prob=drop, attention_probs_dropout_prob=drop,
        )  # fmt: skip
        self.bert = BertForSequenceClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.bert(input_ids=x).logits


class Autoencoder(nn.Module):
    """A variational one of flat images: logits (B, D), mean and log variance (B, Z) of the code."""

    def __init__(self, size: int = 64, code: int = 8) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(size, 64, 2 * code), mlp(code, 64, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (log_var / 2).exp() if self.training else mean
        return self.decoder(code), mean, log_var


class TwoTowers(nn.Module):
    """One network for each of two views."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleList([mlp(FEATURES, 32, 16) for _ in range(2)])


class Factors(nn.Module):
    """Inner products of embeddings, with biases."""

    def __init__(self, users: int = 60, items: int = 40, size: int = 8) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, size), nn.Embedding(items, size)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        who, what = x.T
        return (self.users(who) * self.items(what)).sum(1, keepdim=True) + self.user_bias(who) + self.item_bias(what)


def pretrained() -> nn.Sequential:
    """An MLP that has learned the surface of generator 0, on fresh data."""
    model, g = (
        nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)),
        Generator(),
    )
    f = surface(g.manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        x = torch.randn(64, FEATURES, generator=g)
        loss = nn.functional.mse_loss(model(x), f(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


class LowRank(nn.Module):
    """A frozen linear layer plus a product of two small matrices; the second begins at 0."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


def adapted(base: Callable[[], nn.Sequential] = pretrained) -> nn.Module:
    """`base`, frozen, with an adapter at each linear layer."""
    return nn.Sequential(*(LowRank(layer) if isinstance(layer, nn.Linear) else layer for layer in base()))
