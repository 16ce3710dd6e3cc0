"""How many data there are, read in the loop that builds a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from bundles import write_bundle
from lrpilot.loader import NEAR
from lrpilot.torch import PilotLR


def batches(n: int = 40, size: int = 4, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(n, 2)), size, shuffle=shuffle)


def pilot(policy: Any, total_steps: int, **options: Any) -> PilotLR:
    return PilotLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))]), total_steps, policy, **options)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield torch.zeros(2)


def plain(policy: Any) -> PilotLR:
    train, test = batches(), batches(20, shuffle=False)
    return pilot(policy, 5 * len(train) + 0 * len(test))


def owned(policy: Any) -> PilotLR:
    class Owner:
        def __init__(self) -> None:
            self.train = batches()

        def begin(self) -> PilotLR:
            return pilot(policy, 60)

    return Owner().begin()


def passed_on(policy: Any) -> PilotLR:
    train = batches()
    return (lambda: pilot(policy, len(train) * 2))()


def nearest(policy: Any) -> PilotLR:
    train = batches()
    assert len(train) == 10

    def inner() -> PilotLR:
        train = batches(20)
        return pilot(policy, 4 * len(train))

    return inner()


def given_one(policy: Any) -> PilotLR:
    train = batches()
    return pilot(policy, 5 * len(train), steps_per_epoch=25, examples=99)


def in_part(policy: Any) -> PilotLR:
    train = batches()
    return pilot(policy, 5 * len(train) + 1)


def two(policy: Any) -> PilotLR:
    train, other = batches(), batches(20)
    return pilot(policy, len(train) * len(other))


def unshuffled(policy: Any) -> PilotLR:
    train = batches(shuffle=False)
    return pilot(policy, 5 * len(train))


def endless(policy: Any) -> PilotLR:
    train: DataLoader[Any] = DataLoader(Endless(), 4)
    assert train.batch_size == 4
    return pilot(policy, 50)


def far(policy: Any, depth: int = NEAR) -> PilotLR:
    train = batches() if depth == NEAR else None
    return pilot(policy, 50) if depth == 0 else (far(policy, depth - 1), train)[0]


@pytest.mark.parametrize(
    ("loop", "size"),
    [(plain, (10, 40)), (owned, (10, 40)), (passed_on, (10, 40)), (nearest, (5, 20)), (given_one, (25, 99)),
     (in_part, (None, None)), (two, (None, None)), (unshuffled, (None, None)), (endless, (None, None)),
     (far, (None, None))],
)  # fmt: skip
def test_the_data_are_those_of_the_loader_that_the_loop_shuffles(
    loop: Callable[[Any], PilotLR], size: tuple[int | None, int | None], tmp_path: Any
) -> None:
    scheduler = loop(write_bundle(tmp_path / "policy.onnx"))
    assert (scheduler.steps_per_epoch, scheduler.examples) == size
    (decision,) = scheduler.history
    assert [decision.observation[name] for name in ("has_epochs", "has_examples")] == [size[0] is not None] * 2


def test_a_resumed_training_knows_its_data_wherever_it_is_resumed(tmp_path: Any) -> None:
    policy = write_bundle(tmp_path / "policy.onnx")
    elsewhere = pilot(policy, 50)
    assert elsewhere.steps_per_epoch is None
    elsewhere.load_state_dict(plain(policy).state_dict())
    assert (elsewhere.steps_per_epoch, elsewhere.examples) == (10, 40)
