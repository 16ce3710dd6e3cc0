"""Rivals train as their users would have them: torch's schedulers step for step, the others through their packages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from lrpilot.torch import PilotLR
from pipeline.evaluation import training_loops
from pipeline.evaluation.rivals import RIVALS, Averaged, nadamw_settings
from pipeline.evaluation.splits import tasks
from pipeline.evaluation.training_loops import Driver, Recipe, of_scheduler, score, textbook_optimizer
from pipeline.simulation.follow import follow
from pipeline.simulation.recorder import Recording
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload
from pipeline.workloads.families import FAMILIES
from tiny import world

N, POINTS, SEEDS = 120, (40, 80, 120), (0, 3)
FIRST = 25  # steps of a family's task: rounding grows with every one, in deep networks soon
KINDS = ("adam", "adamw", "sgd", "lion")  # all that a rival tells apart
TOGETHER = tuple(name for name, rival in RIVALS.items() if not rival.alone)
STEADY = tuple(name for name in TOGETHER if not name.startswith(("prodigy", "d_adaptation")))  # the others' rates are
# at the edge of stability
FIGURES = ("lr_curve", "curve", "val_loss", "val_error", "test_loss", "test_error", "best_loss", "best_error")


def alone(workload: Workload, seed: int, recipe: Recipe, points: Sequence[int] = POINTS) -> Recording:
    """In the loop that everybody writes."""
    return training_loops.train(workload, [seed], [recipe], 64, points)


def figures(*recordings: Recording) -> dict[str, np.ndarray]:
    """By name what trainings left behind, the runs last."""
    return {name: np.concatenate([np.array(getattr(of, name)) for of in recordings], axis=-1) for name in FIGURES}


class Listener:
    """A scheduler that notes what it hears."""

    def __init__(self, optimizer: Any, total_steps: int) -> None:
        self.heard: list[float] = []


class LossListener(Listener):
    def step(self, loss: torch.Tensor) -> None:
        self.heard.append(loss.item())


class MetricsListener(Listener):
    def step(self, metrics: float) -> None:
        self.heard.append(metrics)


class StepListener(Listener):
    def step(self, epoch: int | None = None) -> None:
        self.heard.append(np.nan if epoch is None else epoch)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_torchs_scheduler_equals_the_population(optimizer: str) -> None:
    """CosineAnnealingLR itself, in the plain loop, against the schedule as the grid trains it."""
    workload = world(optimizer, N, 0.05 if optimizer == "adamw" else 0.0)
    got = figures(*(alone(workload, seed, of_scheduler(CosineAnnealingLR)) for seed in SEEDS))
    rates = np.repeat(OPTIMIZERS[optimizer].textbook * multipliers("cosine", N)[:, None], len(SEEDS), axis=1)
    wanted = figures(follow(workload, SEEDS, rates, val_examples=64, milestones=POINTS))
    for name in FIGURES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-3, err_msg=name)
    assert np.isfinite(got["val_loss"]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_loop_equals_the_population(name: str) -> None:
    """On the benchmark's first task of every family, through the first steps of two members."""
    workload = replace(tasks((name,), 1)[0].sample(), n_steps=FIRST)
    n, lr = workload.n_steps, 0.03 * workload.default[1]
    steady = of_scheduler(lambda optimizer, _: ConstantLR(optimizer, 0.03, 10**9))
    got = figures(*(alone(workload, seed, steady, (n,)) for seed in SEEDS))
    wanted = figures(follow(workload, SEEDS, np.full((n, len(SEEDS)), lr), val_examples=64, milestones=(n,)))
    for figure in ("curve", "test_loss", "val_loss"):
        np.testing.assert_allclose(got[figure], wanted[figure], rtol=1e-3, err_msg=figure)


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_trains_every_kind(name: str, optimizer: str) -> None:
    workload = world(optimizer, N, 0.05 if optimizer == "adamw" else 0.0)
    got = figures(*(alone(workload, seed, RIVALS[name].of({})) for seed in SEEDS))
    begin = [score(workload, workload.initialise(seed), workload.test)[0] for seed in SEEDS]
    assert got["curve"].shape == (3, 2)
    assert got["lr_curve"].shape == (N, 2) and (got["lr_curve"] > 0).all()
    assert (np.abs(got["test_loss"] - begin) > 0.01).all()  # for better or, in so few steps, for worse
    again = figures(alone(workload, SEEDS[1], RIVALS[name].of({})))
    np.testing.assert_array_equal(again["test_loss"], got["test_loss"][1:])
    if name in TOGETHER:
        together = figures(training_loops.train(workload, SEEDS, [RIVALS[name].of({})] * 2, 64, POINTS))
        assert (np.abs(together["test_loss"] - begin) > 0.01).all()


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize(("names", "n"), [(TOGETHER, 32), (STEADY, N)])
def test_side_by_side_rivals_train_as_they_do_alone(names: Sequence[str], n: int, optimizer: str) -> None:
    """In one population, two seeds of each. Where a rate is near the edge, rounding grows with every step."""
    workload, points = world(optimizer, n, 0.05 if optimizer == "adamw" else 0.0), range(1, n + 1)
    pairs = [(seed, RIVALS[name].of({})) for name in names for seed in SEEDS]
    got = figures(training_loops.train(workload, *zip(*pairs, strict=True), 64, points))
    wanted = figures(*(alone(workload, *pair, points) for pair in pairs))
    assert got["curve"].shape == got["lr_curve"].shape == (n, len(pairs)) and (got["lr_curve"] > 0).all()
    assert len({*got["test_loss"].round(9).tolist()}) >= len(pairs) - 2  # what never plateaus is as untouched
    for name in FIGURES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-3, err_msg=name)


