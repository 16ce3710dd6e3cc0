"""The trainings other than usual: each change does what it says; figures by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from benchmarks import changed_training
from benchmarks.changed_training import TIMES, Ends, Job, train, training_key
from benchmarks.changes import CHANGES, FAMILIES, OTHER_OPTIMIZERS, Change
from benchmarks.robust import figures, jobs, missed, render, trained
from lrpilot import load_policy
from lrpilot.torch import PilotLR
from pipeline.code_hash import closure
from pipeline.evaluation.splits import Task, tasks
from pipeline.result_cache import open_cache
from pipeline.workloads.base import REGIMES, Workload
from pipeline.workloads.families import family
from repository import TOP
from tiny import world

N = 80


@dataclass(frozen=True)
class Tiny(Task):
    """A task of a world that trains in milliseconds."""

    def sample(self) -> Workload:
        return world(self.family, N)


def job(change: str, *, pilot: bool, optimizer: str = "adam", seeds: int = 1) -> Job:
    return Job(change, Tiny("heldout", optimizer, 0), seeds, pilot)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "long"])
def test_every_change_trains(change: str, optimizer: str) -> None:
    piloted = train(job(change, pilot=True, optimizer=optimizer))
    assert [len(row) for row in piloted.after] == [1] and math.isfinite(piloted.before)
    linear = train(job(change, pilot=False, optimizer=optimizer))
    assert [len(row) for row in linear.after] == [1] * len(TIMES)
    assert math.isfinite(linear.after[TIMES.index(1.0)][0])


@pytest.mark.parametrize("change", ["as usual", "clipping", "Lion", "batch norm", "dropout", "told 30 % less"])
def test_linear_decay_side_by_side_is_a_plain_loop(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot that only follows linear decay ends where the trainings side by side end."""

    class Linear:
        def __init__(self, optimizer: Any, total_steps: int, **_: Any) -> None:
            self.decay = LambdaLR(optimizer, lambda step: changed_training.LINEAR.envelope(step, total_steps))

        def step(self, loss: float) -> None:
            self.decay.step()

    monkeypatch.setattr(changed_training, "PilotLR", Linear)
    (alone,), together = train(job(change, pilot=True)).after, train(job(change, pilot=False)).after
    assert alone == pytest.approx(together[TIMES.index(1.0)], rel=1e-4)


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
    train(job("mine", pilot=True))
    return made[0], losses


def test_a_change_is_the_one_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, losses = scheduled(monkeypatch, Change("nothing"))
    assert usual.pilot.total_steps == N and usual.steps_per_epoch == 12
    shorter, _ = scheduled(monkeypatch, Change("", told=0.7))
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
    models = [CHANGES[name].training(w).initialise(0) for name in ("dropout", "batch norm")]
    layers = {type(layer) for model in models for layer in model.modules()}
    assert {torch.nn.Dropout, torch.nn.BatchNorm1d} < layers
    assert CHANGES["clipping"].training(w).clip == 0.1
    assert [CHANGES[name].training(w).optimizer for name in OTHER_OPTIMIZERS] == ["rmsprop", "nadam", "adagrad", "lion"]
    tuned = CHANGES["Lion"].training(replace(w, textbook=("wsd", 3.0), betas=(0.5, 0.5), weight_decay=0.1))
    assert (tuned.default, tuned.betas, tuned.weight_decay) == (("cosine", 1e-4), None, 0.0)


def ends(change: str, pilot: list[float], textbook: float) -> dict[Job, Ends]:
    """Trainings of a task that come down from 1: linear decay to 0.2 at best, and to `textbook` from that rate."""
    (task,) = tasks(("mnist_mlp",), 1)
    linear = [[0.2 if times == 3.0 else textbook] * len(pilot) for times in TIMES]
    return {
        Job(change, task, len(pilot), pilot=True): Ends(1.0, [pilot]),
        Job(change, task, len(pilot), pilot=False): Ends(1.0, linear),
    }


SHARES = {"ordinary": 0.55, "finetuning": 0.15, "small_noisy": 0.15, "odd": 0.15}


