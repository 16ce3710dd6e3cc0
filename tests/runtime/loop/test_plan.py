"""How long a training is and how many data it has, from what its scheduler is given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)  # fmt: skip

from bundles import write_bundle
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR


def examples(n: int) -> TensorDataset:
    return TensorDataset(torch.zeros(n, 2))


class Stream(IterableDataset[Any]):
    """Examples one after the other; `length` is what it says of itself."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        return iter(torch.zeros(40, 2))

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("no length")
        return self.length


class Batches:
    """A loader of some other library."""

    def __init__(self, dataset: Any = None) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[Any]:
        return iter(torch.zeros(10, 4, 2))


def loader(n: int, size: int | None = 4, **options: Any) -> DataLoader[Any]:
    return DataLoader(examples(n), size, **options)


def weighted(n: int, drawn: int) -> WeightedRandomSampler:
    return WeightedRandomSampler([1.0] * n, drawn)


def pilot(policy: Bundle, **options: Any) -> PilotLR:
    return PilotLR(torch.optim.SGD([nn.Parameter(torch.zeros(2))]), policy=policy, **options)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx"))


LOADERS = {
    "shuffled": (lambda: loader(40, shuffle=True), {}, (50, 10, 40)),
    "in order": (lambda: loader(40), {}, (50, 10, 40)),
    "last batch kept": (lambda: loader(42), {}, (55, 11, 42)),
    "last batch dropped": (lambda: loader(42, drop_last=True), {}, (50, 10, 42)),
    "batch sampler": (
        lambda: DataLoader(examples(42), batch_sampler=BatchSampler(SequentialSampler(range(42)), 8, False)), {},
        (30, 6, 42),
    ),
    "subset": (lambda: loader(40, sampler=SubsetRandomSampler(range(20))), {}, (25, 5, 20)),
    "half of the data": (lambda: loader(40, sampler=RandomSampler(range(40), num_samples=20)), {}, (25, 10, 40)),
    "weighted, thrice the data": (lambda: loader(40, sampler=weighted(40, 120)), {}, (150, 10, 40)),
    "weighted, a quarter": (lambda: loader(40, sampler=weighted(40, 10)), {}, (15, 12, 40)),
    "one of two processes": (
        lambda: loader(40, sampler=DistributedSampler(examples(40), num_replicas=2, rank=1)), {}, (25, 5, 40),
    ),
    "a stream with a length": (lambda: DataLoader(Stream(40), 4), {}, (50, 10, 40)),
    "a list of batches": (lambda: [torch.zeros(4, 2)] * 10, {}, (50, 10, None)),
    "another library's": (Batches, {}, (50, 10, None)),
    "another library's, with its data": (lambda: Batches(range(40)), {}, (50, 10, 40)),
    "data that come as batches": (lambda: loader(40, None), {}, (200, 40, None)),
    "accumulated": (lambda: loader(40), {"accumulate": 2}, (25, 5, 40)),
    "accumulated, the last step smaller": (lambda: loader(40), {"accumulate": 4}, (15, 3, 40)),
    "not accumulated": (lambda: loader(40), {"accumulate": 1}, (50, 10, 40)),
    "half an epoch": (lambda: loader(40), {"epochs": 2.5}, (25, 10, 40)),
    "steps of an epoch given": (lambda: loader(40), {"steps_per_epoch": 3}, (15, 3, 40)),
    "examples given": (lambda: loader(40), {"examples": 99}, (50, 10, 99)),
    "total given": (lambda: loader(40), {"epochs": None, "total_steps": 33}, (33, 10, 40)),
    "total given, accumulated": (
        lambda: loader(40), {"epochs": None, "total_steps": 33, "accumulate": 2}, (33, 5, 40),
    ),
    "a stream without a length, total given": (
        lambda: DataLoader(Stream(None), 4), {"epochs": None, "total_steps": 33}, (33, None, None),
    ),
    "a stream without a length, steps given": (
        lambda: DataLoader(Stream(None), 4), {"steps_per_epoch": 7}, (35, 7, None),
    ),
    "an endless generator, total given": (
        lambda: iter(lambda: torch.zeros(4, 2), None), {"epochs": None, "total_steps": 33}, (33, None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOADERS)
def test_a_loader_says_how_long_a_training_is(case: str, policy: Bundle) -> None:
    make, options, facts = LOADERS[case]
    scheduler = pilot(policy, **{"epochs": 5, "data": make(), "probe": False, **options})
    assert (scheduler.planned_steps, scheduler.steps_per_epoch, scheduler.examples) == facts
    (decision,) = scheduler.history
    known = [decision.observation[name] for name in ("has_epochs", "has_examples")]
    assert known == [fact is not None for fact in facts[1:]]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"total_steps": 50}, (50, None, None)),
        ({"epochs": 5, "steps_per_epoch": 12.5}, (63, 12.5, None)),
        ({"epochs": 5, "total_steps": 50}, (50, 10, None)),
        ({"total_steps": 50, "steps_per_epoch": 10, "examples": 40}, (50, 10, 40)),
        ({"total_steps": 50, "epochs": 5, "steps_per_epoch": 10}, (50, 10, None)),
    ],
)
def test_numbers_alone(options: dict[str, Any], facts: Any, policy: Bundle) -> None:
    scheduler = pilot(policy, **options)
    assert (scheduler.planned_steps, scheduler.steps_per_epoch, scheduler.examples) == facts


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "total_steps, epochs: neither is given"),
        ({"data": [1]}, ValueError, "total_steps, epochs: neither is given"),
        ({"epochs": 5}, ValueError, "epochs: 5 of unknown length; pass data=loader or steps_per_epoch="),
        ({"epochs": 0, "data": [1]}, ValueError, "epochs: 0, want a number above 0"),
        ({"epochs": "5", "data": [1]}, TypeError, "epochs: '5', want a number"),
        ({"epochs": 5, "steps_per_epoch": -1}, ValueError, "steps_per_epoch: -1, want a number above 0"),
        ({"epochs": 5, "data": [1], "accumulate": 0}, ValueError, "accumulate: 0, want at least 1"),
        ({"epochs": 5, "data": [1], "accumulate": 2.0}, TypeError, "accumulate: 2.0, want an int"),
        ({"total_steps": 5, "examples": 0}, ValueError, "examples: 0, want at least 1"),
        ({"epochs": 5, "data": examples(40)}, TypeError, "data: TensorDataset, want the DataLoader"),
        ({"epochs": 5, "data": torch.zeros(4)}, TypeError, "data: Tensor, want the DataLoader"),
        ({"epochs": 5, "data": 40}, TypeError, "data: 40, want the DataLoader"),
        ({"epochs": 5, "data": DataLoader}, TypeError, "data: type, want the DataLoader"),
        (
            {"total_steps": 5, "steps_per_epoch": 500, "examples": 10},
            ValueError,
            "examples: 10, but steps_per_epoch=500; an epoch has no more steps than examples; are they swapped?",
        ),
        ({"epochs": 5, "data": []}, ValueError, "data: it yields no batch"),
        ({"epochs": 5, "data": loader(3, drop_last=True)}, ValueError, "data: it yields no batch"),
        ({"epochs": 5, "data": DataLoader(Stream(None), 4)}, ValueError, "data: it has no length"),
        (
            {"epochs": 5, "data": [1] * 10, "total_steps": 25},
            ValueError,
            "total_steps: 25, but epochs=5 of 10 steps make 50; leave one out, or say accumulate=",
        ),
    ],
)
def test_what_makes_no_plan(options: dict[str, Any], error: type[Exception], message: str, policy: Bundle) -> None:
    with pytest.raises(error, match=message):
        pilot(policy, **options)


