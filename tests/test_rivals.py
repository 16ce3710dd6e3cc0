"""Rivals train as their users would have them: torch's schedulers step for step, the others through their packages."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR

from lrpilot.torch import PilotLR
from pipeline.rivals import RIVALS, TEXTBOOK, Driver, of_scheduler, plain, score, train
from pipeline.schedules import multipliers
from pipeline.simulate import follow
from pipeline.splits import tasks
from pipeline.workloads.registry import FAMILIES
from tiny import world

N, POINTS, SEEDS = 120, (40, 80, 120), (0, 3)


class Told:
    """A scheduler that keeps what it hears."""

    def __init__(self, optimizer: Any, total_steps: int) -> None:
        self.heard: list[float] = []


class ToldLoss(Told):
    def step(self, loss: torch.Tensor) -> None:
        self.heard.append(loss.item())


class ToldMetrics(Told):
    def step(self, metrics: float) -> None:
        self.heard.append(metrics)


class ToldNothing(Told):
    def step(self, epoch: int | None = None) -> None:
        self.heard.append(np.nan if epoch is None else epoch)


@pytest.mark.parametrize("optimizer", TEXTBOOK)
def test_torchs_scheduler_equals_the_population(optimizer: str) -> None:
    """CosineAnnealingLR itself, in the plain loop, against the schedule as the grid trains it."""
    workload = world(optimizer, N, 0.05 if optimizer == "adamw" else 0.0)
    cosine = of_scheduler(CosineAnnealingLR)
    found = train(workload, SEEDS, cosine, 64, POINTS)
    rates = np.repeat(TEXTBOOK[optimizer] * multipliers("cosine", N)[:, None], len(SEEDS), axis=1)
    wanted = follow(workload, SEEDS, rates, val_examples=64, milestones=POINTS)
    for name in ("lr_curve", "curve", "test_loss", "test_error"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(found.val_loss, wanted.val_loss, rtol=1e-3)
    np.testing.assert_allclose(found.val_error, wanted.val_error, rtol=1e-3)
    assert found.alive.all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_loop_equals_the_population(name: str) -> None:
    """On the benchmark's first task of every family, to the end of a whole training of two members."""
    workload = tasks((name,), 1)[0].sample()
    n, lr = workload.n_steps, 0.3 * TEXTBOOK[workload.optimizer]
    found = train(workload, SEEDS, of_scheduler(lambda optimizer, _: ConstantLR(optimizer, 0.3, 10**9)), 64, (n,))
    wanted = follow(workload, SEEDS, np.full((n, len(SEEDS)), lr), val_examples=64, milestones=(n,))
    for figure in ("curve", "test_loss", "val_loss"):
        np.testing.assert_allclose(getattr(found, figure), getattr(wanted, figure), rtol=1e-3, err_msg=figure)


@pytest.mark.parametrize("optimizer", TEXTBOOK)
@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_trains_every_kind(name: str, optimizer: str) -> None:
    workload = world(optimizer, N, 0.05 if optimizer == "adamw" else 0.0)
    found = train(workload, SEEDS, RIVALS[name], 64, POINTS)
    begin = [score(workload, workload.initialise(seed), workload.test)[0] for seed in SEEDS]
    assert found.curve is not None and found.curve.shape == (3, 2)
    assert found.lr_curve is not None and found.lr_curve.shape == (N, 2) and (found.lr_curve > 0).all()
    assert (np.abs(np.asarray(found.test_loss) - begin) > 0.01).all()  # for better or, in so few steps, for worse
    again = train(workload, SEEDS[1:], RIVALS[name], 64, POINTS)
    np.testing.assert_array_equal(again.test_loss, np.asarray(found.test_loss)[1:])


def test_plateau_falls_where_nothing_improves() -> None:
    still = replace(world("adam", N), loss=lambda outputs, y: (outputs * 0).sum() + 1)
    found = train(still, (0,), RIVALS["plateau"], 64, range(1, N + 1))
    assert found.lr_curve is not None
    rates = found.lr_curve[:, 0]  # patience 10, then a tenth
    assert rates[:12].tolist() == [1e-3] * 12
    assert rates[12] == pytest.approx(1e-4)


def test_prodigy_finds_a_rate_of_its_own() -> None:
    found = train(world("adam", N), (0,), RIVALS["prodigy"], 64, POINTS)
    assert found.lr_curve is not None
    assert found.lr_curve[0, 0] == pytest.approx(1e-6)
    assert found.lr_curve[-1, 0] > 1e-5


def test_schedule_free_is_judged_on_its_evaluation_weights() -> None:
    workload, kept = world("adam", N), list[Any]()

    def recipe(params: list[torch.nn.Parameter], workload: Any) -> Driver:
        kept.append((params, RIVALS["schedule_free"](params, workload)))
        return kept[0][1]

    found = train(workload, (0,), recipe, 64, POINTS)
    (params, driver), model = kept[0], workload.initialise(0)

    def loss() -> float:
        torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(params), model.parameters())
        return score(workload, model, workload.test)[0]

    training = loss()
    driver.optimizer.eval()
    assert found.test_loss is not None
    assert found.test_loss[0] == pytest.approx(loss(), rel=1e-6)
    assert training != pytest.approx(loss(), rel=1e-4)


@pytest.mark.parametrize(("kind", "calls"), [(ToldLoss, N), (ToldMetrics, len(POINTS)), (ToldNothing, N)])
def test_a_scheduler_hears_what_it_asks_for(kind: type[Told], calls: int) -> None:
    made: list[Told] = []

    def factory(optimizer: Any, total_steps: int) -> Told:
        made.append(kind(optimizer, total_steps))
        return made[0]

    found = train(world("adam", N), (0,), of_scheduler(factory), 64, POINTS)
    (scheduler,) = made
    assert len(scheduler.heard) == calls
    assert np.isnan(scheduler.heard).all() == (kind is ToldNothing)
    if kind is ToldMetrics:
        assert found.curve is not None and scheduler.heard == found.curve[:, 0].tolist()


def test_the_pilot_runs_as_anybodys_scheduler() -> None:
    found = train(world("adam", N), (0,), of_scheduler(lambda optimizer, n: PilotLR(optimizer, n)), 64, POINTS)
    assert found.lr_curve is not None and len(np.unique(found.lr_curve)) > 50
    assert found.alive.all()


def test_a_divergence_ends_the_training() -> None:
    def far(params: list[torch.nn.Parameter], workload: Any) -> Driver:
        optimizer = plain(params, workload)
        optimizer.param_groups[0]["lr"] = 1e30
        return Driver(optimizer)

    workload = replace(world("sgd", N), loss=lambda outputs, y: (outputs.sum(-1) - y).square().mean())
    found = train(workload, SEEDS, far, 64, POINTS)
    assert not found.alive.any()
    assert np.isnan(np.asarray(found.test_loss)).all() and np.isnan(np.asarray(found.curve)).all()
    assert found.lr_curve is not None and np.isnan(found.lr_curve[-1]).all()
