"""A simulated training does not depend on what becomes of its neighbours."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from pipeline.simulation.follow import follow
from pipeline.simulation.recorder import Recording
from pipeline.simulation.simulate import simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import Population
from tiny import world

SEEDS = [0, 1, 2, 3]
WILD = np.array([True, False, True, False])
DEVICES = ("cpu", "cuda")
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture
def workload() -> Workload:
    """Where a high rate ends in numbers that are not finite: a loss without bounds."""

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (outputs.sum(-1) - y).square().square().mean()

    return replace(world("sgd", 300), loss=loss)


def act(pilot: Pilot, which: np.ndarray) -> None:
    """One of the tame ones goes back to an earlier state late, when the wild ones have diverged."""
    pilot.act(np.where(WILD, 1.0, -1.0), which)
    last = np.array([False, False, False, True])
    pilot.safety.rises, pilot.safety.restarts = last & (pilot.decision == 38), last & (pilot.decision == 40)


def members(record: Recording, which: np.ndarray) -> list[np.ndarray]:
    """Everything that is recorded of some members, () or (..., members) each."""
    per_decision = [record.steps, record.levels, record.rates, record.val_loss, record.val_error]
    telemetry = [[t[name] for t in record.telemetry] for name in record.telemetry[0]]
    assert record.probe is not None and record.curve is not None and record.test_loss is not None
    rest = [record.curve, record.test_loss, record.test_error, record.lr_curve, record.anchor]
    return [np.asarray(a)[..., which] for a in (*per_decision, *telemetry, *rest)] + [a[which] for a in record.probe]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_diverged_runs_are_left_out_and_the_others_recorded_the_same(
    device: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded() -> Recording:
        return simulate(workload, SEEDS, Protocol(), act, milestones=(150, 300), test=True, device=device)

    record = recorded()
    assert record.alive.tolist() == (~WILD).tolist()
    monkeypatch.setattr("pipeline.workloads.training.population.RETIRED", 2.0)
    whole = recorded()
    assert whole.alive.tolist() == (~WILD).tolist()
    for mine, wanted in zip(members(record, ~WILD), members(whole, ~WILD), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4)
    assert np.isnan(record.val_loss[-1][WILD]).all() and np.isnan(record.curve[-1][WILD]).all()  # type: ignore[index]


def test_the_best_checkpoint_of_each_member_is_kept() -> None:
    """Against weights copied by hand wherever a validation loss is the lowest so far."""
    workload, rates = world("sgd", 200), np.full((200, 4), 0.1)
    rates[120:, :2] = 30.0  # two members blow up late
    points = (40, 80, 120, 160, 200)
    record = follow(workload, SEEDS, rates, val_examples=64, milestones=points)
    population, lowest = Population(workload, SEEDS), np.full(4, np.inf)
    best = population.snapshot.clone()
    for step, lr in enumerate(rates):
        population.train_step(step, lr)
        if step + 1 in points:
            loss, _ = population.score(workload.val, 64)
            for i in np.flatnonzero(loss < lowest):
                lowest[i], best[i] = loss[i], population.snapshot[i]
    wanted, _ = population.score_of(best, workload.test)
    assert record.test_loss is not None and record.best_loss is not None
    np.testing.assert_allclose(record.best_loss, wanted, rtol=1e-5)
    assert (record.best_loss[:2] < 0.8 * np.nan_to_num(record.test_loss[:2], nan=np.inf)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_records_what_a_cpu_does() -> None:
    """Up to rounding, which grows: of a short training, and not of what it is after divergences."""
    calm = world("adam", 80)
    here, there = (simulate(calm, SEEDS, Protocol(), act, milestones=(40,), test=True, device=d) for d in DEVICES)
    for mine, wanted in zip(members(there, ~WILD), members(here, ~WILD), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_diverged_runs_of_given_rates_are_left_out(
    device: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = np.where(WILD, 1e3, 1e-3) * np.ones((workload.n_steps, 1))
    record = follow(workload, SEEDS, rates, milestones=(10, 300), device=device)
    monkeypatch.setattr("pipeline.workloads.training.population.RETIRED", 2.0)
    whole = follow(workload, SEEDS, rates, milestones=(10, 300), device=device)
    for mine, wanted in ((record.curve, whole.curve), (record.test_loss, whole.test_loss)):
        assert mine is not None and wanted is not None
        np.testing.assert_allclose(mine[..., ~WILD], wanted[..., ~WILD], rtol=1e-4)
        assert np.isnan(mine[..., WILD]).all()
    assert record.alive.tolist() == (~WILD).tolist()