def test_a_resumed_training_knows_its_data(policy: Bundle) -> None:
    other = pilot(policy, total_steps=50)
    other.load_state_dict(pilot(policy, epochs=5, data=loader(40)).state_dict())
    assert (other.steps_per_epoch, other.examples) == (10, 40)


# Gradient accumulation, as the loop shows it


class Loop:
    """A training of five epochs of 40 batches, which accumulates `parts` of them in each optimizer step."""

    def __init__(self, policy: Bundle, report_each: bool, parts: int, **options: Any) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(160, 2)
        self.model = nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        data = DataLoader(TensorDataset(self.x), 4)
        self.scheduler = PilotLR(self.optimizer, policy=policy, epochs=5, data=data, **options)
        self.report_each, self.parts, self.batches, self.steps = report_each, parts, 0, 0
        self.zeroed_by_hand = False

    def loss(self) -> torch.Tensor:
        x = self.x[4 * (self.batches % 40) :][:4]
        self.batches += 1
        return (self.model(x) - x.sum(1, keepdim=True)).square().mean()

    def step(self) -> None:
        """One optimizer step."""
        for part in range(self.parts):
            loss = self.loss()
            (loss / self.parts).backward()
            last = part == self.parts - 1
            if last:
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=not self.zeroed_by_hand)
            if last or self.report_each:
                self.scheduler.step(loss)
        self.steps += 1

    def train(self, epochs: int) -> None:
        while self.batches < 40 * epochs:
            self.step()


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("zeroed_by_hand", [True, False])
def test_reports_of_each_batch_say_how_many_make_a_step(policy: Bundle, probe: bool, zeroed_by_hand: bool) -> None:
    loop = Loop(policy, True, 2, probe=probe)
    loop.zeroed_by_hand = zeroed_by_hand
    assert loop.scheduler.planned_steps == 200
    loop.train(5)
    assert loop.steps == loop.scheduler.planned_steps == 100 and loop.scheduler.steps_per_epoch == 20
    said = Loop(policy, True, 2, probe=probe, accumulate=2)
    said.train(5)
    assert said.scheduler.history == loop.scheduler.history


