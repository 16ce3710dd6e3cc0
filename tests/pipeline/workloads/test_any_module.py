"""Whatever a workload's module and recipe do, a member of a population follows the plain loop.

Vectorised where that can be; one by one where it cannot, and then it says why.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training import single_run
from pipeline.workloads.training.autodiff import OneByOne, Vectorised
from pipeline.workloads.training.layout import snapshot
from pipeline.workloads.training.population import Population
from pipeline.workloads.training.update_rules import torch_optimizer
from tiny import world

STEPS = 40
SEEDS = (4, 9, 4)


class Images(nn.Module):
    """(B, 6) as images of one channel, 2 x 3, for convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), 1, 2, 3)


class Noisy(nn.Module):
    """Draws random numbers that are no dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn(x.shape) if self.training else x


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else 2 * x


class Counting(nn.Module):
    """Keeps a state that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x / self.calls if self.training else x


class Smoothed(nn.Module):
    """Changes a buffer in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.mean(0).detach(), 0.1)
        return x - self.mean


def mlp(*first: nn.Module, hidden: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(*first, nn.Linear(6, 12), hidden or nn.Identity(), nn.Tanh(), nn.Linear(12, 3))


def conv(norm: Callable[[], nn.Module], drop: nn.Module) -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3, padding=1), norm(), nn.ReLU(), drop, nn.Flatten(), nn.Linear(24, 3))
    return nn.Sequential(Images(), *layers)


def half_frozen() -> nn.Module:
    model = mlp(hidden=nn.BatchNorm1d(12))
    model[0].requires_grad_(False)
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


VECTORISED: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: mlp(hidden=nn.BatchNorm1d(12)),
    "batch norm without statistics": lambda: mlp(hidden=nn.BatchNorm1d(12, track_running_stats=False)),
    "batch norm of other settings": lambda: mlp(hidden=nn.BatchNorm1d(12, momentum=0.5, eps=1e-2, affine=False)),
    "batch norm of images": lambda: conv(lambda: nn.BatchNorm2d(4), nn.Identity()),
    "group norm": lambda: conv(lambda: nn.GroupNorm(2, 4), nn.Identity()),
    "dropout": lambda: mlp(nn.Dropout(0.1), hidden=nn.Dropout(0.5)),
    "dropout of channels": lambda: conv(nn.Identity, nn.Dropout2d(0.3)),
    "batch norm and dropout": lambda: conv(lambda: nn.BatchNorm2d(4), nn.Dropout(0.2)),
    "dropout of all, and of none": lambda: mlp(nn.Dropout(0.0), hidden=nn.Dropout(1.0)),
    "frozen parameters": half_frozen,
    "tied parameters": tied,
}
PLAIN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "random numbers": (lambda: mlp(Noisy()), "random"),
    "a branch": (lambda: mlp(Branching()), "data-dependent control flow|branches"),
    "a buffer": (lambda: mlp(Smoothed()), "its buffers would be another"),
    "a count": (lambda: mlp(Counting()), "its loss would be another"),
    "cumulative batch norm": (lambda: mlp(hidden=nn.BatchNorm1d(12, momentum=None)), "momentum=None"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    **{optimizer: {"optimizer": optimizer} for optimizer in OPTIMIZERS},
    **{f"{optimizer} with decay": {"optimizer": optimizer, "weight_decay": 0.1} for optimizer in OPTIMIZERS},
    "nesterov": {"optimizer": "sgd", "nesterov": True, "momentum": 0.8},
    "no momentum": {"optimizer": "sgd", "momentum": 0.0},
    "other betas": {"optimizer": "adam", "betas": (0.8, 0.95)},
    "other betas of NAdam": {"optimizer": "nadam", "betas": (0.8, 0.95)},
    "other betas of Lion": {"optimizer": "lion", "betas": (0.95, 0.98)},
    "clipped": {"optimizer": "sgd", "clip": 0.3},
    "clipped in part": {"optimizer": "adamw", "clip": 1.0, "weight_decay": 0.1},
    "label smoothing": {"train_loss": lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.1)},
    "summed loss": {"train_loss": lambda out, y: functional.cross_entropy(out, y, reduction="sum")},
    "augmentation": {"augment": lambda x, y: (x + 0.2 * torch.randn_like(x), y.roll(int(torch.randint(2, (1,)))))},
}


def plain_run(workload: Workload, seed: int, rates: np.ndarray) -> tuple[np.ndarray, nn.Module]:
    """Batch losses (N,) of the loop that everybody writes, and the trained module."""
    model = workload.initialise(seed).train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch_optimizer(params, workload, 1.0)
    batches = torch.from_numpy(workload.batches(seed))
    draws = single_run.count_draws(model, workload.train.x[batches[0]])
    losses = []
    for step, lr in enumerate(rates):
        optimizer.param_groups[0]["lr"] = float(lr)
        x, y = single_run.batch(workload, workload.train, batches[step], seed, step)
        loss = single_run.training_loss(workload, model, x, y, seed, step, draws)
        optimizer.zero_grad()
        loss.backward()
        if workload.clip is not None:
            nn.utils.clip_grad_norm_(params, workload.clip)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), model.eval()


def check(workload: Workload, autodiff: type) -> None:
    """Losses, weights, running statistics and scores of each member against a plain loop's."""
    peak = workload.kind.textbook * (0.1 if workload.kind.is_sgd else 1.0)
    rates = peak * np.outer((1.0, 0.3, 2.0), 1 - 0.9 * np.arange(STEPS) / STEPS)
    population = Population(workload, SEEDS)
    assert type(population._autodiff) is autodiff
    together = np.stack([population.train_step(t, rates[:, t]).numpy() for t in range(STEPS)], axis=1)
    loss, _ = population.score(workload.val)
    for i, seed in enumerate(SEEDS):
        alone, model = plain_run(workload, seed, rates[i])
        np.testing.assert_allclose(together[i], alone, rtol=2e-4, atol=1e-6)
        torch.testing.assert_close(population.snapshot[i], snapshot(model), rtol=2e-3, atol=2e-5)
        with torch.no_grad():
            assert loss[i] == pytest.approx(workload.loss(model(workload.val.x), workload.val.y).item(), rel=1e-3)


