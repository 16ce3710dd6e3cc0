"""Trainings of a tiny BERT by Hugging Face's Trainer, as the tests of its callback vary them.

Run as a script it is two processes, and writes what each of them saw.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import debug_launcher
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from lrpilot.integrations.transformers import create_pilot
from processes import Lines

N = 80  # optimizer steps; the probe takes 16 of them at most
VOCABULARY, LENGTH = 20, 6
SET_UP: dict[str, Any] = {
    "max_steps": N, "per_device_train_batch_size": 8, "learning_rate": 1.0, "report_to": "none", "use_cpu": True,
    "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no",
}  # fmt: skip


def examples(count: int, seed: int) -> list[dict[str, Any]]:
    """Sequences of which the first token tells the label."""
    ids = torch.randint(2, VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "attention_mask": torch.ones(LENGTH), "labels": row[0] % 2} for row in ids]


def tiny_bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=LENGTH, num_labels=2,
    )  # fmt: skip
    return BertForSequenceClassification(config)


class Rates(TrainerCallback):
    """The first group's rate at every optimizer step."""

    def __init__(self) -> None:
        self.used: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.used.append(kwargs["optimizer"].param_groups[0]["lr"])


def make(folder: Path, trainer: dict[str, Any] | None = None, **set_up: Any) -> tuple[Trainer, Rates]:
    torch.set_num_threads(1)
    rates = Rates()
    usual = {"train_dataset": examples(72, 0), "eval_dataset": examples(16, 1), "callbacks": [rates]}
    if "model_init" not in (trainer or {}):
        usual["model"] = tiny_bert()
    return Trainer(args=TrainingArguments(str(folder), **(SET_UP | set_up)), **(usual | (trainer or {}))), rates


# Of two processes, which share 72 examples in batches of 8
SHARED: list[dict[str, Any]] = [
    {"max_steps": -1, "num_train_epochs": 2},
    {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 2},
    {"max_steps": 12, "gradient_accumulation_steps": 4},
]


def worker(folder: str) -> None:
    heard, records, rank = Lines(), [], 0
    logging.getLogger("lrpilot").addHandler(heard)
    logging.getLogger("lrpilot").setLevel(logging.INFO)
    for set_up in SHARED:
        heard.lines.clear()
        trainer, rates = make(Path(folder), **set_up)
        create_pilot(trainer)
        trainer.train()
        pilot: Any = trainer.lr_scheduler
        rank = trainer.args.process_index
        records.append([len(rates.used), pilot.planned_steps, pilot.steps_per_epoch, pilot.examples, list(heard.lines)])
    Path(folder, f"{rank}.json").write_text(json.dumps(records))


if __name__ == "__main__":
    debug_launcher(worker, (sys.argv[1],), 2)
