"""Every optimizer's arithmetic: steps by hand, and `torch.optim` on gradients from 1e-10 to 1e4."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training.population import Population
from pipeline.workloads.training.state import State

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
SCALES = torch.tensor([1e-10, 1e-8, 3e-7, 1e-3, 1.0, 1e4])  # of the gradients of six weights
LR = 0.01


class Weights(torch.nn.Module):
    """The dot product of each row with the weights, which all start at one value: the gradient is the row."""

    def __init__(self, count: int, start: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((count,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def prescribed(gradients: Tensor, optimizer: str, weight_decay: float = 0.0, start: float = 0.0) -> Workload:
    """A workload whose gradient at step t is the row t of gradients (N, P), whatever the weights are."""
    n, count = gradients.shape
    data = Data(torch.zeros(n, count), torch.zeros(n))
    shuffled = Workload(
        "prescribed", optimizer, data, data, data, build=partial(Weights, count, start),
        loss=lambda outputs, targets: (outputs - targets).mean(), error=None, baseline_loss=1.0, optimizer=optimizer,
        batch_size=1, n_steps=n, weight_decay=weight_decay,
    )  # fmt: skip
    shuffled.train.x[shuffled.batches(0)[:, 0]] = gradients  # so that run 0 meets the rows in their order
    return shuffled


def moved(workload: Workload, rates: list[float]) -> list[float]:
    """The first weight of run 0 after each step."""
    population, out = Population(workload, [0]), []
    for step, lr in enumerate(rates):
        population.train_step(step, np.array([lr]))
        out.append(float(population.state.weights[0, 0]))
    return out


@pytest.mark.parametrize(
    ("gradients", "wanted"),
    [
        ((1.0,), (-1.0,)),  # g / (|g| + 1e-8)
        ((-200.0,), (1.0,)),
        ((1e-8,), (-0.5,)),
        ((-3e-8,), (0.75,)),
        ((1e-10,), (-1 / 101,)),
        ((0.0,), (0.0,)),
        # m = .1 * .9 + .1 * 3 = .39 over 1 - .9^2 = .19; v = .001 * .999 + .001 * 9 = .009999 over 1 - .999^2 = .001999
        ((1.0, 3.0), (-1.0, -1.0 - 2.052632 / 2.236515)),
        ((1e-8, 3e-8), (-0.5, -0.5 - 2.052632 / 3.236515)),
        # then m = .39 * .9 over 1 - .9^3 = .271; v = .009999 * .999 over 1 - .999^3 = .002997001
        ((1.0, 3.0, 0.0), (-1.0, -1.917783, -1.917783 - 1.295203 / 1.825648)),
    ],
)
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_by_hand(optimizer: str, gradients: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    """In units of the learning rate."""
    weights = moved(prescribed(torch.tensor(gradients)[:, None], optimizer), [LR] * len(gradients))
    assert [w / LR for w in weights] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "gradients", "wanted"),
    [
        ("sgd", 0.0, (4.0,), (1.96,)),  # the first buffer is the gradient itself
        ("sgd", 0.0, (4.0, -1.0), (1.96, 1.96 - 0.01 * (0.9 * 4 - 1))),
        ("sgd", 0.0, (4.0, 0.0, 0.0), (1.96, 1.96 - 0.036, 1.96 - 0.036 - 0.0324)),
        ("sgd", 0.5, (4.0,), (1.95,)),  # 4 + .5 * 2
        ("adam", 0.5, (-1.0,), (2.0,)),  # -1 + .5 * 2
        ("adam", 0.5, (0.0,), (1.99,)),
        ("adamw", 0.5, (0.0,), (1.99,)),  # 2 * (1 - .01 * .5)
        ("adamw", 0.5, (-1.0,), (2.0,)),  # 1.99 + .01
        ("adamw", 0.5, (1.0,), (1.98,)),
    ],
)
def test_momentum_and_decay_by_hand(
    optimizer: str, weight_decay: float, gradients: tuple[float, ...], wanted: tuple[float, ...]
) -> None:
    """From a weight of 2, at a learning rate of 0.01."""
    workload = prescribed(torch.tensor(gradients)[:, None], optimizer, weight_decay, start=2.0)
    assert moved(workload, [LR] * len(gradients)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_those_of_torch(optimizer: str, weight_decay: float) -> None:
    """After each of ten steps, at rates that change, the weights of two members that begin elsewhere."""
    rng = torch.Generator().manual_seed(0)
    gradients = SCALES * torch.randn(10, len(SCALES), generator=rng)
    rates = np.array([[0.1, 0.02]]) * np.geomspace(1, 0.1, 10)[:, None]  # (steps, members)
    workload = prescribed(gradients, optimizer, weight_decay, start=0.5)
    population = Population(workload, [0, 0])
    population.state.weights[1] *= -3
    plain = [torch.nn.Parameter(w.clone()) for w in population.state.weights]
    optimizers = [OPTIMIZERS[optimizer]([w], lr=1.0, weight_decay=weight_decay) for w in plain]
    for step, lr in enumerate(rates):
        population.train_step(step, lr)
        for w, own, rate in zip(plain, optimizers, lr, strict=True):
            own.param_groups[0]["lr"] = float(rate)
            w.grad = gradients[step].clone()
            own.step()
        torch.testing.assert_close(population.gradient, gradients[step].expand(2, -1))
        wanted = torch.stack([w.detach() for w in plain])
        torch.testing.assert_close(population.state.weights, wanted, rtol=2e-5, atol=0)
        assert population.state.steps.tolist() == [step + 1.0] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_breaks_its_own_weight_alone(optimizer: str, value: float) -> None:
    gradients = torch.ones(3, 2)
    gradients[1, 0] = value
    workload = prescribed(gradients, optimizer)
    population, sound = Population(workload, [0]), Population(prescribed(torch.ones(3, 2), optimizer), [0])
    for step in range(3):
        population.train_step(step, np.array([LR]))
        sound.train_step(step, np.array([LR]))
    assert not torch.isfinite(population.state.weights[0, 0])
    assert population.state.weights[0, 1] == sound.state.weights[0, 1]


def state(offset: float) -> State:
    """Three members of two weights, whose numbers are all different."""
    first = torch.arange(6.0).view(3, 2) + offset
    return State(first, first + 100, first + 200, first[:, :1] + 300, np.arange(3) + offset)


def rows(state: State) -> list[list[float]]:
    """By member all its numbers."""
    return [
        [*(float(v) for part in vars(state).values() for v in np.atleast_1d(part[i]))] for i in range(len(state.steps))
    ]


def test_a_state_is_restored_and_selected_by_member() -> None:
    mine, saved = state(0.0), state(1000.0)
    before = rows(mine)
    copy = mine.clone()
    mine.restore(saved, np.array([True, False, True]))
    assert rows(mine) == [rows(saved)[0], before[1], rows(saved)[2]]
    assert rows(copy) == before and rows(saved) == rows(state(1000.0))
    assert rows(copy.select(np.array([2, 0]))) == [before[2], before[0]]
