"""Readable names of tasks: "diabetes MLP 3×34 · Adam · 331 steps · batch 12". Caches and tables use `Task.name`."""

from __future__ import annotations

import re

import pandas as pd

OPTIMIZERS = {
    "adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "nadam": "NAdam", "adagrad": "Adagrad",
    "lion": "Lion",
}  # fmt: skip
WORDS = {
    "finetune": "fine-tuned", "lm": "language model", "autompg": "auto-mpg", "mnist": "MNIST", "mnist1d": "MNIST-1D",
    "mlp": "MLP", "resnet": "residual net", "residual": "residual net", "plain": "conv net", "wide": "wide MLP",
    "vit": "vision transformer", "unet": "U-Net", "gpt": "language model", "lstm": "LSTM", "gru": "GRU",
    "batch": "batch norm", "batchnorm": "batch norm", "group": "group norm", "layernorm": "layer norm",
}  # fmt: skip
ARCHITECTURES = ("bag", "cnn", "mlp", "rnn", "transformer")  # of a family's name; the workload's says more
PATTERNS = (  # of a workload's name -> how it is written, one after the other
    (r"(?:pre|post)-norm-(\d+)x(\d+)", r"transformer \1×\2"),
    (r"\bbag(\d+)x(\d+)", r"bag \1×\2"),
    (r"(?:-mlp)?-(\d+)x(\d+)", r"-MLP \1×\2"),
    (r"\b(mlp|resnet|plain|vit|gpt|encoder|unet)(?=\d)", r"\1-"),
    (r"\bconv(\d+)", r"CNN \1"),
    (r"\brnn(\d+)", r"RNN \1"),
    (r"\bgru(\d+)", r"GRU \1"),
    (r"\blstm(\d+)", r"LSTM \1"),
    (r"\bwrong(\d+)%", r"\1 % wrong labels"),
    (r"(?<=[\d-])x(?=\d)", "×"),
    (r"-(?:relu|gelu|tanh|silu|elu)(?:-residual)?\b|-norm\b", ""),
)


def labels(facts: pd.DataFrame) -> dict[str, str]:
    """For each task a label of its data, architecture, optimizer, steps and batch; no two labels are equal.

    `facts` has a row for each task of one split, by its name, with the columns family, workload, optimizer, n_steps and
    steps_per_epoch, as `run_cache.facts` returns them.
    """
    names = {str(task): _label(row) for task, row in facts.iterrows()}
    every = [*names.values()]
    return {task: name if every.count(name) == 1 else f"{name} · {task}" for task, name in names.items()}


def of_runs(rows: pd.DataFrame) -> dict[str, str]:
    """The labels of the tasks of an evaluation's rows, which are of one split."""
    return labels(rows.drop_duplicates("task").set_index("task"))


def _label(task: pd.Series) -> str:
    name, examples = _parts(task.workload)
    raw = re.split(r"\W|_", name)
    family = [word for word in task.family.split("_") if word not in ARCHITECTURES]
    unsaid = [word for word in family if not any(known.startswith(word) for known in raw)]
    for pattern, written in PATTERNS:
        name = re.sub(pattern, written, name)
    words = [WORDS.get(word, word) for word in (*unsaid, *re.split(r"[-_]", name))]
    batch = [] if examples is None else [f"batch {examples / task.steps_per_epoch:.0f}"]
    return " · ".join([" ".join(words), OPTIMIZERS[task.optimizer], f"{task.n_steps:,} steps", *batch])


def _parts(workload: str) -> tuple[str, int | None]:
    """Data and architecture from a workload's name, and its number of training examples if the name has it."""
    match = re.fullmatch(r"(.+)-n(\d+)-\w+", workload)
    return (match[1], int(match[2])) if match else (workload, None)
