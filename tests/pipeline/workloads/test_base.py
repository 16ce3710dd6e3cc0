"""What a workload says of itself: its batches, its length in epochs, what it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.workloads.base import Data, Family, Workload
from pipeline.workloads.families import FAMILIES
from tiny import world


def few(examples: int, batch_size: int, n_steps: int) -> Workload:
    """The tiny world with so many training examples."""
    whole = world()
    train = Data(whole.train.x[:examples], whole.train.y[:examples])
    return replace(whole, train=train, batch_size=batch_size, n_steps=n_steps)


@pytest.mark.parametrize(
    ("examples", "batch_size", "n_steps", "per_epoch"),
    [(12, 4, 9, 3), (12, 4, 7, 3), (13, 4, 9, 3), (15, 4, 3, 3), (9, 9, 3, 1), (7, 4, 2, 1), (5, 1, 20, 5)],
)
def test_batches_go_through_the_data_epoch_by_epoch(
    examples: int, batch_size: int, n_steps: int, per_epoch: int
) -> None:
    """No example comes twice in an epoch, and every epoch has an order of its own."""
    batches = few(examples, batch_size, n_steps).batches(3)
    assert batches.shape == (n_steps, batch_size)
    for start in range(0, n_steps, per_epoch):
        epoch = batches[start : start + per_epoch].ravel()
        assert len(set(epoch.tolist())) == len(epoch) and set(epoch.tolist()) <= set(range(examples))
    if n_steps >= 2 * per_epoch:
        assert batches[:per_epoch].tolist() != batches[per_epoch : 2 * per_epoch].tolist()


def test_an_example_that_one_epoch_drops_comes_in_another() -> None:
    assert set(few(7, 4, 40).batches(0).ravel().tolist()) == set(range(7))


def test_a_seed_decides_the_batches() -> None:
    workload = few(12, 4, 6)
    np.testing.assert_array_equal(workload.batches(1), workload.batches(1))
    assert workload.batches(1).tolist() != workload.batches(2).tolist()
    np.testing.assert_array_equal(workload.batches(1)[:3], replace(workload, n_steps=3).batches(1))


def test_an_epoch_may_end_within_a_batch() -> None:
    assert few(13, 4, 9).steps_per_epoch == 3.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optimizer": "adadelta"},
            r"Workload\.optimizer: 'adadelta', want one of \('adam', 'adamw', 'sgd'",
        ),
        ({"clip": 0.0}, r"Workload\.clip: 0\.0, want a norm above 0, or None"),
        ({"batch_size": 0}, r"Workload\.batch_size: 0, want 1\.\.192"),
        ({"batch_size": 193}, r"Workload\.batch_size: 193, want 1\.\.192 \(training examples\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(world(), **change)


def test_a_batch_may_hold_all_the_data_or_one_example() -> None:
    assert [replace(world(), batch_size=size).steps_per_epoch for size in (1, 192)] == [192, 1]


def test_given_parameters_replace_the_fresh_ones() -> None:
    fresh, bias = world(), torch.tensor([1.0, 2.0, 3.0])
    given = replace(fresh, start={"2.bias": bias})
    wanted = dict(fresh.initialise(5).state_dict()) | {"2.bias": bias}
    for name, value in given.initialise(5).state_dict().items():
        assert torch.equal(value, wanted[name])


@pytest.mark.parametrize(
    ("targets", "predictions", "scored"),
    [
        (torch.zeros(64, dtype=torch.int64), 40, 40),
        (torch.zeros(64, 3), 40, 40),  # three numbers of one example
        (torch.zeros(64, 1, dtype=torch.int64), 40, 40),
        (torch.zeros(64, 8, dtype=torch.int64), 400, 50),
        (torch.zeros(64, 8, dtype=torch.int64), 401, 51),
        (torch.zeros(64, 8, dtype=torch.int64), 40, 32),  # some sequences there must be
    ],
)
def test_a_sequence_counts_once_for_each_symbol(targets: torch.Tensor, predictions: int, scored: int) -> None:
    workload = world()
    assert replace(workload, val=Data(workload.val.x, targets)).scored(predictions) == scored


def test_a_family_names_the_module_that_defines_it() -> None:
    assert FAMILIES["mnist_cnn"].module == "pipeline.workloads.heldout.small"
    assert (
        Family("spirals", "train", FAMILIES["spirals"].sample, "odd").module == "pipeline.workloads.recorded.synthetic"
    )