def test_plateau_falls_where_nothing_improves() -> None:
    still = replace(world("adam", N), loss=lambda outputs, y: (outputs * 0).sum() + 1)
    rates = figures(alone(still, 0, RIVALS["plateau"].of({}), range(1, N + 1)))["lr_curve"][:, 0]
    assert rates[:12].tolist() == [1e-3] * 12  # patience 10, then a tenth
    assert rates[12] == pytest.approx(1e-4)


def test_prodigy_finds_a_rate_of_its_own() -> None:
    rates = figures(alone(world("adam", N), 0, RIVALS["prodigy"].of({})))["lr_curve"]
    assert rates[0, 0] == pytest.approx(1e-6)
    assert rates[-1, 0] > 1e-5


@pytest.mark.parametrize("name", ["schedule_free", "schedule_free_high", "dog", "ldog"])
def test_what_averages_its_weights_is_judged_on_the_average(name: str) -> None:
    workload, made = world("adam", N), list[Any]()

    def recipe(params: list[torch.nn.Parameter], workload: Any) -> Driver:
        made.append((params, RIVALS[name].of({})(params, workload)))
        return made[0][1]

    recording = alone(workload, 0, recipe)
    (params, driver), model = made[0], workload.initialise(0)

    def loss() -> float:
        torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(params), model.parameters())
        return score(workload, model, workload.test)[0]

    training = loss()
    driver.optimizer.eval()
    assert recording.test_loss is not None
    assert recording.test_loss[0] == pytest.approx(loss(), rel=1e-6)
    assert training != pytest.approx(loss(), rel=1e-4)


def test_dogs_average_is_the_polynomial_one() -> None:
    """Of gamma 8: 9/9, then 9/10 of the newest, then 9/11."""
    weights = torch.nn.Parameter(torch.zeros(1))
    averaged, visited = Averaged(torch.optim.SGD([weights], 1.0), [weights]), list[float]()
    for gradient in (-1.0, -3.0, -2.0):  # the weights are 1, 4, 6
        weights.grad = torch.tensor([gradient])
        averaged.step()
        averaged.eval()
        visited.append(weights.item())
        averaged.train()
    assert visited == pytest.approx([1.0, 3.7, 2 / 11 * 3.7 + 9 / 11 * 6])
    assert weights.item() == 6.0


