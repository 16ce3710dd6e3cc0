"""Which runs a bench asks for."""

from pathlib import Path

from pipeline.engines import engine
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.compare import schedules
from pipeline.evaluation.splits import tasks


def test_runs_are_on_the_judged_seeds_unless_others_are_named(tmp_path: Path) -> None:
    bench = Bench(tasks(("illconditioned",), 1), {"odd": 1.0}, 2, 2, (), engine("local", 1), tmp_path)
    methods = schedules("baseline", (0.1,))[:2]
    runs = bench.runs(methods, bench.tasks[0])
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for method in methods for seed in (0, 1)]
    assert [run.seed for run in bench.runs(methods[:1], bench.tasks[0], range(7, 9))] == [7, 8]
