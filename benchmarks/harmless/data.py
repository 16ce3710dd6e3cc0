"""Data of small trainings. Each function takes a generator, fixes a task with it, and returns how to draw its examples.

A draw is `sample(n, clean)`: inputs and targets of n examples. With `clean` they are without the noise that only
training data have. A generator in the same state gives the same task and, draw by draw, the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor

Sample = Callable[[int, bool], tuple[Tensor, Tensor]]
Errors = Callable[[int, Generator], Tensor]  # (n, 1)

FEATURES = 8
HELD_BACK = 597  # of 1797 digits


def normal(n: int, g: Generator, *, scale: float) -> Tensor:
    return scale * torch.randn(n, 1, generator=g)


def student(n: int, g: Generator, *, freedom: float, scale: float) -> Tensor:
    """Student-t errors, by Bailey's polar method."""
    u, angle = torch.rand(2, n, 1, generator=g, dtype=torch.float64)
    return (scale * (freedom * (u ** (-2 / freedom) - 1)).sqrt() * (2 * math.pi * angle).cos()).float()


def lognormal(n: int, g: Generator, *, sigma: float, scale: float) -> Tensor:
    """Skewed errors with mean 0."""
    return scale * ((sigma * torch.randn(n, 1, generator=g)).exp() - math.exp(sigma**2 / 2))


def outliers(n: int, g: Generator, *, share: float, scale: float) -> Tensor:
    """Normal errors; those of a share of the examples are a hundred times as large."""
    wild = torch.rand(n, 1, generator=g) < share
    return scale * torch.where(wild, 100.0, 1.0) * torch.randn(n, 1, generator=g)


