"""What the archive holds is not trained again; what a policy takes part in is not held."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks import archive
from benchmarks.archive import Archived
from pipeline.engines import engine
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.runs import Run
from pipeline.evaluation.splits import tasks
from pipeline.result_cache import open_cache

(TASK,) = tasks(("illconditioned",), 1)
SCHEDULE = Scheduled("grid", "constant", schedule="constant", lr0=1e-2)
POLICY = Learned("policy", "policy", "default", epochs=True)
RUNS = [Run(TASK, method, seed) for method in (SCHEDULE, POLICY) for seed in (0, 1)]

Make = Callable[[str], Archived]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(archive, "FILE", tmp_path / "trainings.parquet")
    return lambda cache: Archived((TASK,), {"odd": 1.0}, 2, 2, (), engine("local", 1), tmp_path / cache)


def test_what_is_held_is_not_trained_again(bench: Make) -> None:
    """The seconds that a training took tell one from another."""
    first, second = bench("first"), bench("second")
    trained = first.compute(RUNS, "test")
    archive.store(first.cache, first.keys)
    assert first.keys == {run.key() for run in RUNS[:2]}
    assert {key.hex() for key in pq.read_table(archive.FILE)["key"].to_pylist()} == first.keys
    restored = second.compute(RUNS, "test")
    assert (restored.seconds == trained.seconds).tolist() == [True, True, False, False]
    curves, exact = ["val_curve", "lr_curve"], ["task", "method", "seed", "val_loss", "test_loss", "best_loss"]
    assert restored[exact].equals(trained[exact])
    for name in curves:
        for old, new in zip(trained[name], restored[name], strict=True):
            assert new == pytest.approx(old, rel=1e-6)


def test_what_the_cache_has_stays(bench: Make) -> None:
    first = bench("first")
    first.compute(RUNS, "test")
    archive.store(first.cache, first.keys)
    mine: dict[str, Any] = {"val_loss": 7.0}
    with open_cache(first.cache) as cache:
        cache[RUNS[0].key()] = mine
    archive.restore(first.cache, first.keys)
    with open_cache(first.cache) as cache:
        assert cache[RUNS[0].key()] == mine


def test_without_an_archive_everything_is_trained(bench: Make) -> None:
    assert len(bench("first").compute(RUNS, "test")) == len(RUNS)


def test_a_result_that_is_lacking(bench: Make) -> None:
    with pytest.raises(KeyError, match="unknown"):
        archive.store(bench("first").cache, ["unknown"])
