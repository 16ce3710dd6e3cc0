"""The trainings other than usual: each change does what it says; figures by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import changed_training
from benchmarks.changed_training import Job, train, training_key
from benchmarks.changes import CHANGES, Change
from benchmarks.robust import TIMES, figures, jobs, render, trained
from lrpilot import load_policy
from lrpilot.torch import PilotLR
from pipeline.code_hash import closure
from pipeline.evaluation.run_cache import open_cache
from pipeline.evaluation.splits import Task, tasks
from pipeline.workloads.base import Workload
from repository import TOP
from tiny import world

N = 80


@dataclass(frozen=True)
class Tiny(Task):
    """A task of a world that trains in milliseconds."""

    def sample(self) -> Workload:
        return world(self.family, N)


def job(change: str, times: float | None = None, optimizer: str = "adam", seed: int = 0) -> Job:
    return Job(change, Tiny("heldout", optimizer, 0), seed, times)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "long"])
def test_every_change_trains(change: str, optimizer: str) -> None:
    for times in (None, 1.0):
        after, before = train(job(change, times, optimizer))
        assert math.isfinite(before) and (math.isfinite(after) or times is not None)


def scheduled(monkeypatch: pytest.MonkeyPatch, change: Change) -> tuple[Any, list[float]]:
    """The scheduler of one training under `change`, and the losses that it heard."""
    made: list[PilotLR] = []
    losses: list[float] = []

    class Noted(PilotLR):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

        def step(self, loss: Any = None, **kwargs: Any) -> None:
            losses.append(float(loss))
            super().step(loss, **kwargs)

    monkeypatch.setattr(changed_training, "PilotLR", Noted)
    monkeypatch.setitem(CHANGES, "mine", change)
    train(job("mine"))
    return made[0], losses


def test_a_change_is_the_one_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, losses = scheduled(monkeypatch, Change("nothing"))
    assert usual.pilot.total_steps == N and usual.steps_per_epoch == 12
    shorter, _ = scheduled(monkeypatch, Change("", length=0.7))
    assert shorter.pilot.total_steps == 56
    noisy, louder = scheduled(monkeypatch, Change("", noise=4.0))
    assert louder[0] == losses[0]  # the mean of one
    assert louder[1] - losses[0] * 0.95 - losses[1] * 0.05 == pytest.approx(3.8 * (losses[1] - losses[0]), rel=1e-4)
    capped, _ = scheduled(monkeypatch, Change("", capped=True))
    assert max(d.lr for d in capped.history) <= 1e-3 < max(d.lr for d in usual.history)
    assert noisy.pilot.total_steps == N


def test_trainings_are_changed() -> None:
    w = world()
    assert [CHANGES[name].training(w).batch_size for name in ("batch × 4", "batch ÷ 4")] == [64, 4]
    assert CHANGES["weight decay"].training(w).weight_decay == 0.1
    assert CHANGES["weight decay"].training(w).optimizer == "adamw"
    assert CHANGES["weight decay"].training(replace(w, optimizer="sgd")).weight_decay == 0.001
    wide = CHANGES["wide"].training(w).initialise(0)
    assert sum(p.numel() for p in wide.parameters()) > 1_300_000
    layers = {type(layer) for name in ("dropout", "batch norm") for layer in CHANGES[name].training(w).initialise(0)}
    assert {torch.nn.Dropout, torch.nn.LazyBatchNorm1d} < layers


def test_figures_by_hand() -> None:
    """Linear decay comes down from 1 to 0.2 at best and to 0.4 from the textbook's rate; one of two pilots to 0.6."""
    losses = {}
    for seed in (0, 1):
        losses |= {job("clipping", times, seed=seed): (0.2 if times == 3.0 else 0.4, 1.0) for times in TIMES}
        losses[job("clipping", None, seed=seed)] = (0.6 if seed else math.nan, 1.0)
    r = figures(losses)
    assert r["clipping.textbook"] == pytest.approx(0.25)
    assert r["clipping.pilot"] == pytest.approx((0.5 + 1.0) / 2)
    assert (r["clipping.tasks"], r["clipping.runs"], r["clipping.diverged"]) == (1, 2, 1)
    assert render(r).splitlines()[2].startswith("| clipping: gradients clipped to a norm of 0.1 | 1 | 0.750 |")


def test_a_training_is_cached(tmp_path: Path) -> None:
    (task,) = tasks(("diabetes",), 1)
    todo = [Job("clipping", task, 0, times) for times in (None, 1.0)]
    losses = trained(todo, tmp_path)
    assert [*losses] == todo and all(math.isfinite(end) for ends in losses.values() for end in ends)
    with open_cache(tmp_path) as cache:
        assert {*cache} == {training_key(job) for job in todo}
        cache[training_key(todo[0])] = (9.0, 9.0)
    assert trained(todo, tmp_path) == losses | {todo[0]: (9.0, 9.0)}


def test_another_policy_changes_the_keys_of_its_own_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = tasks(("diabetes",), 1)
    todo = [Job(change, task, 0, times) for change in ("clipping", "as usual") for times in (None, 1.0)]
    before = [training_key(job) for job in todo]
    assert len({*before}) == 4
    monkeypatch.setattr(changed_training, "load_policy", lambda _: load_policy(TOP / "policy/behaviour/initial.onnx"))
    assert [training_key(job) == old for job, old in zip(todo, before, strict=True)] == [False, True, False, True]


def test_linear_decay_knows_no_pilot() -> None:
    modules = closure("benchmarks.changed_training", unused=changed_training.DRIVER)
    assert {"lrpilot.actions", "pipeline.evaluation.loops"} < modules
    assert not modules & {"lrpilot.features", "lrpilot.guard", "lrpilot.pilot", "lrpilot.torch"}


def test_all_changes_have_their_jobs() -> None:
    wanted = jobs(CHANGES, 2)
    assert {j.change for j in wanted} == set(CHANGES)
    assert len({j.task.family for j in wanted if j.change == "as usual"}) == 9
    assert {j.times for j in wanted} == {None, *TIMES}
    # what the pilot alone hears changes nothing of linear decay, which is trained once
    assert {j.change for j in wanted if j.times is not None} == set(CHANGES) - {"noisy losses", "max_lr"}
