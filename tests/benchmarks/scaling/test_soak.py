"""The soak kills, counts and writes what it documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling import soak
from repository import TOP

KEYS = {
    "quick", "processor", "workers", "minutes", "every_s", "killed_workers", "killed_drivers", "collections", "tasks",
    "runs", "given_up", "found_tasks", "found_runs", *soak.NOTHING, "compared", "wall_s", "runs_per_hour",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("soak") / "new" / "soak.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        patch.setenv("MLFLOW_TRACKING_URI", "")  # given back its value afterwards
        assert soak.main(["--quick", "--check", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_it_writes_the_documented_figures(results: dict[str, Any]) -> None:
    assert set(results) == KEYS
    documented = soak.__doc__ or ""
    assert all(key in documented for key in KEYS)


def test_something_was_killed_and_nothing_lost(results: dict[str, Any]) -> None:
    assert results["killed_workers"] + results["killed_drivers"] > 0
    assert (results["found_tasks"], results["found_runs"]) == (12, 36)
    assert [results[key] for key in soak.NOTHING] == [0] * len(soak.NOTHING)
    assert results["compared"] == soak.COMPARED


@pytest.mark.parametrize("key", soak.NOTHING)
def test_what_is_lost_is_a_miss(key: str, results: dict[str, Any]) -> None:
    assert soak.missed(results) == []
    assert soak.missed(results | {key: 3}) == [f"{key}: 3, want 0"]
    assert f"{key} 3" in soak.render(results | {key: 3})


def test_a_watch_sees_what_is_lost_and_what_changes(tmp_path: Path) -> None:
    watch = soak.Watch(tmp_path)
    paths = [tmp_path / "family" / f"{i}.parquet" for i in range(4)]
    paths[0].parent.mkdir()
    for path in paths[:3]:
        path.write_bytes(b"rows")
    watch.look()
    paths[0].unlink()
    paths[1].write_bytes(b"more rows")
    paths[3].write_bytes(b"rows")
    watch.look()
    assert watch.verdict() == {"lost": 1, "changed": 1}
