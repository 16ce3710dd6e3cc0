"""What Lightning's callback says of a training's length and data, in real trainings of every kind of loader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import lightning_two
from lightning_training import BATCHES, EPOCHS, IGNORED, Batches, Module, fit
from lrpilot.policy_file.bundle import Bundle
from processes import in_two_processes

pytestmark = [
    *IGNORED,
    pytest.mark.filterwarnings("ignore:You requested to overfit"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`"),
]
EXAMPLES = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
BY_FOUR: dict[str, Any] = {"batch_size": 4}  # 24 batches
THREE: dict[str, Any] = {"max_epochs": 3}


class Stream(IterableDataset[Tensor]):
    """The examples one by one."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(EXAMPLES)


class Counted(Stream):
    """A stream that says how long it is."""

    def __len__(self) -> int:
        return len(EXAMPLES)


class FromSeveral(Module):
    """Trains on the first of several loaders."""

    def training_step(self, batch: Any, index: int) -> Any:
        return super().training_step(next(iter(batch.values())) if isinstance(batch, dict) else batch[0], index)


def shuffled(**kw: Any) -> DataLoader[Tensor]:
    return DataLoader(EXAMPLES, shuffle=True, **(BY_FOUR | kw))  # pyright: ignore[reportArgumentType]


def ordered(data: Any = EXAMPLES, **kw: Any) -> DataLoader[Tensor]:
    return DataLoader(data, **(BY_FOUR | kw))


def sampled(sampler: Any) -> DataLoader[Tensor]:
    return ordered(sampler=sampler)


def weighted() -> DataLoader[Tensor]:
    return sampled(WeightedRandomSampler([1.0] * 96, 48))


def in_batches(sampler: Any) -> DataLoader[Tensor]:
    return DataLoader(EXAMPLES, batch_sampler=BatchSampler(sampler, 4, False))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("loader", "trainer", "made", "steps", "examples"),
    [
        (shuffled, THREE, 72, 24, 96),
        (ordered, THREE, 72, 24, 96),
        (lambda: shuffled(batch_size=5, drop_last=True), THREE, 57, 19, 96),
        (shuffled, THREE | {"accumulate_grad_batches": 5}, 15, 5, 96),  # the fifth has 4 batches
        (shuffled, THREE | {"limit_train_batches": 0.25}, 18, 24, 96),
        (shuffled, THREE | {"limit_train_batches": 6}, 18, 24, 96),
        (shuffled, THREE | {"limit_train_batches": 6, "accumulate_grad_batches": 4}, 6, 8, 96),  # 2 per quarter
        (ordered, THREE | {"limit_train_batches": 0.25}, 18, 6, 24),
        (ordered, THREE | {"limit_train_batches": 6, "accumulate_grad_batches": 4}, 6, 2, 24),
        (lambda: ordered(EXAMPLES[:23]), THREE | {"limit_train_batches": 5}, 15, 5, 20),
        (shuffled, {"max_epochs": None, "max_steps": 50}, 50, 24, 96),
        (shuffled, {"max_epochs": 9, "max_steps": 50, "accumulate_grad_batches": 3}, 50, 8, 96),
        (shuffled, THREE | {"overfit_batches": 3}, 9, 3, 12),
        (lambda: ordered(Subset(EXAMPLES, range(40))), THREE, 30, 10, 40),  # pyright: ignore[reportArgumentType]
        (lambda: sampled(SubsetRandomSampler(range(40))), THREE, 30, 10, 40),
        (lambda: sampled(SubsetRandomSampler(range(40))), THREE | {"limit_train_batches": 5}, 15, 10, 40),
        (lambda: sampled(RandomSampler(EXAMPLES, num_samples=24)), THREE, 18, 24, 96),
        (weighted, THREE, 36, 24, 96),  # 12 batches an epoch, half a pass
        (weighted, THREE | {"limit_train_batches": 6}, 18, 24, 96),
        (lambda: in_batches(RandomSampler(EXAMPLES)), THREE | {"limit_train_batches": 6}, 18, 24, 96),
        (lambda: in_batches(SequentialSampler(EXAMPLES)), THREE | {"limit_train_batches": 6}, 18, 6, 24),
        (lambda: ordered(Counted()), THREE, 72, 24, 96),
        (lambda: ordered(Counted()), THREE | {"limit_train_batches": 6}, 18, None, None),
        (lambda: ordered(Stream()), {"max_epochs": -1, "max_steps": 20}, 20, None, None),
        (lambda: ordered(Stream()), THREE | {"limit_train_batches": 6}, 18, None, None),
        (lambda: sampled([*range(48)] * 2), THREE | {"limit_train_batches": 6}, 18, None, None),  # in what order?
        (Batches, {}, BATCHES * EPOCHS, BATCHES, None),  # no DataLoader
        (Batches, {"limit_train_batches": 8}, 8 * EPOCHS, None, None),
        (lambda: {"a": shuffled(), "b": ordered(batch_size=8)}, THREE, 72, None, None),
        (lambda: [shuffled(), ordered(batch_size=8)], THREE, 72, None, None),
        (lambda: CombinedLoader([shuffled(), ordered(batch_size=8)], "min_size"), THREE, 36, None, None),
    ],
)  # fmt: skip
def test_it_tells_how_many_data_there_are(
    policy: Bundle, loader: Callable[[], Any], trainer: dict[str, Any], made: int, steps: float | None, examples: Any
) -> None:
    train = loader()
    several = isinstance(train, dict | list | CombinedLoader)
    scheduler = fit((FromSeveral if several else Module)(policy), train=train, **trainer)
    assert scheduler.last_epoch == scheduler.planned_steps == made
    assert (scheduler.steps_per_epoch, scheduler.examples) == (steps, examples)


