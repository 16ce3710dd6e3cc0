"""Trainings of the benchmark are kept: what there is is not trained again, and a kill costs what is in training."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diskcache
import pytest

from pipeline.engines import Engine, EngineError, Failure, Outcome, engine
from pipeline.evaluation.benchmark import MEMBERS, Benchmark, batches
from pipeline.evaluation.methods.loops import Rival
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.methods.policies import Learned, Ruled
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.runs import Run
from pipeline.evaluation.splits import tasks
from repository import TOP

FIRST, SECOND = tasks(("illconditioned",), 2)
SCHEDULES = [Scheduled("grid", name, schedule=name, lr0=1e-2) for name in ("constant", "linear")]
FINDER = Ruled("rival", "finder_tenth", rule="finder_tenth")
LOOPS = [Rival("rival", name, rival=name) for name in ("untouched", "prodigy")]
PILOT = PilotLoop("loop", "pilot", policy="default")
POLICIES = [Learned("policy", f"validation {shown}", "default", validation=shown) for shown in (False, True)]


class Here:
    """An engine in this process that fails at its `fails`-th piece of work, and keeps what it was given."""

    def __init__(self, fails: int = -1) -> None:
        self.fails, self.given = fails, list[Any]()

    def imap_unordered(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Outcome[Any, Any]]:
        for i, item in enumerate(items):
            self.given.append(item)
            failure = Failure("raised", "boom") if i == self.fails else None
            yield Outcome(item, None if failure else fn(item), failure)


def bench(folder: Path, workers: Engine) -> Benchmark:
    return Benchmark((FIRST, SECOND), {"odd": 1.0}, 2, 2, (), workers, folder)


def test_runs_are_on_the_judged_seeds_unless_others_are_named(tmp_path: Path) -> None:
    runs = bench(tmp_path, Here()).runs(SCHEDULES, FIRST)
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for method in SCHEDULES for seed in (0, 1)]
    assert [run.seed for run in bench(tmp_path, Here()).runs(SCHEDULES[:1], FIRST, range(7, 9))] == [7, 8]


def test_what_trains_together() -> None:
    seeds = range(5)
    methods = (*SCHEDULES, *POLICIES, FINDER, *LOOPS, PILOT)
    runs = [Run(task, method, seed) for task in (FIRST, SECOND) for method in methods for seed in seeds]
    found = batches(runs)
    assert sorted(map(len, found)) == [1] * 10 + [5, 5] + [10] * 6
    assert sorted(run.key() for part in found for run in part) == sorted(run.key() for run in runs)
    assert all(len({run.task for run in part}) == 1 for part in found)
    steps = [part[0].task.sample().n_steps for part in found]
    assert steps == sorted(steps, reverse=True)
    assert max(map(len, batches([Run(FIRST, SCHEDULES[0], s) for s in range(3 * MEMBERS + 1)]))) == MEMBERS


def test_rows_come_in_the_order_of_the_runs_and_say_what_they_are(tmp_path: Path) -> None:
    runs = [Run(t, m, 3) for t in (SECOND, FIRST) for m in (FINDER, SCHEDULES[1])]
    rows = bench(tmp_path, Here()).compute(runs, "test")
    assert rows.task.tolist() == [SECOND.name] * 2 + [FIRST.name] * 2
    assert rows.method.tolist() == ["finder_tenth", "linear"] * 2
    assert rows.kind.tolist() == ["rival", "grid"] * 2
    assert rows.lr0.fillna(0).tolist() == [0, 1e-2] * 2
    assert set(rows.seed) == {3} and set(rows.split) == {"train"}


def test_what_is_kept_is_not_trained_again(tmp_path: Path) -> None:
    runs = [Run(FIRST, method, seed) for method in SCHEDULES for seed in (0, 1)]
    first = bench(tmp_path, Here()).compute(runs[:3], "test")
    again = Here()
    rows = bench(tmp_path, again).compute(runs, "test")
    assert [run for part in again.given for run in part] == runs[3:]
    assert rows[:3].test_loss.tolist() == first.test_loss.tolist()
    idle = Here()
    renamed = [Run(FIRST, replace(method, kind="oracle", name="best"), 0) for method in SCHEDULES]
    named = bench(tmp_path, idle).compute(renamed, "test")  # the same trainings under another name
    assert idle.given == [] and named.kind.tolist() == ["oracle"] * 2
    assert named.test_loss.tolist() == rows.test_loss[[0, 2]].tolist()


def test_a_failure_names_the_run_and_keeps_the_others(tmp_path: Path) -> None:
    runs = [Run(FIRST, PILOT, seed) for seed in range(4)]
    with pytest.raises(EngineError, match=f"test: {FIRST.name}, pilot: boom"):
        bench(tmp_path, Here(fails=2)).compute(runs, "test")
    rest = Here()
    bench(tmp_path, rest).compute(runs, "test")
    assert [part[0].seed for part in rest.given] == [2, 3]


def test_what_is_known_of_tasks_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench(tmp_path, Here()).facts()
    assert found.index.tolist() == [FIRST.name, SECOND.name]
    monkeypatch.setattr("pipeline.evaluation.benchmark.task_facts", None)
    assert bench(tmp_path, Here()).facts().equals(found)


def test_two_workers_do_the_same(tmp_path: Path) -> None:
    runs = [Run(task, method, 0) for task in (FIRST, SECOND) for method in (*SCHEDULES, FINDER)]
    here, there = (
        bench(tmp_path / name, workers).compute(runs, "test")
        for name, workers in (("here", Here()), ("there", engine("local", 2)))
    )
    assert here.test_loss.tolist() == pytest.approx(there.test_loss.tolist(), rel=1e-5)


KILLED = """
import sys
from pathlib import Path
from pipeline.engines import engine
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.splits import tasks
from pipeline.evaluation.runs import Run
if __name__ == "__main__":
    (task,) = tasks(("illconditioned",), 1)
    pilot = PilotLoop("loop", "pilot", policy="default")
    runs = [Run(task, pilot, seed) for seed in range(400)]
    Benchmark((task,), {}, 1, 1, (), engine("local", 1), Path(sys.argv[1])).compute(runs, "test")
"""


def test_a_kill_loses_what_is_in_training(tmp_path: Path) -> None:
    """Killed without warning after some of 400 trainings: at most one is lost, and the rest goes on from there."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "kept")], cwd=TOP, start_new_session=True,
                          env=os.environ | {"PYTHONPATH": f"{TOP}:{TOP / 'runtime'}"}) as process:  # fmt: skip
        deadline = time.monotonic() + 300  # of a busy machine
        while stored(tmp_path) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    survived = stored(tmp_path)
    assert 5 <= survived < 400
    runs = [Run(FIRST, PILOT, seed) for seed in range(survived + 3)]
    rest = Here()
    bench(tmp_path / "kept", rest).compute(runs, "test")
    assert [part[0].seed for part in rest.given] == [survived, survived + 1, survived + 2]


def stored(folder: Path) -> int:
    if not (folder / "kept" / "cache.db").exists():
        return 0
    with diskcache.Cache(str(folder / "kept")) as cache:
        return len(cache)
