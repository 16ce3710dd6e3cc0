"""How large a network is: by hand, and alike however its parameters are told."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lrpilot.decisions.network_size import UNKNOWN, is_matrix, network_size
from lrpilot.loop.meter import Meter
from pipeline.workloads.training.population import Population
from tiny import world


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [((3, 4), True), ((8, 3, 3, 3), True), ((1, 4), False), ((4, 1), False), ((5,), False), ((), False)],
)
def test_gains_biases_and_single_rows_are_no_matrices(shape: tuple[int, ...], matrix: bool) -> None:
    assert is_matrix(shape) == matrix


def test_facts_by_hand() -> None:
    """Mean squares 4, 1 and 9; fan-ins 4, 18 and 2; a bias counts as weights alone."""
    size = network_size([(3, 4), (3,), (5, 2, 3, 3), (3, 2)], [48.0, 90.0, 54.0])
    assert size == (4.0, 3, 111, 2.0)


def test_every_run_has_a_scale_of_its_own() -> None:
    size = network_size([(2, 2)], np.array([[4.0, 16.0]]))
    assert size.fan_in == 2 and size.scale.tolist() == [1.0, 2.0]


def test_a_network_without_a_matrix_is_unknown() -> None:
    assert network_size([(5,), (1, 7)], []) is UNKNOWN


def test_a_meter_measures_what_the_optimizer_trains() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 3))
    with torch.no_grad():
        for layer, value in ((model[0], 1.0), (model[2], -2.0), (model[3], 3.0)):
            nn.init.constant_(layer.weight, value)  # pyright: ignore[reportArgumentType]
    model[3].requires_grad_(False)
    size = Meter(torch.optim.SGD(model.parameters(), lr=0.1)).network_size()
    assert size[:3] == (5.0, 2, 24 + 4 + 8 + 16 + 4) and size.scale == pytest.approx(math.sqrt(2.5))


def test_a_population_is_measured_as_its_members_are() -> None:
    workload = world("adam")
    size = Population(workload, (3, 4)).network_size()
    for member, seed in enumerate((3, 4)):
        optimizer = torch.optim.Adam(workload.initialise(seed).parameters())
        alone = Meter(optimizer).network_size()
        assert size[:3] == alone[:3] and size.scale[member] == pytest.approx(alone.scale, rel=1e-6)