def test_figures_by_hand() -> None:
    r = figures(ends("as usual", [0.28, 0.28], 0.4) | ends("clipping", [0.6, math.nan], 0.4), SHARES)
    assert r["clipping.textbook"] == pytest.approx(0.25)
    assert r["clipping.pilot"] == pytest.approx((0.5 + 1.0) / 2) == r["clipping.ordinary"]
    assert r["clipping.usual"] == pytest.approx(0.1) == r["as usual.pilot"]
    assert (r["clipping.tasks"], r["clipping.runs"], r["clipping.diverged"]) == (1, 2, 1)
    row = "clipping: gradients clipped to a norm of 0.1 | 1 | 0.750 | 0.500 to 1.000 | 0.100 | 0.250 | 0.750 |  |  |  |"
    assert render(r).splitlines()[3].startswith(f"| {row}")


def test_a_mean_weights_the_regimes() -> None:
    losses = ends("as usual", [0.28, 0.28], 0.4)
    (task,) = tasks(("bodies_raw",), 1)
    odd = {replace(job, task=task): end for job, end in ends("as usual", [0.6, 0.6], 0.4).items()}
    r = figures(losses | odd, SHARES)
    assert (r["as usual.ordinary"], r["as usual.odd"]) == (pytest.approx(0.1), pytest.approx(0.5))
    assert r["as usual.pilot"] == pytest.approx((0.55 * 0.1 + 0.15 * 0.5) / 0.7)


@pytest.mark.parametrize(
    ("change", "pilot", "textbook", "lines"),
    [
        ("clipping", 0.28, 0.4, []),
        ("clipping", 0.44, 0.4, ["clipping: regret 0.300, more than 2 times 0.100"]),
        ("Lion", 0.28, 0.4, []),
        ("Lion", 0.28, 0.28, ["Lion: regret 0.100, the textbook's rate has 0.100"]),
        ("long", 0.22, 0.4, []),
        ("long", 0.26, 0.4, ["long: regret 0.075, the bar is 0.03"]),
    ],
)
def test_bars(change: str, pilot: float, textbook: float, lines: list[str]) -> None:
    r = figures(ends("as usual", [0.28, 0.28], 0.4) | ends(change, [pilot, pilot], textbook), SHARES)
    assert missed(r) == lines


def test_a_job_is_cached(tmp_path: Path) -> None:
    (task,) = tasks(("diabetes",), 1)
    todo = [Job("clipping", task, 1, pilot) for pilot in (True, False)]
    losses = trained(todo, tmp_path)
    assert [*losses] == todo and all(math.isfinite(end.before) for end in losses.values())
    with open_cache(tmp_path) as cache:
        assert {*cache} == {training_key(job) for job in todo}
        assert all(type(cache[key]) is tuple for key in cache)  # no class of ours, whose module may move
        cache[training_key(todo[0])] = Ends(9.0, [[9.0]])
    assert trained(todo, tmp_path) == losses | {todo[0]: Ends(9.0, [[9.0]])}


def test_another_policy_changes_the_keys_of_its_own_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = tasks(("diabetes",), 1)
    todo = [Job(change, task, 1, pilot) for change in ("clipping", "as usual") for pilot in (True, False)]
    before = [training_key(job) for job in todo]
    assert len({*before}) == 4
    monkeypatch.setattr(changed_training, "load_policy", lambda _: load_policy(TOP / "policy/behaviour/initial.onnx"))
    assert [training_key(job) == old for job, old in zip(todo, before, strict=True)] == [False, True, False, True]


def test_linear_decay_knows_no_pilot() -> None:
    modules = closure("benchmarks.changed_training", unused=changed_training.DRIVER)
    assert {"lrpilot.decisions.actions", "pipeline.simulation.follow"} < modules
    assert not modules & {"lrpilot.decisions.features", "lrpilot.decisions.guard", "lrpilot.pilot", "lrpilot.torch"}


def test_all_changes_have_their_jobs() -> None:
    wanted = jobs(CHANGES, 2)
    assert {j.change for j in wanted} == set(CHANGES)
    assert [j.task.family for j in wanted if j.change == "as usual" and j.pilot] == [*FAMILIES]
    # what the pilot alone hears changes nothing of linear decay, which is trained once
    assert {j.change for j in wanted if not j.pilot} == set(CHANGES) - {"noisy losses", "max_lr"}


def test_families_are_held_out_and_of_every_regime() -> None:
    assert {family(name).split for name in FAMILIES} == {"heldout"}
    assert {family(name).regime for name in FAMILIES} == {*REGIMES}
    assert {name for change in CHANGES.values() for name in change.families} == {*FAMILIES}
