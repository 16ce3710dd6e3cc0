"""Two networks that are trained against each other, each with a pilot of its own."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrpilot.torch import PilotLR

STEPS, BATCH = 800, 64
SEEDS = range(12)  # fewer leave the order to luck: a constant rate ends between 0.1 and 1.4


def net(outputs: int, activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 32), activation, nn.Linear(32, 32), activation, nn.Linear(32, outputs))


class Gan:
    """A generator of points on a ring of eight Gaussians, and its discriminator; Adam at a constant 1e-4, or pilots."""

    def __init__(self, seed: int, piloted: bool) -> None:
        torch.set_num_threads(1)
        self.random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.nets = net(2, nn.ReLU()), net(1, nn.LeakyReLU(0.2))
        self.optimizers = [torch.optim.Adam(part.parameters(), 1e-4, betas=(0.5, 0.999)) for part in self.nets]
        pairs = zip(self.optimizers, self.nets, strict=True)
        self.pilots = [PilotLR(optimizer, STEPS, model=part) for optimizer, part in pairs] if piloted else []

    def real(self, n: int) -> Tensor:
        angle = torch.randint(8, (n,), generator=self.random) * torch.pi / 4
        return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2, generator=self.random)

    def samples(self, n: int) -> Tensor:
        return self.nets[0](torch.randn(n, 2, generator=self.random))

    def update(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()
        if self.pilots:
            self.pilots[which].step(loss)

    def train(self) -> "Gan":
        judge, entropy = self.nets[1], nn.functional.binary_cross_entropy_with_logits
        one, none = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
        for _ in range(STEPS):
            real, samples = self.real(BATCH), self.samples(BATCH)
            self.update(1, entropy(judge(real), one) + entropy(judge(samples.detach()), none))
            self.update(0, entropy(judge(samples), one))
        return self

    @torch.no_grad()
    def distance(self) -> float:
        """Energy distance between samples and data."""
        samples, real = self.samples(2000), self.real(2000)
        within = torch.cdist(samples, samples).mean() + torch.cdist(real, real).mean()
        return float(2 * torch.cdist(samples, real).mean() - within)


@pytest.fixture(scope="module")
def piloted() -> list[Gan]:
    return [Gan(seed, piloted=True).train() for seed in SEEDS]


@pytest.mark.filterwarnings("ignore")
def test_pilots_end_no_worse_than_a_constant_rate(piloted: list[Gan]) -> None:
    constant = [Gan(seed, piloted=False).train().distance() for seed in SEEDS]
    assert np.mean([gan.distance() for gan in piloted]) <= np.mean(constant) + 0.05


def test_no_rate_is_frozen(piloted: list[Gan]) -> None:
    """Whichever loss climbs because the other network has become better."""
    for gan in piloted:
        for pilot in gan.pilots:
            levels = [decision.level for decision in pilot.history]
            assert levels[-1] > levels[0] - 1.5 and np.median(levels) > levels[0] - 1.0
