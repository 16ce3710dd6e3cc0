"""Residual nets and a vision transformer of torchvision, GPT-2 and BERT of transformers, with fresh weights.

Images are (batch, 3, side, side), texts (batch, length) tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

HEAD = 64  # width of an attention head


def residual(basic: bool, layers: Sequence[int], classes: int) -> nn.Module:
    """A residual net of basic blocks, or of bottlenecks, with so many of them in each of its four stages."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    return ResNet(BasicBlock if basic else Bottleneck, [*layers], num_classes=classes)


def vision_transformer(side: int, layers: int, width: int, classes: int) -> nn.Module:
    """A vision transformer over eight by eight patches."""
    from torchvision.models import VisionTransformer

    return VisionTransformer(side, side // 8, layers, width // HEAD, width, 4 * width, num_classes=classes)


class NextTokens(nn.Module):
    """GPT-2: tokens -> logits (batch, length, vocabulary) of the next ones."""

    def __init__(self, vocabulary: int, length: int, layers: int, width: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=vocabulary, n_positions=length, n_embd=width, n_layer=layers, n_head=width // HEAD,
            bos_token_id=None, eos_token_id=None, use_cache=False,
        )  # fmt: skip
        self.gpt: Any = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.gpt(tokens).logits


class MaskedTokens(nn.Module):
    """BERT: tokens, `masked` of them the token `vocabulary` -> logits (batch, masked, vocabulary + 1) of these.

    As in BERT's own code, the head reads the masked places alone.
    """

    def __init__(self, vocabulary: int, length: int, layers: int, width: int, masked: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertForMaskedLM

        config = BertConfig(
            vocab_size=vocabulary + 1, max_position_embeddings=length, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=width // HEAD, intermediate_size=4 * width, pad_token_id=None,
        )  # fmt: skip
        self.bert: Any = BertForMaskedLM(config)
        self._mask, self._masked = vocabulary, masked

    def forward(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.bert.bert(tokens).last_hidden_state
        # A sort finds the places without waiting for the device, as an index by truth values would.
        places = torch.argsort((tokens != self._mask).byte(), dim=1, stable=True)[:, : self._masked, None]
        return self.bert.cls(states.gather(1, places.expand(-1, -1, states.shape[-1])))
