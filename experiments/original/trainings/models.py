"""The plan's models as functions of the stored arrays: raw images or tokens -> logits (n, classes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.original.plan.config import ModelsConfig
from experiments.original.sources.sets import About

SIDE = 32  # pixels; VGG-16 halves five times, so smaller images get a border


def build(model: str, about: About, config: ModelsConfig, weights: Path) -> nn.Module:
    """A model for a data set, initialised from torch's generator; BERT from the folder `weights`, with a new head."""
    if model == "lstm":
        return Lstm(about, config)
    if model == "bert":
        return Bert(about, config, weights)
    return nn.Sequential(Pixels(about), _resnet18(about, config) if model == "resnet18" else _vgg16(about, config))


class Pixels(nn.Module):
    """Images (n, channels, side, side) uint8 -> float32 of mean 0 and standard deviation 1, at least `SIDE` pixels a
    side.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, about: About) -> None:
        super().__init__()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(about, name))[:, None, None].clamp_min(1e-6))
        self._border = max(SIDE - about.shape[-1], 0)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float() / 255 - self.mean) / self.std
        left, right = self._border // 2, self._border - self._border // 2
        return nn.functional.pad(x, (left, right, left, right))


def _resnet18(about: About, config: ModelsConfig) -> nn.Module:
    """torchvision's, where the first convolution keeps the size, for images of 32 pixels (He et al. 2015,
    section 4.2).
    """
    from torchvision.models import resnet18

    with torch.device("meta"):
        net: Any = resnet18()  # its annotations do not allow for other parts
        net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()
    _materialise(net, about.shape[0], config.width)
    net.fc = _head(net.fc.in_features, about, config)
    return net


def _vgg16(about: About, config: ModelsConfig) -> nn.Module:
    """torchvision's, with batch norm (without it, Adam at 0.001 often learns nothing); one pixel remains to pool."""
    from torchvision.models import vgg16_bn

    with torch.device("meta"):
        net: Any = vgg16_bn()  # its annotations do not say that the features are a sequence
    _materialise(net.features, about.shape[0], config.width)
    channels = next(m.num_features for m in reversed(net.features) if isinstance(m, nn.BatchNorm2d))
    return nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), _head(channels, about, config))


def _head(features: int, about: About, config: ModelsConfig) -> nn.Module:
    return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(features, about.classes))


def _materialise(module: nn.Module, channels: int, share: float) -> None:
    """Replace layers on the meta device by real ones with that share of their channels.

    Initialised as torchvision does; the first convolution takes `channels`.
    """

    def width(n: int) -> int:
        return max(round(n * share), 1)

    for name, old in module.named_children():
        if isinstance(old, nn.Conv2d):
            inputs = channels if old.in_channels == 3 else width(old.in_channels)
            shape: dict[str, Any] = {"kernel_size": old.kernel_size, "stride": old.stride, "padding": old.padding}
            new = nn.Conv2d(inputs, width(old.out_channels), **shape, bias=old.bias is not None)
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
            if new.bias is not None:
                nn.init.zeros_(new.bias)
            setattr(module, name, new)
        elif isinstance(old, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(width(old.num_features)))
        elif isinstance(old, nn.Linear):
            setattr(module, name, nn.Linear(width(old.in_features), 1))
        else:
            _materialise(old, channels, share)


class Lstm(nn.Module):
    """Tokens (n, length) -> logits: embedding, one LSTM, the state after each text's last token."""

    def __init__(self, about: About, config: ModelsConfig) -> None:
        super().__init__()
        self._padding = about.padding
        self.embedding = nn.Embedding(about.vocabulary, config.lstm_embedding, padding_idx=about.padding)
        self.lstm = nn.LSTM(config.lstm_embedding, config.lstm_hidden, batch_first=True)
        self.head = _head(config.lstm_hidden, about, config)

    def forward(self, x: Tensor) -> Tensor:
        # On a CPU in single precision: oneDNN has recurrent layers in half precision for some processors alone.
        with torch.autocast("cpu", enabled=False):
            states, _ = self.lstm(self.embedding(x))
        last = (x != self._padding).sum(1).clamp_min(1) - 1
        return self.head(states[torch.arange(len(x), device=x.device), last])


class Bert(nn.Module):
    """Tokens (n, length) -> logits: pre-trained weights, a new head on top."""

    def __init__(self, about: About, config: ModelsConfig, weights: Path) -> None:
        super().__init__()
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.set_verbosity_error()  # else it warns that the head is new
        logging.disable_progress_bar()
        self._padding = about.padding
        self.net = AutoModelForSequenceClassification.from_pretrained(
            weights, num_labels=about.classes, classifier_dropout=config.dropout
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(input_ids=x, attention_mask=(x != self._padding).long()).logits
