"""Trainings whose first losses are broken: the probe leaves them out, and the training ends as it would have."""

import copy
import io
import logging
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lrpilot.decisions.guard import GuardError
from lrpilot.probing.probe_curve import landmarks
from lrpilot.torch import PilotLR

STEPS, BATCH, TRAINED = 500, 32, 1200
BROKEN = "probe: not finite, or above 10000 times those before, was the loss of {}: "
LEFT_OUT = BROKEN + "taken for the data's fault, and left out"
NO_EVIDENCE = BROKEN.format("9 steps") + "it has ended without evidence, and the training begins as one without a probe"


@cache
def digits() -> tuple[Tensor, Tensor]:
    data: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data[order] / 8 - 1, data.target[order]
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1, momentum=0.9)


class Digits:
    """A training on digits whose steps `broken` (the first is 1) have a loss of the value `bad`.

    What is not finite comes from the inputs, so that batch norm's statistics meet it, too. With `skips` the loop leaves
    such an update out.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module] = mlp,
        optimizer: Any = adam,
        seed: int = 0,
        broken: Iterable[int] = (),
        bad: float = math.nan,
        skips: bool = False,
        **options: Any,
    ) -> None:
        torch.set_num_threads(1)
        self.broken, self.bad, self.skips, self.done = frozenset(broken), bad, skips, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = make()
        self.optimizer = optimizer(self.model.parameters())
        self.scheduler = PilotLR(self.optimizer, options.pop("total_steps", STEPS), model=self.model, **options)
        self.start = copy.deepcopy(self.model.state_dict())
        self.rng = np.random.default_rng(seed)

    def step(self) -> None:
        self.done += 1
        (x, y), at = digits(), torch.from_numpy(self.rng.integers(TRAINED, size=BATCH))
        inputs, broken = x[at], self.done in self.broken
        if broken and not math.isfinite(self.bad):
            inputs = inputs * self.bad
        loss = nn.functional.cross_entropy(self.model(inputs), y[at])
        if broken and math.isfinite(self.bad):
            loss = loss * (self.bad / loss.item())
        self.optimizer.zero_grad()
        loss.backward()
        if not (broken and self.skips):
            self.optimizer.step()
        self.scheduler.step(loss)

    def train(self, steps: int = STEPS) -> "Digits":
        while self.done < steps:
            self.step()
        return self

    def probe(self) -> "Digits":
        """Train to the end of the probe."""
        while self.scheduler.probing:
            self.step()
        return self

    def level(self) -> float:
        """Of the first decision."""
        return self.scheduler.history[0].level

    def accuracy(self) -> float:
        x, y = digits()
        self.model.eval()
        with torch.no_grad():
            return (self.model(x[TRAINED:]).argmax(1) == y[TRAINED:]).float().mean().item()


def warnings_of(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


NETS = {"mlp": mlp, "convnet": convnet}
OPTIMIZERS = {"adam": adam, "sgd": sgd}


@cache
def undisturbed(net: str, seed: int) -> float:
    return Digits(NETS[net], adam, seed).train().accuracy()


@pytest.mark.parametrize("broken", [(2,), (4,), (8,), (2, 4, 8)], ids=str)
@pytest.mark.parametrize("net", NETS)
def test_a_training_ends_as_if_nothing_had_happened(
    net: str, broken: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Within a point of accuracy, on average over three seeds; batch norm's statistics are sound."""
    lost = []
    for seed in range(3):
        caplog.clear()
        training = Digits(NETS[net], adam, seed, broken).train()
        assert warnings_of(caplog) == [LEFT_OUT.format("1 step" if len(broken) == 1 else f"{len(broken)} steps")]
        assert all(torch.isfinite(value).all() for value in training.model.state_dict().values())
        lost.append(undisturbed(net, seed) - training.accuracy())
    assert np.mean(lost) <= 0.01 and max(lost) <= 0.02


