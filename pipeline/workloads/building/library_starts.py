"""Fresh weights as the libraries draw them that people take their networks from.

The other networks of the collection draw weights by one rule with a random gain. A rate that suits a wide network
depends on the start, so wide ones begin as in PyTorch, GPT-2, BERT, timm and torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.workloads.building.sampling import Build

Start = Callable[[nn.Module], None]


def torch_start(model: nn.Module) -> None:
    """Every layer as its class draws it: uniform in 1 / sqrt(fan-in), embeddings N(0, 1)."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d):
            layer.reset_parameters()


def _normal(model: nn.Module, deviation: float = 0.02) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=deviation)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for name, weights in model.named_parameters():
        if name == "positions":
            nn.init.normal_(weights, std=deviation)


def bert_start(model: nn.Module) -> None:
    """N(0, 0.02^2) everywhere (Devlin et al. 2018, arXiv:1810.04805); timm's vision transformers are much the same."""
    _normal(model)


def gpt_start(model: nn.Module) -> None:
    """The same, and less by the root of twice the depth where a block adds to the residual stream (Radford et al. 2019,
    "Language models are unsupervised multitask learners", section 2.3).
    """
    _normal(model)
    outputs = [w for name, w in model.named_parameters() if name.endswith(("mix.weight", "down.weight"))]
    for weights in outputs:
        nn.init.normal_(weights, std=0.02 / math.sqrt(len(outputs)))


def xavier_start(model: nn.Module) -> None:
    """Glorot's uniform (Keras' default, and nn.Transformer's), embeddings uniform in 0.05."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.uniform_(layer.weight, -0.05, 0.05)


def kaiming_start(model: nn.Module) -> None:
    """Convolutions N(0, 2 / fan-out), as torchvision's residual nets and VGGs; linear layers N(0, 0.01^2)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


STARTS: dict[str, Start] = {
    "torch": torch_start, "bert": bert_start, "gpt": gpt_start, "xavier": xavier_start, "kaiming": kaiming_start,
}  # fmt: skip


@dataclass(frozen=True)
class Started:
    """A model whose weights one of STARTS has drawn anew."""

    build: Build
    start: str

    def __call__(self) -> nn.Module:
        model = self.build()
        with torch.no_grad():
            STARTS[self.start](model)
        return model
