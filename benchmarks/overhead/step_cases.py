"""The trainings whose step time is measured: model, optimizer, batches, and the loops around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]  # inputs, class labels
BATCHES = 16  # of a case, met in turn


@dataclass(frozen=True)
class Case:
    """One training. Its rounds are the pairs whose ratios are reported; a round is made of blocks, a block of steps."""

    name: str
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    batch: Callable[[], Batch]  # one random batch
    total_steps: int  # N, that the schedulers are told
    rounds: int  # at most; the training may hold fewer
    round_steps: int | None  # of each loop; None: one late interval between two decisions
    blocks: int  # of a round
    probe: bool  # whether the timed training begins with the probe, which is left out of the timing


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def resnet18() -> nn.Module:
    """ResNet-18 for images of 32×32: a 3×3 stem and no pooling before the first stage, else the stock model."""
    from torchvision.models import resnet18 as stock

    model = stock(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.register_module("maxpool", nn.Identity())
    return model


class Transformer(nn.Module):
    """Two encoder layers of width 64 over tokens (batch, length) -> logits (batch * length, vocabulary)."""

    def __init__(self, vocabulary: int = 64, width: int = 64) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.embed = nn.Embedding(vocabulary, width)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encode(self.embed(tokens))).flatten(0, 1)


def _vectors(batch: int) -> Batch:
    x = torch.randn(batch, 64)
    return x, x[:, :10].argmax(1)


def _images(batch: int, side: int) -> Batch:
    return torch.randn(batch, 3, side, side), torch.randint(10, (batch,))


def _tokens(batch: int, length: int) -> Batch:
    x = torch.randint(64, (batch, length))
    return x, x.roll(1, 1).flatten()


def _adam(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters())


def _adamw(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters())


def _sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def cases(quick: bool) -> list[Case]:
    """The three trainings; with `quick` a few steps of smaller batches, to test the command.

    A step of ResNet-18 takes a second, so its timed training is the first steps after the start, without the probe.
    There decisions are more than ten times as frequent as later.
    """
    steps, rounds = (100, 3) if quick else (10_000, 30)
    images = (lambda: _images(2, 8)) if quick else (lambda: _images(64, 32))
    return [
        Case("mlp", mlp, _adam, lambda: _vectors(64), steps, rounds, None, 10, True),
        Case("transformer", Transformer, _adamw, lambda: _tokens(16, 32), steps, rounds, None, 8, True),
        Case("resnet18", resnet18, _sgd, images, steps, 2 if quick else 50, 1, 1, False),
    ]
