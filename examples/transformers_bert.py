"""A small BERT that learns to tell good reviews from bad ones, trained by Hugging Face's Trainer under a pilot.

Needs lrpilot[transformers]. Everything is made here, so nothing is downloaded. About ten seconds on one core.
"""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from lrpilot.integrations.transformers import create_pilot

WORDS = [
    ["the", "this", "that"],
    ["film", "book", "meal", "song", "hotel"],
    ["was", "is", "seemed"],
    ["", "very", "really", "quite"],
    ["", "not"],
]
GOOD, BAD = ["good", "lovely", "superb", "tasty", "brilliant"], ["bad", "awful", "dull", "boring", "terrible"]


def review(draw: random.Random) -> tuple[str, int]:
    """A sentence, and 1 if it praises; "not" turns its meaning around."""
    *words, turned = (draw.choice(slot) for slot in WORDS)
    good = draw.random() < 0.5
    words += [turned, draw.choice(GOOD if good else BAD)]
    return " ".join(filter(None, words)), int(good != bool(turned))


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for slot in WORDS for w in slot if w}), *GOOD, *BAD]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def main() -> None:
    torch.manual_seed(0)
    draw, tokens = random.Random(0), tokenizer()
    reviews = [review(draw) for _ in range(2000)]
    data = [{"input_ids": tokens(text).input_ids, "labels": label} for text, label in reviews]
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16,
    )  # fmt: skip

    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(
            "transformers_bert",  # folder of the checkpoints
            num_train_epochs=8,
            per_device_train_batch_size=32,
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            report_to="none",
        ),
        train_dataset=data[:1600],
        eval_dataset=data[1600:],
        data_collator=DataCollatorWithPadding(tokens),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
    )
    # The one line. A BERT that starts from nothing collapses at higher rates, and not in a way that its loss shows.
    create_pilot(trainer, max_lr=1e-3)
    trainer.train()

    print(trainer.lr_scheduler.history)
    print("accuracy", trainer.evaluate()["eval_accuracy"])


if __name__ == "__main__":
    main()