@pytest.mark.parametrize("name", VECTORISED)
def test_modules_that_train_together(name: str) -> None:
    check(replace(world("sgd", STEPS), build=VECTORISED[name]), Vectorised)


@pytest.mark.parametrize("name", SETTINGS)
def test_recipes(name: str) -> None:
    check(replace(world("adam", STEPS), **SETTINGS[name]), Vectorised)


@pytest.mark.parametrize("name", PLAIN)
def test_modules_that_train_one_by_one_say_why(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    build, why = PLAIN[name]
    check(replace(world("sgd", STEPS), build=build), OneByOne)
    (line,) = capsys.readouterr().err.splitlines()
    head, _, reason = line.partition(" trains one run at a time: ")
    assert head == "tiny, tiny-sgd:"
    assert re.search(why, reason)


def test_large_networks_train_one_by_one_and_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    build = lambda: nn.Sequential(nn.Linear(6, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 3))  # noqa: E731
    check(replace(world("adam", STEPS), build=build), OneByOne)
    assert not capsys.readouterr().err


def test_whoever_trains_beside_it_a_run_draws_the_same() -> None:
    """Dropout and augmentation come from the seed and the step, not from the population."""
    augment = SETTINGS["augmentation"]["augment"]
    workload = replace(world("sgd", STEPS), build=VECTORISED["dropout"], augment=augment)
    pair, alone = Population(workload, (7, 4)), Population(workload, (4,))
    for step in range(5):
        mine, theirs = (p.train_step(step, np.full(len(p), 0.01)) for p in (pair, alone))
        assert float(mine[1]) == pytest.approx(float(theirs[0]), rel=1e-5)
    assert not torch.equal(pair.state.weights[0], pair.state.weights[1])


def test_training_leaves_the_global_generator_as_it_was() -> None:
    workload = replace(world("sgd", STEPS), build=PLAIN["random numbers"][0], **SETTINGS["augmentation"])
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    Population(workload, SEEDS).train_step(0, np.zeros(3))
    assert torch.equal(torch.rand(1), wanted)


def test_a_module_that_fails_fails_with_its_own_error() -> None:
    def broken() -> nn.Module:
        return nn.Sequential(nn.Linear(7, 3))

    workload = replace(world(), build=broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Population(workload, SEEDS)


def test_restored_members_have_their_statistics_back() -> None:
    workload = replace(world("sgd", STEPS), build=VECTORISED["batch norm"])
    population = Population(workload, SEEDS)
    saved, before = population.state.clone(), population.snapshot.clone()
    for step in range(3):
        population.train_step(step, np.full(3, 0.01))
    population.state.restore(saved, np.array([True, False, True]))
    after = population.snapshot
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and not torch.equal(after[1], before[1])


def test_a_checkpoint_is_scored_with_its_statistics() -> None:
    workload = replace(world("sgd", STEPS), build=VECTORISED["batch norm"])
    population = Population(workload, SEEDS)
    wanted, checkpoint = population.score(workload.val), population.snapshot.clone()
    population.train_step(0, np.full(3, 0.1))
    for mine, theirs in zip(population.score_of(checkpoint, workload.val), wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    data = Data(workload.val.x[:1], workload.val.y[:1])  # one example has no variance: evaluation does not need it
    assert np.isfinite(population.score(data)[0]).all()
