"""Twins train as one until they part, and from then on as if each had trained alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.cadence import Cadence, CadenceSpec
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import Act, Lineage, simulate
from pipeline.simulation.twins import Twins
from pipeline.workloads.base import Workload
from pipeline.workloads.training.update_rules import _RULES
from tiny import world

N, AT = 80, 12  # steps, decision at which twins depart
SEEDS = [3, 3, 3, 8]  # a base, two twins of it, another base
LINEAGE = Lineage(np.array([0, 0, 0, 3]), np.array([-1, AT, AT, -1]))


class Branching(nn.Sequential):
    """A module that cannot be vectorised: it looks at a number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if float(x.detach().abs().sum()) > 0 else x


# 16 units: kernels round numbers by their place in memory where members do not end at a multiple of a vector's width.
def modular(kind: type[nn.Sequential] = nn.Sequential) -> nn.Module:
    return kind(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.25), nn.Linear(16, 3))


def noisy(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x + 0.1 * torch.randn_like(x), y


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "batch norm, dropout": lambda: replace(world(n_steps=N), build=modular),
    "one by one": lambda: replace(world(n_steps=N), build=lambda: modular(Branching)),
    "augmented, clipped": lambda: replace(world("sgd", N), clip=0.5, augment=noisy),
    **{name: (lambda name=name: world(name, N, weight_decay=0.01)) for name in _RULES},
}


def departing(*actions: float) -> Act:
    """Each run holds its level, but at decision AT acts as given."""

    def act(pilot: Pilot, which: np.ndarray) -> None:
        pilot.act(np.array(actions) * (pilot.decision == AT), which)

    return act


@cache
def recorded(name: str, actions: tuple[float, ...], lineage: bool) -> Recording:
    return simulate(
        WORKLOADS[name](), SEEDS, Protocol(), departing(*actions), test=True, lineage=LINEAGE if lineage else None
    )  # fmt: skip


def everything(record: Recording, run: int) -> list[np.ndarray]:
    """All numbers that are recorded of a run."""
    by_decision = (record.steps, record.levels, record.rates, record.val_loss, record.val_error)
    telemetry = ([t[name] for t in record.telemetry] for name in record.telemetry[0])
    assert record.probe is not None and record.test_loss is not None
    probe = (part[run] for part in record.probe[:2])
    return [np.asarray(values)[..., run] for values in (*by_decision, *telemetry, record.test_loss)] + [*probe]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_twin_that_departs_by_nothing_is_its_base_bit_for_bit(name: str) -> None:
    record = recorded(name, (0.0, 0.0, -0.3, 0.0), True)
    for base, twin in zip(everything(record, 0), everything(record, 1), strict=True):
        np.testing.assert_array_equal(twin, base)
    assert record.val_loss[-1][2] != record.val_loss[-1][0]


@pytest.mark.parametrize("name", WORKLOADS)
def test_twins_train_as_separate_runs_do(name: str) -> None:
    actions = (0.0, 0.4, -0.6, 0.0)
    together, apart = (recorded(name, actions, lineage) for lineage in (True, False))
    for run in range(len(SEEDS)):
        for mine, wanted in zip(everything(together, run), everything(apart, run), strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=2e-4, atol=1e-6)


def test_what_is_common_is_trained_once() -> None:
    population = Twins(world(n_steps=N), SEEDS, LINEAGE.base, np.array([0, 20, 20, 0]))
    rates, nobody = np.full(4, 1e-3), np.zeros(4, bool)
    rows = []
    for step in range(30):
        loss = population.train_step(step, rates)
        assert loss[1] == loss[2] == loss[0] != loss[3]
        population.retire(nobody)
        rows.append(len(population.members))
    assert rows == [2] * 19 + [4] * 11


def test_a_twin_of_a_base_that_diverged_never_departs() -> None:
    population = Twins(world(n_steps=N), SEEDS, LINEAGE.base, np.array([0, 20, 20, 0]))
    population.train_step(0, np.full(4, 1e-3))
    population.retire(np.array([True, True, True, False]))
    for step in range(1, 25):
        population.train_step(step, np.full(4, 1e-3))
    assert population.retire(np.array([True, True, True, False])) is None
    assert population.members.tolist() == [3]
    assert np.isnan(population.spread(torch.ones(1)).numpy()).tolist() == [True, True, True, False]


def test_levels_part_before_the_first_step() -> None:
    """Twins of another first level have a row of their own from the beginning: probes may end at different steps."""
    cadence, lineage = Cadence(CadenceSpec(), N, True), Lineage(np.array([0, 0]), np.array([-1, 0]))

    def act(pilot: Pilot, which: np.ndarray) -> None:
        pilot.act(np.array([0.0, -0.4]) * (pilot.interval is None), which)

    record = simulate(world(n_steps=N), [3, 3], Protocol(), act, lineage=lineage)
    np.testing.assert_allclose(record.levels[0][1] - record.levels[0][0], -0.4 * ActionEquation().span)
    assert record.steps[1].tolist() == [cadence.bounds[1]] * 2
