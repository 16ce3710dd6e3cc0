"""A member of a population follows the plain `torch.optim` loop, whatever its neighbours do."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.workloads.base import Workload
from pipeline.workloads.families import FAMILIES
from pipeline.workloads.population import Population
from tiny import world

STEPS = 200
WILD = 1e10  # a learning rate that no training survives
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
PEAK = {"adam": 3e-3, "adamw": 3e-3, "sgd": 3e-2}
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


def schedule(peak: float) -> np.ndarray:
    """A learning rate that changes at every step (STEPS,): warm-up, then a decay with a ripple."""
    t = np.arange(STEPS)
    return peak * np.minimum(1, (t + 1) / 20) * (1 - 0.9 * t / STEPS) * (1 + 0.3 * np.sin(t))


def plain_losses(workload: Workload, seed: int, rates: np.ndarray) -> np.ndarray:
    """Batch losses (N,) of the loop that everybody writes."""
    model = workload.initialise(seed)
    kind = OPTIMIZERS[workload.optimizer]
    optimizer = kind(model.parameters(), lr=1.0, weight_decay=workload.weight_decay)
    losses = []
    for lr, batch in zip(rates, workload.batches(seed), strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        loss = workload.loss(model(workload.train.x[batch]), workload.train.y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_follow_the_plain_loop(optimizer: str, weight_decay: float, device: str) -> None:
    workload = world(optimizer, STEPS, weight_decay)
    seeds, peak = [4, 9, 4, 9, 4], PEAK[optimizer]
    rates = np.stack([schedule(peak), schedule(0.2 * peak), np.full(STEPS, WILD), np.zeros(STEPS), schedule(peak)])
    population = Population(workload, seeds, device)
    together = np.stack([population.train_step(t, rates[:, t]).cpu().numpy() for t in range(STEPS)], axis=1)

    for i in (0, 1, 3):
        alone = plain_losses(workload, seeds[i], rates[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, err_msg=f"member {i}")
        assert i == 3 or alone[-20:].mean() < 0.8 * alone[0]
    np.testing.assert_array_equal(together[0], together[4])
    assert not np.isfinite(together[2, -1]) or together[2, -1] > 1e3


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_lr_zero_moves_nothing(device: str) -> None:
    workload = world("adamw", 8, 0.05)
    population = Population(workload, [1], device)
    before = population.state.weights.clone()
    for step in range(8):
        population.train_step(step, np.zeros(1))
    torch.testing.assert_close(population.state.weights, before, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_restored_members_start_afresh_and_the_others_go_on(optimizer: str) -> None:
    workload = world(optimizer, STEPS)
    lr = np.full(4, PEAK[optimizer])
    population, untouched = (Population(workload, [0, 1, 2, 3]) for _ in range(2))
    saved = population.state.clone()
    for step in range(10):  # members 0 and 2 leave the track, the others do not
        population.train_step(step, np.where([True, False, True, False], WILD, lr))
        untouched.train_step(step, lr)
    population.state.restore(saved, np.array([True, False, True, False]))
    fresh = Population(workload, [0, 1, 2, 3])
    for step in range(10, 30):
        losses, kept, new = (p.train_step(step, lr) for p in (population, untouched, fresh))
        torch.testing.assert_close(losses[[1, 3]], kept[[1, 3]], rtol=0, atol=0)
        torch.testing.assert_close(losses[[0, 2]], new[[0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("limit", [None, 1, 33, 10_000])
def test_score_equals_a_plain_forward(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workloads.population.EVALUATED", 60)  # several, unequal chunks
    workload = world()
    loss, error = Population(workload, [3, 8]).score(workload.val, limit)
    x, y = workload.val.x[:limit], workload.val.y[:limit]
    for i, seed in enumerate((3, 8)):
        with torch.no_grad():
            outputs = workload.initialise(seed)(x)
        assert loss[i] == pytest.approx(workload.loss(outputs, y).item(), rel=1e-5)
        assert error[i] == pytest.approx((outputs.argmax(1) != y).double().mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("family", "predictions", "scored"),
    [("digits_mlp", 128, 128), ("digits_mlp", 5, 5), ("markov_rnn", 128, 32), ("markov_rnn", 5000, None)],
)
def test_examples_that_a_run_is_scored_on(family: str, predictions: int, scored: int | None) -> None:
    """A sequence counts once for each symbol, but some sequences there must be."""
    workload = FAMILIES[family].sample(np.random.default_rng(0))
    if scored is None:
        scored = -(-predictions // workload.val.y.shape[1])
    assert workload.scored(predictions) == scored


def test_a_workload_without_error_rate_has_none() -> None:
    workload = replace(world(), error=None)
    loss, error = Population(workload, [0]).score(workload.val)
    assert np.isfinite(loss).all()
    assert np.isnan(error).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_the_retired_the_others_train_the_same(optimizer: str) -> None:
    workload, lr = world(optimizer), np.full(4, PEAK[optimizer])
    population, whole = (Population(workload, [0, 1, 2, 3]) for _ in range(2))
    steps = iter(range(STEPS))

    def step() -> tuple[np.ndarray, np.ndarray]:
        now = next(steps)
        return population.train_step(now, lr).numpy(), whole.train_step(now, lr).numpy()

    def same(got: tuple[np.ndarray, np.ndarray], members: list[int]) -> None:
        mine, theirs = got
        np.testing.assert_allclose(mine[members], theirs[members], rtol=1e-5)
        assert np.isnan(np.delete(mine, members)).all()
        assert len(mine) == len(population) == 4

    same(step(), [0, 1, 2, 3])
    assert population.retire(np.array([False, True, False, False])).tolist() == [0, 2, 3]  # type: ignore[union-attr]
    same(step(), [0, 2, 3])
    assert population.retire(np.array([True, True, False, False])).tolist() == [1, 2]  # type: ignore[union-attr]
    for _ in range(20):
        same(step(), [2, 3])
    same((population.score(workload.val)[0], whole.score(workload.val)[0]), [2, 3])
    assert population.retire(np.full(4, True)).tolist() == [0]  # type: ignore[union-attr]
    same(step(), [2])


def test_few_diverged_members_are_kept() -> None:
    """Leaving them out records the step anew, which takes as long as many steps."""
    population = Population(world(), range(10))
    assert population.retire(np.arange(10) < 2) is None
    assert population.members.tolist() == list(range(10))
    assert population.retire(np.arange(10) < 3) is not None
    assert population.retire(np.arange(10) < 4) is None
    assert population.members.tolist() == list(range(3, 10))
