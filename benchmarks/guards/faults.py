"""Small real trainings, and the faults that `benchmarks.guards.injected` injects into them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.decisions.actions import ActionEquation
from lrpilot.policy_file.bundle import DEFAULT, Bundle

STEPS = 480  # N of every training
LATE = STEPS // 2  # where most faults set in
Batch = tuple[Tensor, Tensor]  # inputs (batch, features), targets (batch,)


@dataclass(frozen=True)
class World:
    """A training problem drawn from a seed, and how it is trained."""

    kind: str  # "classes": blobs on curved arms, cross entropy; "counts": a Poisson regression, deviance of exp(output)
    optimizer: str  # "sgd", with momentum 0.9, or "adam"
    batch: int = 32

    def data(self, rng: np.random.Generator, n: int) -> Batch:
        """`n` examples of a teacher that the call draws too."""
        if self.kind == "counts":
            x = rng.standard_normal((n, 16)) * np.where(rng.random((n, 1)) < 0.02, 4.0, 1.0)  # some outliers
            y = rng.poisson(np.exp(1.0 + 1.5 * np.sin(x @ rng.standard_normal(16) / 4)))
            return torch.from_numpy(x).float(), torch.from_numpy(y).float()
        y = rng.integers(5, size=n)
        radius = rng.uniform(0.1, 1.0, n)
        angle = 2 * math.pi * y / 5 + 3.5 * radius + rng.normal(0, 0.25, n)
        x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        return torch.from_numpy(x).float(), torch.from_numpy(y)

    def model(self) -> nn.Module:
        inputs, outputs = (16, 1) if self.kind == "counts" else (2, 5)
        return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        return torch.optim.Adam(model.parameters())

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if self.kind == "counts":
            return (output[:, 0].exp() - target * output[:, 0] - target + torch.xlogy(target, target)).mean()
        return nn.functional.cross_entropy(output, target)


Answer = Callable[[int, float], float]  # (decision, the policy's action) -> the action of a faulty policy


class FaultyBundle(Bundle):
    """The shipped policy with a fault: `answer` changes its answer at each decision."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(DEFAULT)
        self.answer, self.decision = answer, 0

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        said = super().__call__(observation)
        said = np.array([self.answer(self.decision, float(a)) for a in said])
        self.decision += 1
        return said


def _as_said(decision: int, action: float) -> float:
    return action


def _no_change(step: int, batch: Batch) -> Batch:
    return batch


def _always(step: int) -> bool:
    return True


def _never(step: int) -> bool:
    return False


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, in a world."""

    name: str
    what: str  # for people
    world: World
    answer: Answer = _as_said  # the policy's fault
    corrupt: Callable[[int, Batch], Batch] = _no_change  # the data's, by step
    reports: Callable[[int], bool] = _always  # whether the loop passes the loss of a step on
    spoils: Callable[[int], bool] = _never  # whether a step's gradient has a nan in it


def _from(decision: int, then: Answer) -> Answer:
    return lambda d, a: a if d < decision else then(d, a)


def _raise(decision: int, action: float) -> float:
    raise RuntimeError("the policy file is gone")


def _burst(step: int, batch: Batch) -> Batch:
    """Garbage for 24 steps: inputs 30 times too large, labels moved on by one."""
    x, y = batch
    return (30.0 * x, (y + 1) % 5) if LATE <= step < LATE + 24 else batch


def _far_out(step: int, batch: Batch) -> Batch:
    """From the middle on, the first input of every tenth batch is 80 times too large."""
    x, y = batch
    if step < LATE or step % 10:
        return batch
    return torch.cat([80.0 * x[:1], x[1:]]), y


def _mislabel(step: int, batch: Batch) -> Batch:
    """From the middle on, a growing share of labels is wrong: none at first, 60 % at the end."""
    x, y = batch
    wrong = torch.rand(len(y), generator=torch.Generator().manual_seed(step)) < 0.6 * (step - LATE) / (STEPS - LATE)
    return x, torch.where(wrong, (y + 1) % 5, y)


def _hotter(decades: float) -> Answer:
    """From the middle on, the level rises so far, as fast as it may, and the policy continues from there."""
    return lambda d, a: 1.0 if d < MIDDLE + decades / RISE else a


SGD, ADAM, COUNTS = World("classes", "sgd"), World("classes", "adam"), World("counts", "adam")
RISE = ActionEquation().rise
EARLY, MIDDLE = 8, 26  # decisions, at a twelfth and at half of the steps
FAULTS = (
    Fault("none, SGD", "nothing goes wrong", SGD),
    Fault("none, Adam", "nothing goes wrong", ADAM),
    Fault("none, counts", "nothing goes wrong, but some inputs lie far out", COUNTS),
    Fault("outliers", "from the middle on every tenth batch holds an input 80 times too large: `exp` overflows, and "
          "the loop sets what is not finite in a gradient to 0", COUNTS, corrupt=_far_out),
    Fault("outliers, decade", "the same, and the policy answers a decade too high", COUNTS,
          _from(MIDDLE, _hotter(1.0)), _far_out),
    Fault("outliers, jump", "the same, and the policy answers its highest level", COUNTS,
          _from(MIDDLE, lambda d, a: 1.0), _far_out),
    Fault("overflow", "from the middle on the policy answers its highest level: the weights overflow at once",
          World("counts", "sgd"), _from(MIDDLE, lambda d, a: 1.0)),
    Fault("first jump, SGD", "the policy answers its highest level, half a decade above the blow-up, always", SGD,
          lambda d, a: 1.0),
    Fault("first jump, Adam", "the same", ADAM, lambda d, a: 1.0),
    Fault("late jump, SGD", "the same, but from the middle on", SGD, _from(MIDDLE, lambda d, a: 1.0)),
    Fault("late jump, Adam", "the same, but from the middle on", ADAM, _from(MIDDLE, lambda d, a: 1.0)),
    Fault("decade, SGD", "from the middle on the policy answers a decade too high", SGD, _from(MIDDLE, _hotter(1.0))),
    Fault("decade, Adam", "the same", ADAM, _from(MIDDLE, _hotter(1.0))),
    Fault("creep", "from the middle on the policy adds 0.15 decades per decision", ADAM,
          _from(MIDDLE, lambda d, a: min(a + 0.15 / RISE, 1.0))),
    Fault("burst", "24 batches of garbage in the middle", SGD, corrupt=_burst),
    Fault("mislabelled", "from the middle on ever more labels are wrong, up to 60 %", ADAM, corrupt=_mislabel),
    Fault("nan gradients", "from the middle on every tenth gradient holds a nan", ADAM,
          spoils=lambda step: step >= LATE and step % 10 == 0),
    Fault("nan", "from an early decision on the policy answers nan", SGD, _from(EARLY, lambda d, a: math.nan)),
    Fault("nan, always", "the policy answers nan, from the first decision on", SGD, lambda d, a: math.nan),
    Fault("out of bounds", "from an early decision on the policy's answers are 40 times too large", SGD,
          _from(EARLY, lambda d, a: 40 * a)),
    Fault("raises", "from an early decision on the policy raises", SGD, _from(EARLY, _raise)),
    Fault("loss missing", "from step 100 on the loop passes no loss", SGD, reports=lambda step: step < 100),
)  # fmt: skip