@cache
def level(optimizer: str) -> float:
    return Digits(mlp, OPTIMIZERS[optimizer]).probe().level()


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("skips", [False, True], ids=["made", "skipped"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e6])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_broken_losses_at_each_of_ten_steps(
    optimizer: str, bad: float, skips: bool, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The first level lies within half a decade of an undisturbed probe's, and the weights are those of the start."""
    off = {}
    for first in range(1, 11):
        caplog.clear()
        training = Digits(mlp, OPTIMIZERS[optimizer], 0, range(first, first + length), bad, skips).probe()
        off[first] = abs(training.level() - level(optimizer))
        torch.testing.assert_close(training.model.state_dict(), training.start, rtol=0, atol=0)
        assert not training.optimizer.state_dict()["state"]
        if off[first] <= 0.5:
            assert len(warnings_of(caplog)) == 1
    if (optimizer, bad, skips) == ("sgd", 1e6, False) and length > 1:
        # SGD takes two first gradients that are half a million times too large to where the loss stays as large.
        assert off.pop(1) > 0.5 or length == 2
    if (optimizer, bad, skips, length) == ("adam", 1e6, True, 2):
        # One level fewer is climbed, and that is the one of the edge: the policy sees a probe without any.
        assert 0.5 < off.pop(10) < 0.51
    assert max(off.values()) <= 0.5


@pytest.mark.parametrize("broken", [(1,), (3, 4), (2, 6, 7)], ids=str)
@pytest.mark.parametrize("stop", [2, 4, 7, 12])
def test_resumed_in_the_middle_of_it(broken: tuple[int, ...], stop: int) -> None:
    whole, first = (Digits(convnet, adam, 0, broken) for _ in range(2))
    whole.train(60)
    first.train(stop)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (first.model, first.optimizer, first.scheduler)], file)
    file.seek(0)
    second = Digits(convnet, adam, 0, broken)
    states = torch.load(file, weights_only=True)
    for part, state in zip((second.model, second.optimizer, second.scheduler), states, strict=True):
        part.load_state_dict(state)
    second.done, second.rng = stop, first.rng
    second.train(60)
    assert second.scheduler.history == whole.scheduler.history
    torch.testing.assert_close(second.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("skips", [False, True], ids=["made", "skipped"])
def test_a_probe_without_evidence_falls_back(skips: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nine broken losses in a row; what follows is a training without a probe, up to its first weights and data."""
    training, plain = Digits(broken=range(1, 10), skips=skips), Digits(probe=False)
    training.probe()
    assert training.done == 9 and warnings_of(caplog) == [NO_EVIDENCE]
    torch.testing.assert_close(training.model.state_dict(), training.start, rtol=0, atol=0)
    pilot, other = training.scheduler.pilot, plain.scheduler.pilot
    assert pilot.anchor == other.anchor == -1.0 and pilot.probes.steps.tolist() == [0]
    assert pilot.level[0] == pytest.approx(other.level[0], abs=0.6)  # its progress is another
    assert training.train().accuracy() > 0.85
    assert len(warnings_of(caplog)) == 1


def test_a_strict_pilot_raises_without_evidence() -> None:
    with pytest.raises(GuardError, match="without evidence"):
        Digits(broken=range(1, 10), strict=True).train()


class Exploding(nn.Module):
    """Its loss overflows, without any announcement, as soon as a weight has moved by `edge`."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.w, self.edge = nn.Parameter(torch.zeros(3)), edge

    def forward(self) -> Tensor:
        loss = (self.w - 1.0).square().mean()
        return loss * (math.nan if self.w.abs().max() > self.edge else 1.0)


@pytest.mark.parametrize("edge", [1e-3, 1e-2, 1e-1])
def test_a_rate_that_is_too_high_is_told_from_bad_data(edge: float, caplog: pytest.LogCaptureFixture) -> None:
    """The landmarks are those of the curve up to the first broken loss; nobody blames the data."""
    model = Exploding(edge)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler, losses = PilotLR(optimizer, 320), []
    while scheduler.probing:
        loss = model()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    at = int(np.flatnonzero(~np.isfinite(losses))[0])
    curve = np.full((1, 16), math.nan)
    curve[0, :at] = losses[:at]
    probes, wanted = scheduler.pilot.probes, landmarks(curve, np.array([at + 1]))
    assert probes.steps.tolist() == [at + 1] and at < scheduler.last_epoch
    for name, value in vars(probes.landmarks()).items():
        np.testing.assert_array_equal(value, getattr(wanted, name))
    assert wanted.blown[0] and scheduler.pilot.anchor == wanted.blowup - 2.0
    assert warnings_of(caplog) == []