def test_a_loop_that_reports_once_per_step_is_asked(policy: Bundle) -> None:
    loop = Loop(policy, False, 4)
    with pytest.warns(UserWarning, match="4 backward passes made the first optimizer step.* pass accumulate=4"):
        loop.train(1)
    assert loop.scheduler.planned_steps == 200


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.filterwarnings("error")
def test_a_loop_that_says_so_is_not_asked(policy: Bundle, accumulate: int) -> None:
    loop = Loop(policy, False, 4, accumulate=accumulate)
    loop.train(1)
    assert loop.scheduler.planned_steps == 200 // accumulate


@pytest.mark.filterwarnings("error")
def test_a_skipped_step_is_no_accumulation(policy: Bundle) -> None:
    """A GradScaler skips the first step: the loop reports its loss, zeroes the gradient and goes on."""
    loop = Loop(policy, True, 1)
    loss = loop.loss()
    loss.backward()
    loop.optimizer.zero_grad()
    loop.scheduler.step(loss)
    loop.train(1)
    assert loop.scheduler.planned_steps == 200


@pytest.mark.parametrize("resumed_at", [1, 30])
@pytest.mark.filterwarnings("error")
def test_accumulation_that_was_counted_is_resumed(policy: Bundle, resumed_at: int) -> None:
    first, second = Loop(policy, True, 2), Loop(policy, True, 2)
    for _ in range(resumed_at):
        first.step()
    for name in ("model", "optimizer", "scheduler"):
        getattr(second, name).load_state_dict(copy.deepcopy(getattr(first, name).state_dict()))
    second.batches, second.steps = first.batches, first.steps
    for loop in (first, second):
        loop.train(5)
    assert second.scheduler.planned_steps == 100 and second.scheduler.history == first.scheduler.history


# The order of two lines


@pytest.mark.parametrize("told", [True, False])
def test_a_loader_made_before_or_after_changes_nothing(told: bool, policy: Bundle) -> None:
    def trained(make: Callable[[], Any], scheduler_first: bool) -> tuple[list[float], list[float]]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters())

        def scheduled(**options: Any) -> PilotLR:
            return PilotLR(optimizer, 120, policy, **options)

        if scheduler_first:
            scheduler = scheduled(steps_per_epoch=40, examples=160) if told else scheduled()
            data = make()
        else:
            data = make()
            scheduler = scheduled(data=data) if told else scheduled()
        for _ in range(3):
            for (x,) in data:
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step(loss)
        return [d.lr for d in scheduler.history], [w for p in model.parameters() for w in p.flatten().tolist()]

    x = torch.randn(160, 2, generator=torch.Generator().manual_seed(1))

    def make() -> Any:
        return DataLoader(TensorDataset(x), 4, shuffle=True, generator=torch.Generator().manual_seed(2))

    assert trained(make, True) == trained(make, False)