def waves(g: Generator, errors: Errors | None = None) -> Sample:
    """Regression on a sum of six waves of about unit variance: (n, 8) to (n, 1)."""
    f = surface(g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        return x, f(x) if clean or errors is None else f(x) + errors(n, g)

    return sample


def surface(g: Generator) -> Callable[[Tensor], Tensor]:
    directions = 0.4 * torch.randn(FEATURES, 6, generator=g)
    phases = 2 * math.pi * torch.rand(6, generator=g)
    return lambda x: torch.sin(x @ directions + phases).sum(1, keepdim=True) / math.sqrt(3)


def near_waves(g: Generator) -> Sample:
    """Half the targets of the task of `networks.pretrained`, plus those of another one."""
    old, new = surface(Generator().manual_seed(0)), surface(g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        return x, 0.5 * old(x) + new(x)

    return sample


def line(g: Generator) -> Sample:
    """Linear regression on 8 features, whose scales span a decade."""
    weights, scales = torch.randn(FEATURES, 1, generator=g), torch.logspace(-1, 0, FEATURES)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g) * scales
        return x, x @ weights + (0 if clean else 0.1 * torch.randn(n, 1, generator=g))

    return sample


def product(g: Generator) -> Sample:
    """x0 times x1, of 8 normal features."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        return x, x[:, :1] * x[:, 1:2]

    return sample


def uneven_noise(g: Generator, low: float = 0.01) -> Sample:
    """A wave (n, 1) of one feature, with noise whose standard deviation rises from `low` to three times that. Clean
    data have it, too: it is what a likelihood learns.
    """
    phase = 2 * math.pi * torch.rand(1, generator=g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = 4 * torch.rand(n, 1, generator=g) - 2
        return x, torch.sin(1.5 * x + phase) + low * 3 ** torch.sigmoid(2 * x) * torch.randn(n, 1, generator=g)

    return sample


def counts(g: Generator) -> Sample:
    """Poisson counts with a log rate of `waves`: (n, 8) to (n, 1). Clean data have their noise, too."""
    f = surface(g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        return x, torch.poisson((1 + f(x)).exp(), generator=g)

    return sample


def classes(g: Generator, number: int = 4, wrong: float = 0.0) -> Sample:
    """Classes (n,) of 8 features: the largest of `number` surfaces. A share of the training labels is drawn anew."""
    fs = [surface(g) for _ in range(number)]

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        y = torch.cat([f(x) for f in fs], 1).argmax(1)
        anew = torch.rand(n, generator=g) < (0 if clean else wrong)
        return x, torch.where(anew, torch.randint(number, (n,), generator=g), y)

    return sample


def rare(g: Generator, share: float) -> Sample:
    """A class (n, 1) of 0 and 1; the second has a share of the examples."""
    f = surface(g)
    edge = f(torch.randn(20_000, FEATURES, generator=g)).quantile(1 - share)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, FEATURES, generator=g)
        return x, (f(x) > edge).float()

    return sample


def parity(g: Generator, bits: int, of: int) -> Sample:
    """The parity (n,) of the first `bits` of `of` signs."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randint(2, (n, of), generator=g) * 2.0 - 1.0
        return x, (x[:, :bits].prod(1) > 0).long()

    return sample


def spirals(g: Generator) -> Sample:
    """Two spirals in the plane, one and a half turns each."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        y = torch.randint(2, (n,), generator=g)
        t = torch.rand(n, generator=g)
        angle = 3 * math.pi * t + math.pi * y
        x = (2 * t * torch.stack([angle.cos(), angle.sin()])).T
        return x + 0.03 * torch.randn(n, 2, generator=g), y

    return sample


def tokens(g: Generator, rule: Callable[[Tensor], Tensor], length: int = 12, vocabulary: int = 8) -> Sample:
    """Sequences (n, length) of tokens, and what a rule makes of them."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        x = torch.randint(vocabulary, (n, length), generator=g)
        return x, rule(x)

    return sample


def many_zeros(x: Tensor) -> Tensor:
    """Whether a sequence has more zeros than is usual: what BERT counts."""
    return ((x == 0).sum(1) > x.shape[1] / 8).long()


def majority(x: Tensor) -> Tensor:
    """Whether zeros outnumber ones."""
    return ((x == 0).sum(1) > (x == 1).sum(1)).long()


def backwards(x: Tensor) -> Tensor:
    return x.flip(1)


def same(x: Tensor) -> Tensor:
    return x


def first(x: Tensor) -> Tensor:
    return x[:, 0]


def markov(g: Generator, length: int = 16, vocabulary: int = 12) -> Sample:
    """Sequences (n, length) of a Markov chain, and their next tokens."""
    chances = torch.softmax(2.5 * torch.randn(vocabulary, vocabulary, generator=g), 1)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        chain = [torch.randint(vocabulary, (n,), generator=g)]
        for _ in range(length):
            chain.append(torch.multinomial(chances[chain[-1]], 1, generator=g)[:, 0])
        walk = torch.stack(chain, 1)
        return walk[:, :-1], walk[:, 1:]

    return sample


def adding(g: Generator, length: int = 10) -> Sample:
    """Sequences (n, length, 2) of numbers and marks; the sum (n, 1) of the two marked ones, about its mean."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        values = torch.rand(n, length, generator=g)
        marked = torch.rand(n, length, generator=g).topk(2).indices
        marks = torch.zeros(n, length).scatter(1, marked, 1.0)
        return torch.stack([values, marks], 2), (values * marks).sum(1, keepdim=True) - 1

    return sample


def digits(g: Generator, wrong: float = 0.0) -> Sample:
    """scikit-learn's digits (n, 1, 8, 8). Clean ones are another part, without wrong labels."""
    x, y = _digits()
    order = torch.randperm(len(x), generator=g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        part = order[:HELD_BACK] if clean else order[HELD_BACK : HELD_BACK + n]
        if not clean and len(part) < n:
            raise ValueError(f"digits: {n} examples for training, there are {len(part)}")
        anew = torch.rand(len(part), generator=g) < (0 if clean else wrong)
        return x[part], torch.where(anew, torch.randint(10, (len(part),), generator=g), y[part])

    return sample


@cache
def _digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels, dtype=torch.long)


def bars(g: Generator) -> Sample:
    """Noisy images (n, 1, 10, 10) with one bar, and its direction and half of the image: 4 classes."""

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        y = torch.randint(4, (n,), generator=g)
        place = torch.randint(5, (n,), generator=g) + 5 * (y // 2)
        row = torch.zeros(n, 10, 10).scatter(1, place[:, None, None].expand(n, 1, 10), 1.0)
        images = torch.where((y % 2 == 0)[:, None, None], row, row.transpose(1, 2))
        return (images + 0.5 * torch.randn(n, 10, 10, generator=g))[:, None], y

    return sample


def views(g: Generator) -> Sample:
    """Two noisy views (n, 8) of a hidden point (n, 4), each through its own map, as inputs and targets."""
    maps = torch.randn(2, 4, FEATURES, generator=g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        hidden = torch.randn(n, 4, generator=g)
        one, other = (torch.tanh(hidden @ m) + 0.1 * torch.randn(n, FEATURES, generator=g) for m in maps)
        return one, other

    return sample


def ratings(g: Generator, users: int = 60, items: int = 40) -> Sample:
    """Pairs (n, 2) of a user and an item, and their rating (n, 1): an inner product of hidden points (4,)."""
    one, other = torch.randn(users, 4, generator=g), torch.randn(items, 4, generator=g)

    def sample(n: int, clean: bool) -> tuple[Tensor, Tensor]:
        who, what = torch.randint(users, (n,), generator=g), torch.randint(items, (n,), generator=g)
        noise = 0 if clean else 0.2 * torch.randn(n, 1, generator=g)
        return torch.stack([who, what], 1), (one[who] * other[what]).sum(1, keepdim=True) / 2 + noise

    return sample
