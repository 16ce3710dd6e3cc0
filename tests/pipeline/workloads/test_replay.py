"""A replayed function gives what the function gives, bit for bit, for every kind of network that is trained."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from pipeline.workloads.families import FAMILIES
from pipeline.workloads.training.population import Population
from pipeline.workloads.training.replay import Replay

Fn = Callable[..., tuple[Tensor, ...]]
TABLE, OFFSETS = torch.arange(12.0).view(4, 3), torch.arange(3.0)


def argmax_and_max(x: Tensor) -> tuple[Tensor, ...]:
    """An operation of two results, of which one is used."""
    values, where = x.max(dim=-1)
    return values * 2, where


def in_place(x: Tensor) -> tuple[Tensor, ...]:
    y = x.clone()
    y[..., 0] = 7
    return (y.mul_(2) + x,)


CASES: dict[str, Fn] = {
    "one result": lambda x: (x.exp() @ x.transpose(-1, -2),),
    "two results": argmax_and_max,
    "a result that is an input": lambda x: (x, x.view(x.shape)),
    "a constant": lambda x: (x @ TABLE,),
    "two constants": lambda x: (x @ TABLE + OFFSETS,),
    "a list of tensors": lambda x: tuple(torch.cat([x, x + 1], dim=-1).split(3, dim=-1)),
    "in place": in_place,
    "an expansion of an expansion": lambda x: (x.expand(2, *x.shape)[:1].expand(3, *x.shape) + 1,),
    "vmap of grad": vmap(grad_and_value(lambda x: (x.sin() @ TABLE).square().sum())),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_function(name: str) -> None:
    """On other values than those of the first call, and on other shapes, which are recorded anew."""
    fn, rng = CASES[name], torch.Generator().manual_seed(0)
    replay = Replay(fn)
    for shape in ((2, 3, 4), (2, 3, 4), (5, 1, 4), (2, 3, 4)):
        x = torch.randn(shape, generator=rng)
        for mine, wanted in zip(replay(x), fn(x), strict=True):
            assert mine.dtype == wanted.dtype and torch.equal(mine, wanted)


def test_runs_the_function_once_per_shape() -> None:
    calls = []

    def fn(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(x.shape)
        return (x + 1,)

    replay = Replay(fn)
    for shape in ((2,), (2,), (3,), (2,), (3,), (2, 1), (2, 1)):
        replay(torch.zeros(shape))
    assert calls == [(2,), (3,), (2, 1)]


@pytest.mark.parametrize(
    "fn",
    [lambda x: (x * x.sum().item(),), lambda x: (x if x.sum() > 0 else -x,)],
    ids=["a number", "a branch"],
)
def test_what_depends_on_values_is_refused(fn: Fn) -> None:
    with pytest.raises(RuntimeError, match="branches on a tensor's values cannot be replayed"):
        Replay(fn)(torch.ones(3))


OF_EVERY_MODULE = {item.module: name for name, item in FAMILIES.items()}.values()


@pytest.mark.parametrize("name", OF_EVERY_MODULE)
def test_families_train_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and errors of three members, trained with and without replaying."""
    workload = FAMILIES[name].sample(np.random.default_rng(3))

    def trained() -> list[np.ndarray]:
        population = Population(workload, [0, 1, 2])
        losses = [population.train_step(step, np.full(3, 1e-3)).numpy() for step in range(4)]
        return [*losses, *population.score(workload.val, 32)]

    replayed = trained()
    monkeypatch.setattr("pipeline.workloads.training.autodiff.Replay", lambda fn: fn)
    for mine, wanted in zip(replayed, trained(), strict=True):
        np.testing.assert_array_equal(mine, wanted)
