"""Losses of small trainings: a 0-d tensor from the network, inputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(model(x), y)


def absolute(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.l1_loss(model(x), y)


def huber(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.huber_loss(model(x), y)


def quantile(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The pinball loss of the ninth decile."""
    error = y - model(x)
    return torch.maximum(0.9 * error, -0.1 * error).mean()


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of classes, or of one class at each place of a sequence."""
    logits = model(x)
    return functional.cross_entropy(logits.flatten(0, -2), y.flatten())


def smoothed(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(model(x), y, label_smoothing=0.1)


def binary(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(model(x), y)


def weighted_binary(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Positives count twenty times."""
    return functional.binary_cross_entropy_with_logits(model(x), y, pos_weight=torch.tensor(20.0))


def focal(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Lin et al. 2017, with an exponent of 2."""
    missed = functional.binary_cross_entropy_with_logits(model(x), y, reduction="none")
    return ((1 - (-missed).exp()) ** 2 * missed).mean()


def hinge(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a support vector machine, for targets 0 and 1."""
    return functional.relu(1 - (2 * y - 1) * model(x)).mean()


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.multi_margin_loss(model(x), y)


def likelihood(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Negative log likelihood of a normal distribution, whose mean and log variance the network gives."""
    mean, log_var = model(x).chunk(2, 1)
    return 0.5 * (log_var + (y - mean) ** 2 * (-log_var).exp()).mean() + 0.919


def poisson(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.poisson_nll_loss(model(x), y)


def elbo(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a variational autoencoder of images, in nats: squared errors with a standard deviation of 0.3."""
    images = x.flatten(1)
    out, mean, log_var = model(images)
    missed = ((torch.sigmoid(out) - images) ** 2).sum(1) / (2 * 0.3**2)
    return (missed + 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)).mean()


def reconstruction(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    images = x.flatten(1)
    return functional.mse_loss(model(images), images)


def contrast(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """InfoNCE of two views, within batches of 32, at a temperature of 0.1."""
    towers: Any = model.towers
    one, other = (functional.normalize(tower(view), dim=1) for tower, view in zip(towers, (x, y), strict=True))
    parts = [a @ b.T / 0.1 for a, b in zip(one.split(32), other.split(32), strict=True)]
    return torch.stack([functional.cross_entropy(part, torch.arange(len(part))) for part in parts]).mean()