@pytest.mark.parametrize(("norm", "first"), [(torch.nn.Identity(), 1e-6), (torch.nn.BatchNorm1d(12), 1e-4)])
def test_dog_begins_higher_under_batch_norm(norm: torch.nn.Module, first: float) -> None:
    workload = replace(world("sgd", N), build=lambda: torch.nn.Sequential(torch.nn.Linear(6, 12), norm))
    driver = RIVALS["dog"].of({})([*workload.initialise(0).parameters()], workload)
    assert driver.optimizer.param_groups[0]["reps_rel"] == first


def test_momo_makes_no_step_where_the_loss_is_at_its_bound() -> None:
    """Its step is worked out from the batch loss, whose bound is 0."""
    weights = torch.nn.Parameter(torch.ones(2))
    driver = RIVALS["momo"].of({})([weights], world("adam", N))
    weights.grad = torch.ones(2)
    driver.step(torch.tensor(0.0))
    assert weights.tolist() == [1.0, 1.0]
    driver.step(torch.tensor(1.0))
    assert (weights < 1).all()


def test_nadamw_follows_its_schedule_to_the_frozen_rate() -> None:
    frozen = nadamw_settings()
    rates = figures(alone(world("sgd", N), 0, RIVALS["nadamw"].of({})))["lr_curve"][:, 0]
    np.testing.assert_allclose(rates, frozen["lr0"] * multipliers(frozen["schedule"], N))
    other = figures(alone(world("sgd", N), 0, RIVALS["nadamw"].of({"lr0": 2 * frozen["lr0"]})))["lr_curve"][:, 0]
    np.testing.assert_allclose(other, 2 * rates)


@pytest.mark.parametrize(("kind", "calls"), [(LossListener, N), (MetricsListener, len(POINTS)), (StepListener, N)])
def test_a_scheduler_hears_what_it_asks_for(kind: type[Listener], calls: int) -> None:
    made: list[Listener] = []

    def factory(optimizer: Any, total_steps: int) -> Listener:
        made.append(kind(optimizer, total_steps))
        return made[0]

    recording = alone(world("adam", N), 0, of_scheduler(factory))
    (scheduler,) = made
    assert len(scheduler.heard) == calls
    assert np.isnan(scheduler.heard).all() == (kind is StepListener)
    if kind is MetricsListener:
        assert recording.curve is not None and scheduler.heard == recording.curve[:, 0].tolist()


def test_the_pilot_runs_as_anybodys_scheduler() -> None:
    recording = alone(world("adam", N), 0, of_scheduler(lambda optimizer, n: PilotLR(optimizer, n)))
    assert recording.lr_curve is not None and len(np.unique(recording.lr_curve)) > 50
    assert recording.alive.all()


def far(params: list[torch.nn.Parameter], workload: Any) -> Driver:
    optimizer = textbook_optimizer(params, workload)
    optimizer.param_groups[0]["lr"] = 1e30
    return Driver(optimizer)


@pytest.mark.parametrize("recipes", [[far], [far, far], [far, RIVALS["untouched"].of({}), RIVALS["plateau"].of({})]])
def test_a_divergence_ends_the_training_alone(recipes: list[Recipe]) -> None:
    workload = replace(world("sgd", N), loss=lambda outputs, y: (outputs.sum(-1) - y).square().mean())
    recording, ended = (
        training_loops.train(workload, range(len(recipes)), recipes, 64, POINTS),
        [of is far for of in recipes],
    )
    assert (~recording.alive).tolist() == ended
    ends = figures(recording)
    for name in ("test_loss", "val_loss", "curve"):
        assert (np.isnan(ends[name]) == ended).all()
    assert np.isnan(ends["lr_curve"][-1]).tolist() == ended
    start = score(workload, workload.initialise(0), workload.test)[0]
    assert ends["best_loss"][0] == pytest.approx(start)  # no milestone was better
