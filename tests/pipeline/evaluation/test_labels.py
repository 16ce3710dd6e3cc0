"""What tasks are called on pages."""

import json

import pandas as pd
import pytest

from pipeline.evaluation.labels import labels, of_runs
from pipeline.evaluation.splits import MANIFEST
from pipeline.workloads.families import FAMILIES
from rows import row


def facts(family: str, workload: str, **values: object) -> dict[str, object]:
    return {
        "family": family,
        "workload": workload,
        "optimizer": "adam",
        "n_steps": 300,
        "steps_per_epoch": 10.0,
    } | values


@pytest.mark.parametrize(
    ("family", "workload", "label"),
    [
        ("diabetes", "diabetes-mlp-3x34-tanh-norm-n180-adam", "diabetes MLP 3×34 · Adam · 300 steps · batch 18"),
        ("mnist_mlp", "mnist-mlp-linear-n3900-sgd", "MNIST MLP linear · Adam · 300 steps · batch 390"),
        ("mnist1d", "mnist1d-2x34-gelu-n3000-adamw", "MNIST-1D MLP 2×34 · Adam · 300 steps · batch 300"),
        ("mnist1d_overfit", "mnist1d-wrong25%-mlp-2x91-tanh-n150-sgd",
         "overfit MNIST-1D 25 % wrong labels MLP 2×91 · Adam · 300 steps · batch 15"),
        ("finetune_mnist1d", "inverted-conv8-relu-norm-n250-sgd",
         "fine-tuned MNIST-1D inverted CNN 8 · Adam · 300 steps · batch 25"),
        ("prose_lm", "prose-pre-norm-1x16-n40-adamw",
         "language model prose transformer 1×16 · Adam · 300 steps · batch 4"),
        ("markov_rnn", "markov11-lstm22-n1060-sgd", "markov11 LSTM 22 · Adam · 300 steps · batch 106"),
        ("prose_bag", "prose12-bag1024x24-n90-adamw", "prose12 bag 1024×24 · Adam · 300 steps · batch 9"),
        ("signals", "signals12-resnet2x2x8-batchnorm-n450-adamw",
         "signals12 residual net 2×2×8 batch norm · Adam · 300 steps · batch 45"),
        ("springs_mlp", "springs-mlp3x24-tanh-n1800-adam", "springs MLP 3×24 · Adam · 300 steps · batch 180"),
        ("solids_residual", "solids-residual-group-n6000-adamw",
         "solids residual net group norm · Adam · 300 steps · batch 600"),
        ("mnist_finetune", "turned-mlp-1x69-tanh-residual-n70-sgd",
         "MNIST fine-tuned turned MLP 1×69 · Adam · 300 steps · batch 7"),
        ("mine", "whatever", "mine whatever · Adam · 300 steps"),
    ],
)  # fmt: skip
def test_a_label_says_what_a_task_is(family: str, workload: str, label: str) -> None:
    assert labels(pd.DataFrame([facts(family, workload)], index=["t-1"])) == {"t-1": label}


def test_equal_tasks_are_told_apart() -> None:
    table = pd.DataFrame([facts("mine", "whatever"), facts("mine", "whatever")], index=["mine-1", "mine-2"])
    wanted = {f"mine-{i}": f"mine whatever · Adam · 300 steps · mine-{i}" for i in (1, 2)}
    assert labels(table) == wanted


def test_runs_are_labelled_by_their_tasks() -> None:
    rows = [row("policy", "policy", 0.0, seed, task=task) for task in ("f-1", "f-2") for seed in (0, 1)]
    assert [*of_runs(pd.DataFrame(rows))] == ["f-1", "f-2"]


@pytest.mark.parametrize("split", ["train", "selection", "heldout"])
def test_every_task_of_the_benchmark_has_a_label_of_its_own(split: str) -> None:
    entries = json.loads(MANIFEST.read_text(encoding="utf-8"))["tasks"]
    mine = {
        f"{family}-{e['seed']}": facts(
            family, e["workload"], optimizer=e["optimizer"], n_steps=e["n_steps"],
            steps_per_epoch=e["sizes"]["train"] / e["batch_size"],
        )
        for family, of_family in entries.items() if FAMILIES[family].split == split for e in of_family
    }  # fmt: skip
    names = labels(pd.DataFrame.from_dict(mine, orient="index"))
    assert len({*names.values()}) == len(mine)
    assert not any(task in name for task, name in names.items())
    batches = {f"{family}-{e['seed']}": e["batch_size"] for family, of in entries.items() for e in of}
    assert all(name.endswith(f"batch {batches[task]}") for task, name in names.items())