@pytest.mark.parametrize(
    ("known", "steps", "examples"),
    [({"steps_per_epoch": 7.0}, 7, None), ({"examples": 1000}, 24, 1000), ({"data": shuffled(batch_size=8)}, 12, 96)],
)
def test_what_is_known_stays(policy: Bundle, known: dict[str, Any], steps: float, examples: int | None) -> None:
    scheduler = fit(Module(policy, **known), train=shuffled(), **THREE)
    assert (scheduler.steps_per_epoch, scheduler.examples) == (steps, examples)


@pytest.mark.parametrize("validated", [False, True])
def test_the_first_decision_knows_it_without_a_probe_too(policy: Bundle, validated: bool) -> None:
    """As if it had been known when the scheduler was made; a validation before the training counts all the same."""
    kw: dict[str, Any] = {"val": Batches(3, seed=1), "num_sanity_val_steps": -1} if validated else {}
    later = fit(Module(policy, probe=False), train=ordered(), **kw, **THREE)
    known = fit(Module(policy, probe=False, steps_per_epoch=24, examples=96), train=ordered(), **kw, **THREE)
    assert later.history == known.history
    assert later.history[0].observation["has_val"] == validated
    assert later.history[0].lr != fit(Module(policy, probe=False), train=Batches(), **THREE).history[0].lr


@pytest.mark.parametrize("probe", [False, True])
def test_a_training_begins_with_one_line(policy: Bundle, probe: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lrpilot"):
        fit(Module(policy, probe=probe), train=shuffled(), accumulate_grad_batches=2, **THREE)
    (line,) = [record.getMessage() for record in caplog.records if "optimizer steps" in record.getMessage()]
    assert line.startswith("36 optimizer steps; 3 passes over 96 examples, 12 steps each; ")


# Of 3 epochs of 12 batches in each process: optimizer steps made, of a pass over the data, and examples
IN_TWO = [
    (36, 12, 96), (9, 3, 96), (9, 12, 96),
    (9, 12, 96),  # Lightning shuffles what several processes share
    (9, 3, 24), (20, 12, 96), (36, 12, 96),
    (18, None, None), (72, None, None),  # a sampler of another length; one that is not shared
]  # fmt: skip


def test_two_processes_share_an_epoch(tmp_path: Path) -> None:
    """The first one says once what begins."""
    for rank, of_rank in enumerate(in_two_processes(lightning_two.__file__, tmp_path)):
        for at, (*facts, lines) in enumerate(of_rank):
            made, steps, examples = IN_TWO[at]
            assert facts == [made, made, steps, examples], at
            starts = [line for line in lines if "optimizer steps" in line]
            assert len(starts) == (rank == 0), at
        assert len(of_rank) == len(IN_TWO)
