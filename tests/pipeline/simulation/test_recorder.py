"""However a training is driven, it leaves the same behind: what a population leaves at the learning rates it had."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from pipeline.evaluation import training_loops
from pipeline.evaluation.training_loops import of_scheduler
from pipeline.simulation.follow import follow
from pipeline.simulation.recorder import BestCheckpoint, Recording
from pipeline.simulation.simulate import simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import Population
from tiny import world

N, SEEDS, VAL_EXAMPLES = 120, (0, 3), 40
MILESTONES = (30, 60, 90, 120)
LATE = 75  # completed steps, from which on the rate is far too high: the best checkpoint is not the last one


class Jump:
    """A scheduler that raises the rate late."""

    def __init__(self, optimizer: Any, total_steps: int) -> None:
        self._optimizer, self._step = optimizer, 0

    def step(self) -> None:
        self._step += 1
        if self._step == LATE:
            self._optimizer.param_groups[0]["lr"] *= 10


def act(pilot: Pilot, which: np.ndarray) -> None:
    """A fair level, which rises from the same step on."""
    pilot.act(np.full(pilot.runs, 0.4 * (pilot.step == 0) + 0.5 * (pilot.step >= LATE)), which)


def piloted(workload: Workload) -> Recording:
    return simulate(
        workload, SEEDS, Protocol(), act, probed=False, val_examples=VAL_EXAMPLES, milestones=MILESTONES, test=True
    )


def alone(workload: Workload) -> Recording:
    return training_loops.train(workload, SEEDS[:1], [of_scheduler(Jump)], VAL_EXAMPLES, MILESTONES)


def side_by_side(workload: Workload) -> Recording:
    return training_loops.train(workload, SEEDS, [of_scheduler(Jump)] * len(SEEDS), VAL_EXAMPLES, MILESTONES)


@pytest.mark.parametrize("way", [piloted, alone, side_by_side])
def test_every_way_to_train_records_the_same(way: Callable[[Workload], Recording]) -> None:
    workload = world("sgd", N)
    recording = way(workload)
    assert recording.lr_curve is not None and recording.curve is not None
    runs = recording.lr_curve.shape[1]
    wanted = follow(
        workload, SEEDS[:runs], recording.lr_curve, val_examples=VAL_EXAMPLES, milestones=MILESTONES
    )  # fmt: skip
    assert recording.curve.shape == (len(MILESTONES), runs)
    assert (recording.curve.argmin(axis=0) < len(MILESTONES) - 1).all()
    for name in ("curve", "test_loss", "test_error", "best_loss", "best_error"):
        np.testing.assert_allclose(getattr(recording, name), getattr(wanted, name), rtol=1e-3, err_msg=name)
    for name in ("val_loss", "val_error"):
        np.testing.assert_allclose(getattr(recording, name)[-1], getattr(wanted, name)[-1], rtol=1e-3, err_msg=name)
    assert recording.alive.all() and wanted.alive.all()


def test_the_last_validation_is_on_all_examples_and_those_before_are_not() -> None:
    workload = world("adam", N)
    recording = follow(workload, SEEDS, np.full((N, 2), 1e-3), val_examples=VAL_EXAMPLES, milestones=(N,))
    assert recording.curve is not None
    whole = follow(workload, SEEDS, np.full((N, 2), 1e-3), val_examples=len(workload.val), milestones=(N,))
    assert whole.curve is not None
    np.testing.assert_array_equal(whole.curve[-1], recording.val_loss[-1])
    assert (recording.curve[-1] != recording.val_loss[-1]).all()


def test_without_a_test_nothing_is_tested() -> None:
    recording = simulate(world("adam", N), SEEDS, Protocol(), act, probed=False)
    assert recording.test_loss is recording.best_loss is recording.curve is None
    assert recording.lr_curve is not None and np.isfinite(recording.lr_curve).all()


def test_the_best_weights_are_those_of_the_lowest_finite_loss() -> None:
    """Member 0 is best at the second milestone, 1 at the first, 2 never, 3 at the third; a tie keeps the earlier."""
    workload = world()
    population = Population(workload, range(4))
    best = BestCheckpoint(population)
    wanted = population.state.weights.clone()
    nan, inf = np.nan, np.inf
    losses = [[3.0, 1.0, nan, 2.0], [2.0, 1.0, inf, nan], [2.5, 1.5, nan, -1.0]]
    first_of = {0: 1, 1: 0, 3: 2}
    for milestone, loss in enumerate(losses):
        population.state.weights += milestone + 1.0
        for member in (m for m, at in first_of.items() if at == milestone):
            wanted[member] = population.state.weights[member]
        best.update(np.array(loss))
    for mine, theirs in zip(best.score(workload.test), population.score_of(wanted, workload.test), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_best_weights_of_retired_members_stay_theirs() -> None:
    workload = world()
    population = Population(workload, range(4))
    best, wanted = BestCheckpoint(population), population.state.weights.clone()
    best.update(np.full(4, 5.0))
    population.retire(np.array([True, False, True, False]))
    population.state.weights += 1.0
    best.update(np.array([np.nan, 4.0, np.nan, 6.0]))
    wanted[1] += 1.0
    for mine, theirs in zip(best.score(workload.test), population.score_of(wanted, workload.test), strict=True):
        np.testing.assert_array_equal(mine, theirs)
