"""A member of a population follows the plain `torch.optim` loop, whatever its neighbours do."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.workloads.base import Data, Workload
from pipeline.workloads.training.population import Population
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
        losses, continued, new = (p.train_step(step, lr) for p in (population, untouched, fresh))
        torch.testing.assert_close(losses[[1, 3]], continued[[1, 3]], rtol=0, atol=0)
        torch.testing.assert_close(losses[[0, 2]], new[[0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("limit", [None, 1, 33, 64, 65, 10_000])
@pytest.mark.parametrize("evaluated", [1, 60, 2**14])
def test_score_equals_a_plain_forward(limit: int | None, evaluated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one chunk, in several of unequal size, and where a chunk has room for no example of every member."""
    monkeypatch.setattr("pipeline.workloads.training.population.EVALUATED", evaluated)
    workload = world()
    loss, error = Population(workload, [3, 8]).score(workload.val, limit)
    assert loss.dtype == error.dtype == np.float64 and loss.shape == error.shape == (2,)
    x, y = workload.val.x[:limit], workload.val.y[:limit]
    for i, seed in enumerate((3, 8)):
        with torch.no_grad():
            outputs = workload.initialise(seed)(x)
        assert loss[i] == pytest.approx(workload.loss(outputs, y).item(), rel=1e-5)
        assert error[i] == pytest.approx((outputs.argmax(1) != y).double().mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("evaluated", "examples", "chunks"),
    [
        (100, 64, [25, 25, 14]),
        (3, 2, [1, 1]),  # but one of each at least
        (None, 4_100, [4_096, 4]),  # by default 2^14 = 16,384 = 4 * 4,096
    ],
)
def test_an_evaluation_holds_no_more_member_examples_than_allowed(
    evaluated: int | None, examples: int, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four members at once."""
    if evaluated:
        monkeypatch.setattr("pipeline.workloads.training.population.EVALUATED", evaluated)
    monkeypatch.setattr("pipeline.workloads.training.autodiff.Replay", lambda fn: fn)
    sizes: list[int] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sizes.append(len(targets))
        return torch.nn.functional.cross_entropy(outputs, targets)

    workload = replace(world(), loss=loss)
    data = Data(workload.val.x[:1].expand(examples, -1), workload.val.y[:1].expand(examples))
    population = Population(workload, range(4))
    sizes.clear()
    population.score(data)
    assert sizes == chunks


def test_other_weights_are_scored_like_a_members_own() -> None:
    workload = world()
    population = Population(workload, [3, 8])
    swapped = population.score_of(population.snapshot.flip(0), workload.val)
    for mine, wanted in zip(swapped, population.score(workload.val), strict=True):
        np.testing.assert_array_equal(mine, wanted[::-1])


def test_a_diverged_member_is_scored_as_not_finite_and_the_others_as_before() -> None:
    workload = world()
    population = Population(workload, [0, 1, 2])
    loss, error = population.score(workload.val)
    population.state.weights[1] = torch.nan
    broken_loss, broken_error = population.score(workload.val)
    assert np.isnan(broken_loss[1]) and 0 <= broken_error[1] <= 1
    np.testing.assert_array_equal(broken_loss[[0, 2]], loss[[0, 2]])
    np.testing.assert_array_equal(broken_error[[0, 2]], error[[0, 2]])


def test_a_population_begins_with_the_initialisations_of_its_seeds() -> None:
    workload = world()
    population = Population(workload, [4, 9, 4])
    assert len(population) == 3 and population.n_params == 6 * 12 + 12 + 12 * 3 + 3
    assert population.members.tolist() == [0, 1, 2] and population.state.steps.tolist() == [0.0] * 3
    for weights, seed in zip(population.state.weights, (4, 9, 4), strict=True):
        model = workload.initialise(seed)
        assert torch.equal(weights, torch.nn.utils.parameters_to_vector(model.parameters()))
    assert not population.gradient.any() and not population.state.first.any()


def test_a_workload_without_error_rate_has_none() -> None:
    workload = replace(world(), error=None)
    loss, error = Population(workload, [0]).score(workload.val)
    assert np.isfinite(loss).all()
    assert np.isnan(error).all()


def retired(population: Population, members: list[int]) -> list[int] | None:
    """The rows that stay."""
    rows = population.retire(np.isin(np.arange(len(population)), members))
    return None if rows is None else rows.tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_the_retired_the_others_train_the_same(optimizer: str) -> None:
    workload, lr = world(optimizer), PEAK[optimizer] * np.array([1.0, 0.3, 0.1, 0.6])
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
    assert retired(population, [1]) == [0, 2, 3]
    same(step(), [0, 2, 3])
    assert retired(population, [0, 1]) == [1, 2]
    for _ in range(20):
        same(step(), [2, 3])
    same((population.score(workload.val)[0], whole.score(workload.val)[0]), [2, 3])
    assert retired(population, [0, 1, 2, 3]) == [0]
    same(step(), [2])


def test_few_diverged_members_stay() -> None:
    """Leaving them out records the step anew, which takes as long as many steps."""
    population = Population(world(), range(10))
    assert retired(population, [0, 1]) is None
    assert population.members.tolist() == list(range(10))
    assert retired(population, [0, 1, 2]) == list(range(3, 10))
    assert retired(population, [0, 1, 2, 3]) is None
    assert population.members.tolist() == list(range(3, 10))


def test_what_stays_are_the_rows_of_the_members_in_training() -> None:
    population = Population(world(), range(4))
    population.train_step(0, np.full(4, 1e-2))
    before, gradient = population.state.clone(), population.gradient.clone()
    assert retired(population, [0, 2]) == [1, 3]
    assert torch.equal(population.gradient, gradient[[1, 3]])
    for mine, whole in zip(vars(population.state).values(), vars(before).values(), strict=True):
        assert mine.tolist() == whole[[1, 3]].tolist()


def test_values_of_the_members_in_training_are_spread_over_all() -> None:
    population = Population(world(), range(4))
    table = torch.arange(8.0).view(2, 4)
    assert population.spread(table) is table
    retired(population, [0, 2])
    spread = population.spread(table[:, :2])
    assert spread.shape == (2, 4) and spread[:, [1, 3]].tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert spread[:, [0, 2]].isnan().all()
