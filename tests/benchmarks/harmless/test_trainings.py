"""The battery's trainings: drawn by their seeds, the same for every method, in every loop as users write it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Generator

from benchmarks.harmless import data
from benchmarks.harmless.case import Case
from benchmarks.harmless.loops import LOOPS, METHODS, PILOT, RIVALS, Training, run
from benchmarks.harmless.trainings import CASES
from lrpilot.torch import PilotLR

BY_NAME = {case.name: case for case in CASES}


def short(loop: str, **change: object) -> Case:
    """64 steps of a regression."""
    case = replace(BY_NAME["64 steps"], loop=loop, examples=256, length=4, batch=16)
    return replace(case, **change)  # pyright: ignore[reportArgumentType]


def test_the_battery_is_as_wide_as_it_says() -> None:
    assert len(CASES) >= 60 and len(BY_NAME) == len(CASES)
    assert all(64 <= case.steps <= 600 for case in CASES)
    loops = [case.loop for case in CASES]
    assert loops.count("transformers") >= 4 and loops.count("lightning") >= 3
    assert {case.optimizer for case in CASES} == {"adam", "adamw", "sgd"}
    assert {case.arguments for case in CASES} == {"data", "steps"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_has_a_loss_that_its_parameters_change(case: Case) -> None:
    training = Training(case, 0, "linear 1e-3")
    batch = training.sample(case.batch, False) if training.examples is None else training.examples[: case.batch]
    training.loss(*batch).backward()
    assert math.isfinite(training.validation_loss()) and training.validation_loss() > case.floor
    assert all(p.grad is not None and p.grad.isfinite().all() for p in training.params)


@pytest.mark.parametrize("name", ["BERT counts", "Student-t 1.5, fresh batches", "low-rank adapters"])
def test_a_seed_draws_the_training(name: str) -> None:
    one, same, other = (Training(BY_NAME[name], seed, PILOT) for seed in (1, 1, 2))
    assert torch.equal(one.validation[0], same.validation[0])
    assert not torch.equal(one.validation[0], other.validation[0])
    pairs = list(zip(one.params, same.params, strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_training_is_the_same_twice_and_begins_alike_for_all_methods(loop: str) -> None:
    ends = {method: run(short(loop), 0, method) for method in METHODS}
    assert len({end["first"] for end in ends.values()}) == 1
    assert run(short(loop), 0, PILOT) == ends[PILOT]
    assert all(end["final"] < end["first"] for end in ends.values())
    assert math.isfinite(ends[PILOT]["level"]) and math.isfinite(ends[PILOT]["anchor"])
    assert len({end["final"] for end in ends.values()}) >= len(RIVALS) + 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_decays_to_nothing_from_its_rate(loop: str, method: str) -> None:
    scheduler = LOOPS[loop](Training(short(loop), 0, method))
    assert scheduler.optimizer.param_groups[0]["initial_lr"] == float(method.split()[1])
    assert max(scheduler.get_last_lr()) == pytest.approx(0.0, abs=1e-9)
    assert scheduler.last_epoch == 64


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("method", "guarded"), [("pilot", True), ("unguarded", False)])
def test_a_pilot_knows_what_a_user_would_have_told_it(loop: str, method: str, guarded: bool) -> None:
    scheduler = LOOPS[loop](Training(short(loop), 0, method))
    assert isinstance(scheduler, PilotLR)
    assert (scheduler.planned_steps, scheduler.steps_per_epoch, scheduler.examples) == (64, 16, 256)
    assert scheduler.pilot.guarded == guarded and scheduler.last_epoch == 64


def test_a_plain_loop_may_tell_the_number_of_steps_alone() -> None:
    for case in (short("plain", arguments="steps"), short("plain", examples=None, length=64)):
        scheduler = LOOPS["plain"](Training(case, 0, PILOT))
        assert (scheduler.planned_steps, scheduler.steps_per_epoch, scheduler.examples) == (64, None, None)


def test_scale_and_offset_are_of_training_alone() -> None:
    plain, changed = (Training(short("plain", **change), 0, PILOT) for change in ({}, {"scale": 10.0, "offset": 5.0}))
    batch = plain.validation
    assert changed.loss(*batch).item() == pytest.approx(10 * plain.loss(*batch).item() + 5)
    assert changed.validation_loss() == plain.validation_loss()


@pytest.mark.parametrize("freedom", [1.5, 2.0])
def test_student_errors_have_their_quantiles(freedom: float) -> None:
    drawn = data.student(200_000, Generator().manual_seed(0), freedom=freedom, scale=2.0)
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    expected = [2 * stats.t.ppf(float(share), freedom) for share in shares]
    assert drawn.flatten().quantile(shares).tolist() == pytest.approx(expected, rel=0.03, abs=0.02)


def test_outliers_are_a_hundred_times_as_large() -> None:
    drawn = data.outliers(100_000, Generator().manual_seed(0), share=0.1, scale=0.1)
    assert float((drawn.abs() > 0.5).float().mean()) == pytest.approx(0.1 * 0.96, abs=0.005)  # half of 10 or less: 4 %


@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_labels_are_wrong_in_training_alone(wrong: float) -> None:
    def labels(clean: bool, share: float) -> torch.Tensor:
        return data.classes(Generator().manual_seed(0), wrong=share)(4000, clean)[1]

    assert torch.equal(labels(True, wrong), labels(True, 0.0))
    changed = float((labels(False, wrong) != labels(True, 0.0)).float().mean())
    assert changed == pytest.approx(0.75 * wrong, abs=0.03)  # a quarter of the new labels is the old one
