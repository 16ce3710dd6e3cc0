"""A small BERT and its tokenizer, made from the texts of a mirror, in place of the hub's `bert-base-uncased`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.original.plan.config import EmbeddedConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HEAD = 16  # width of an attention head, or less
LENGTH, BATCH, RATE = 48, 16, 1e-3  # of the pre-training: tokens, texts, the rate that falls linearly to 0
MASKED = 0.15  # share of tokens to guess (Devlin et al. 2018, section 3.1; here all of them are masked)


def write_bert(folder: Path, texts: Sequence[str], config: EmbeddedConfig) -> None:
    """Write tokenizer and model as save_pretrained does. The same weights every time, on one thread."""
    from transformers import BertConfig, BertForMaskedLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = _tokenizer(texts, config.vocabulary)
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=config.hidden, num_hidden_layers=config.layers,
            num_attention_heads=max(config.hidden // HEAD, 1), intermediate_size=4 * config.hidden,
            max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    if config.pretraining:
        _pretrain(model, tokenizer, texts, config.pretraining)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(texts: Sequence[str], size: int) -> Any:
    """WordPiece, like BERT's own: the most frequent words of the texts are whole, and all others are split into
    characters.

    (The library's own trainer breaks ties at random, so no two vocabularies would be equal.)
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normal, cut = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normal.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    pieces = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces += frequent[: max(size - len(pieces), 0)]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normal, cut
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def _pretrain(model: Any, tokenizer: Any, texts: Sequence[str], steps: int) -> None:
    """Masked language modelling."""
    coded = tokenizer(list(texts), truncation=True, max_length=LENGTH, padding="max_length", return_tensors="np")
    tokens, rng = coded["input_ids"], np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        batch = tokens[rng.integers(0, len(tokens), BATCH)]
        hidden = (rng.random(batch.shape) < MASKED) & (batch >= len(SPECIAL))
        inputs = np.where(hidden, tokenizer.mask_token_id, batch)
        out = model(
            input_ids=torch.from_numpy(inputs), attention_mask=torch.from_numpy((batch != tokenizer.pad_token_id) * 1),
            labels=torch.from_numpy(np.where(hidden, batch, -100)),
        )  # fmt: skip
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        schedule.step()
