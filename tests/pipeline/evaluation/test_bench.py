"""The grid that all methods are measured by, and the name of what a benchmark judges."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation.bench import HIGHEST, SCHEDULES, TUNING, Bench, grid, name_of, schedules
from pipeline.evaluation.splits import tasks
from repository import TOP


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tasks(("illconditioned",), 1), 2, 2, (1e-3, 1e-1), engine("local", 1), tmp_path / "cache")


@pytest.mark.parametrize("optimizer", HIGHEST)
def test_the_grid_is_every_schedule_at_every_rate_of_its_optimizer(optimizer: str) -> None:
    methods = grid(optimizer)
    rates = sorted({method.lr0 for method in methods})
    assert {(m.schedule, m.lr0) for m in methods} == {(s, lr) for s in SCHEDULES for lr in rates}
    assert len(methods) == len(SCHEDULES) * len(rates)
    assert {m.kind for m in methods} == {"grid"}
    assert rates[0] == 1e-5 and rates[-1] == HIGHEST[optimizer]
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=0.03)


def test_the_default_initial_rates_are_in_every_grid() -> None:
    initial = set(read(TOP / "params.yaml")["evaluate"]["learning_rates"])
    for optimizer in HIGHEST:
        assert initial <= {m.lr0 for m in grid(optimizer)}


def test_baselines_are_every_schedule_from_every_initial_rate() -> None:
    methods = schedules("baseline", (0.1, 1.0))
    assert {m.kind for m in methods} == {"baseline"} and all(m.name == m.schedule for m in methods)
    assert [(m.name, m.lr0) for m in methods] == [(name, lr) for name in SCHEDULES for lr in (0.1, 1.0)]


def test_runs_are_on_the_judged_seeds_unless_others_are_named(bench: Bench) -> None:
    methods = schedules("baseline", (0.1,))[:2]
    runs = bench.runs(methods, bench.tasks[0])
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for method in methods for seed in (0, 1)]
    assert [run.seed for run in bench.runs(methods[:1], bench.tasks[0], range(TUNING, TUNING + 2))] == [1000, 1001]


def test_the_name_stands_for_what_is_judged(bench: Bench) -> None:
    names = {name_of(bench), name_of(replace(bench, seeds=3)), name_of(replace(bench, learning_rates=(1e-3,)))}
    names |= {name_of(replace(bench, tuning_seeds=3)), name_of(replace(bench, tasks=tasks(("illconditioned",), 2)))}
    assert len(names) == 5
    assert name_of(bench) == name_of(replace(bench))
