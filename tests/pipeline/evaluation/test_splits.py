"""The benchmark's tasks are frozen, and what is drawn beside them is drawn alike."""

import json
import platform

import pytest
import torch

from pipeline.evaluation import splits
from pipeline.evaluation.splits import MANIFEST, ROUNDS, Task, draw, facts, tasks
from pipeline.workloads.base import OPTIMIZERS
from pipeline.workloads.families import FAMILIES, names

torch.set_num_threads(1)  # worlds this small only lose by threads

FROZEN = json.loads(MANIFEST.read_text(encoding="utf-8"))
TEXTS = ("prose_", "stdlib_")  # made of texts that come with Python, which differ from version to version
DIFFERS = {"initial_loss": 1e-2}  # starts from a training of its own, in which rounding adds up


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_cannot_change_its_tasks_silently(name: str) -> None:
    """If this is meant: `python -m pipeline.evaluation.splits`, and then everything that a benchmark wrote, anew."""
    if name.startswith(TEXTS) and platform.python_version() != FROZEN["python"]:
        pytest.skip(f"frozen with the texts of Python {FROZEN['python']}")
    drawn = draw(name, ROUNDS[FAMILIES[name].split])
    assert [task.seed for task in drawn] == [entry["seed"] for entry in FROZEN["tasks"][name]]
    for task, entry in zip(drawn, FROZEN["tasks"][name], strict=True):
        for key, value in facts(task).items():
            numeric = isinstance(value, float)
            wanted = pytest.approx(entry[key], rel=DIFFERS.get(key, 1e-3)) if numeric else entry[key]
            assert value == wanted, (task.name, key)


def test_the_file_holds_every_family_and_optimizer() -> None:
    assert set(FROZEN["tasks"]) == set(FAMILIES)
    for name, entries in FROZEN["tasks"].items():
        kinds = [entry["optimizer"] for entry in entries]
        assert [kinds.count(kind) for kind in OPTIMIZERS] == [ROUNDS[FAMILIES[name].split]] * len(OPTIMIZERS)


@pytest.mark.parametrize("split", ROUNDS)
def test_a_small_benchmark_has_all_optimizers(split: str) -> None:
    first = [FROZEN["tasks"][name][0]["optimizer"] for name in names(split)]
    assert {first.count(kind) for kind in OPTIMIZERS} <= {len(first) // 3, -(-len(first) // 3)}


def test_tasks_come_from_the_file_as_long_as_it_has_some() -> None:
    drawn = tasks(("spirals", "mnist_mlp"), 2)
    seeds = [entry["seed"] for name in ("spirals", "mnist_mlp") for entry in FROZEN["tasks"][name][:2]]
    assert drawn == [
        Task(split, name, seed)
        for (split, name), seed in zip([("train", "spirals")] * 2 + [("heldout", "mnist_mlp")] * 2, seeds, strict=True)
    ]
    more = tasks(("spirals",), 5)
    assert len(set(more)) == 5 and {task.split for task in more} == {"train"}


def test_other_seeds_draw_other_tasks() -> None:
    assert not set(draw("illconditioned", 1, 7)) & set(draw("illconditioned", 1, 8))
    assert draw("illconditioned", ROUNDS["train"]) == tasks(("illconditioned",), 3)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError, match="workload family 'cifar' is unknown"):
        tasks(("spirals", "cifar"), 1)


def test_the_file_is_what_the_command_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "FAMILIES", {name: FAMILIES[name] for name in ("illconditioned", "diabetes")})
    manifest = splits.manifest()
    assert set(manifest) == set(FROZEN) and list(manifest["tasks"]) == ["illconditioned", "diabetes"]
    assert manifest["tasks"]["diabetes"][0].keys() == FROZEN["tasks"]["diabetes"][0].keys()
