"""The benchmark's tasks are frozen, and what is drawn beside them is drawn alike."""

import json
import platform
from dataclasses import replace

import pytest
import torch

from pipeline.evaluation import splits
from pipeline.evaluation.splits import KINDS, MANIFEST, SPLITS, Task, draw, entry, facts, full, tasks
from pipeline.workloads import families
from pipeline.workloads.base import Family
from pipeline.workloads.families import FAMILIES, names
from tiny import world

torch.set_num_threads(1)  # worlds this small only lose by threads

FROZEN = json.loads(MANIFEST.read_text(encoding="utf-8"))
TEXTS = ("prose_", "stdlib_")  # made of texts that come with Python, which differ from version to version
DIFFERS = {"initial_loss": 3e-2}  # starts from a training of its own, in which rounding adds up: 1.1 % by BLAS kernel
DIFFERS_WIDE = {"initial_loss": 0.1}  # and of a wide network 3.7 % by processor


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_cannot_change_its_tasks_silently(name: str) -> None:
    """If this is meant: `python -m pipeline.evaluation.splits`, and then everything that a benchmark wrote, anew."""
    if name.startswith(TEXTS) and platform.python_version() != FROZEN["python"]:
        pytest.skip(f"frozen with the texts of Python {FROZEN['python']}")
    drawn = draw(name, full(name))
    assert [task.seed for task in drawn] == [said["seed"] for said in FROZEN["tasks"][name]]
    differs = DIFFERS_WIDE if name.startswith("wide_finetune_") else DIFFERS
    for task, said in zip(drawn, FROZEN["tasks"][name], strict=True):
        for key, value in facts(task).items():
            numeric = isinstance(value, float)
            wanted = pytest.approx(said[key], rel=differs.get(key, 1e-3)) if numeric else said[key]
            assert value == wanted, (task.name, key)


BY_OPTIMIZER = [name for name, item in FAMILIES.items() if item.split != "train" and item.frozen is None]


def test_the_file_holds_every_family() -> None:
    assert set(FROZEN["tasks"]) == set(FAMILIES)
    for name, entries in FROZEN["tasks"].items():
        assert len(entries) == full(name) and {said["regime"] for said in entries} == {FAMILIES[name].regime}
    assert all(full(name) == 1 for name in names("train"))


@pytest.mark.parametrize("name", BY_OPTIMIZER)
def test_a_family_that_does_not_say_how_many_has_one_task_of_each_of_three_optimizers(name: str) -> None:
    assert sorted(said["optimizer"] for said in FROZEN["tasks"][name]) == sorted(KINDS)


def test_the_shorter_of_two_draws_comes_first() -> None:
    first, last = draw("diabetes", 3), draw("diabetes", 6)[3:]
    for shorter, longer in zip(first, last, strict=True):
        assert shorter.sample().optimizer == longer.sample().optimizer
        assert shorter.sample().n_steps <= longer.sample().n_steps


@pytest.mark.parametrize("split", SPLITS[1:])
def test_a_small_benchmark_has_all_three(split: str) -> None:
    first = [FROZEN["tasks"][name][0]["optimizer"] for name in names(split) if name in BY_OPTIMIZER]
    assert set(first) == set(KINDS)


def test_a_family_may_say_how_many_tasks_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first draws, whatever their optimizer, and however many are asked for."""
    monkeypatch.setitem(families.FAMILIES, "diabetes", replace(FAMILIES["diabetes"], frozen=2))
    monkeypatch.setattr(splits, "_entries", lambda name: [])
    assert tasks(("diabetes",), 1) == tasks(("diabetes",), 5) == draw("diabetes", 7)[:2] and full("diabetes") == 2


def test_a_workload_is_made_once() -> None:
    """Some are pre-trained when they are made."""
    (task,) = tasks(("illconditioned",), 1)
    assert task.sample() is Task(task.split, task.family, task.seed).sample()


def test_tasks_come_from_the_file_as_long_as_it_has_some() -> None:
    seeds = [said["seed"] for said in FROZEN["tasks"]["mnist_mlp"][:2]]
    assert tasks(("mnist_mlp",), 2) == [Task("heldout", "mnist_mlp", seed) for seed in seeds]
    more = tasks(("spirals",), 5)
    assert len(set(more)) == 5 and {task.split for task in more} == {"train"}


def test_other_seeds_draw_other_tasks() -> None:
    assert not set(draw("illconditioned", 1, 7)) & set(draw("illconditioned", 1, 8))
    assert draw("illconditioned", 3) == tasks(("illconditioned",), 3)


def test_what_the_file_says_of_a_task() -> None:
    (task,) = tasks(("diabetes",), 1)
    said = entry(task)
    assert said == FROZEN["tasks"]["diabetes"][0] and said["default"] == list(task.sample().default)
    assert entry(Task("selection", "diabetes", 7)) is None


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError, match="workload family 'cifar' is unknown"):
        tasks(("spirals", "cifar"), 1)


def test_the_file_is_what_the_command_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "FAMILIES", {name: FAMILIES[name] for name in ("illconditioned", "diabetes")})
    manifest = splits.manifest()
    assert set(manifest) == set(FROZEN) and list(manifest["tasks"]) == ["illconditioned", "diabetes"]
    assert manifest["tasks"]["diabetes"][0].keys() == FROZEN["tasks"]["diabetes"][0].keys()


@pytest.mark.parametrize(
    ("family", "label"),
    [
        ("diabetes", "diabetes MLP 3×34 · Adam · 331 steps · batch 12"),
        ("autompg", "auto-mpg scaled MLP linear · Adam"), ("mnist1d", "MNIST-1D MLP 2×34 · AdamW"),
        ("mnist1d_overfit", "overfit MNIST-1D 25 % wrong labels MLP 2×91 · SGD"),
        ("finetune_mnist1d", "fine-tuned MNIST-1D inverted CNN 8 · SGD"),
        ("mnist_finetune", "MNIST fine-tuned turned MLP 1×69 · SGD"),
        ("prose_lm", "language model prose RNN 14 · Adam"),
        ("stdlib_lm_transformer", "language model stdlib transformer 1×16 · Adam"),
        ("prose_bag", "prose12 bag 1024×24 · AdamW"), ("signals", "signals12 residual net 1×3×8 batch norm · Adam"),
        ("overfit", "overfit digits 18 % wrong labels MLP 2×83 batch norm drop0.49 · Lion"),
        ("few_rows", "few rows table3 tabular30×30 batch norm drop0.23 · Lion"),
        ("classification", "classification clusters5 ×0.39 MLP 2×69 drop0.21 gain0.92 · SGD"),
        ("pictures_vit", "pictures cells4 vision transformer 3×32 drop0.24 · AdamW"),
        ("solids_residual", "solids residual net group norm · AdamW"),
    ],
)  # fmt: skip
def test_what_a_familys_first_task_is_called_on_pages(family: str, label: str) -> None:
    if family.startswith(TEXTS) and platform.python_version() != FROZEN["python"]:
        pytest.skip(f"frozen with the texts of Python {FROZEN['python']}")
    (task,) = tasks((family,), 1)
    said = entry(task)
    written = FAMILIES[family].label(task.sample())
    assert written.startswith(label) and said is not None
    assert written.endswith(f" · {said['n_steps']:,} steps · batch {said['batch_size']}")


def test_a_workload_without_a_title_is_called_by_its_name() -> None:
    mine = Family("mine", "heldout", lambda _: world(), "odd")
    assert mine.label(world("sgd", 1200)) == "tiny-sgd · SGD · 1,200 steps · batch 16"
