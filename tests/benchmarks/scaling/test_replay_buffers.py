"""The benchmarks of the offline training write what they document. Nothing here is about how fast anything is."""

import math
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.environment import environment
from benchmarks.scaling import disturbed_copies, million, process_memory, replay_buffers
from pipeline.engines import engine, results
from pipeline.simulation.recording import Spec, record
from policy import trajectories
from quick import quick

RATIOS = ("batches_over_d3rlpy", "steps_over_d3rlpy", "start_over_d3rlpy", "batch_share", "threads_over_one")
ENVIRONMENT = {"torch", "numpy", "onnxruntime", "python", "processor", "threads"}
REPLAY_BUFFERS = {
    *ENVIRONMENT, *RATIOS, *(f"{ratio}_{end}" for ratio in RATIOS for end in ("low", "high")),
    *(f"{kind}.{key}" for kind in replay_buffers.KINDS
      for key in ("batches_per_s", "steps_per_s", "start_s", "uniform_p")),
    "quick", "load_average", "runs", "decisions", "features", "rounds", "draws", "pick_difference",
}  # fmt: skip
MILLION = {
    *ENVIRONMENT, "runs", "files", "transitions", "recorded", "files_bytes", "generate_s", "load_s", "load_cpu_s",
    "view_s", "store_bytes", "limit_bytes", "peak_anonymous_bytes", "peak_resident_bytes", "steps", "rounds",
    "steps_per_s", "cold_steps", "cold_steps_per_s", "small_runs", "over_small", "over_small_low", "over_small_high",
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    return quick("benchmarks.scaling.replay_buffers", tmp_path_factory.mktemp("replay_buffers"))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """A small recorded task."""
    spec = Spec("illconditioned", 3, 4, True, (("cosine", 1.0),), (), (0.3, 0.95), None, 32, "cpu", "test")
    return pq.read_table(pa.BufferReader(record(spec)))


@pytest.fixture(scope="module")
def proven(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of twelve runs."""
    place = tmp_path_factory.mktemp("million")
    folder, store, small = (place / name for name in ("trajectories", "store", "small"))
    for path in (store, small):
        path.mkdir()
    made = disturbed_copies.generate(10, [table], folder)
    work = partial(million.prove, store=store, small=small, effort=million.Effort(2, 2, 2))
    (figures,) = results(engine("local", 1), work, [folder])
    return made | figures | {"limit_bytes": million.LIMIT} | environment()


@pytest.mark.parametrize(("name", "keys"), [("replay_buffers", REPLAY_BUFFERS), ("million", MILLION)])
def test_they_write_the_documented_figures(name: str, keys: set[str], request: pytest.FixtureRequest) -> None:
    figures = request.getfixturevalue("proven") if name == "million" else request.getfixturevalue("ran")[1]
    module = {"replay_buffers": replay_buffers, "million": million}[name]
    assert set(figures) == keys
    assert all(isinstance(v, str) or math.isfinite(v) for v in figures.values())
    assert all(key in (module.__doc__ or "") for key in keys if not key.endswith(("_low", "_high")))


def test_the_check_fails_where_a_bar_is_missed(ran: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, figures = ran
    assert done.returncode == bool(replay_buffers.missed(figures))
    assert replay_buffers.missed(figures | replay_buffers.BARS) == []
    (line,) = replay_buffers.missed(figures | {"steps_over_d3rlpy": 1.19})
    assert line == "steps_over_d3rlpy: 1.19, want at least 1.2"


def test_both_buffers_draw_the_same(ran: tuple[Any, dict[str, Any]]) -> None:
    _, figures = ran
    assert figures["pick_difference"] < 1e-6
    assert min(figures["ours.uniform_p"], figures["d3rlpy.uniform_p"]) > 0.001  # the draws are seeded


def test_the_tables_hold_the_figures(ran: tuple[Any, dict[str, Any]], proven: dict[str, Any]) -> None:
    lines = replay_buffers.render(
        ran[1] | {f"steps_over_d3rlpy{end}": 2.34567 for end in ("", "_low", "_high")}
    ).splitlines()
    assert "2.35 (2.35 to 2.35)" in lines[4]
    assert {line.count("|") for line in lines[:5]} == {5}
    text = million.render(proven | {"peak_anonymous_bytes": 3 << 29})
    assert "| peak of anonymous memory | 1.50 GiB |" in text and "12, " in text


def test_generated_files_are_valid_and_differ(table: pa.Table, tmp_path: Path) -> None:
    assert disturbed_copies.generate(10, [table], tmp_path)["runs"] == 12
    one, two, three = (trajectories.read(path) for path in trajectories.files(tmp_path))
    assert len(one) == len(two) == len(three) == len(table)
    assert one["run_id"][0].as_py() == "0000000000000000-000"
    for name in (*disturbed_copies.DISTURBED, "action", "task", "run_id"):
        assert one[name] != two[name]


def test_generated_files_need_room(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"10000000000000 runs need up to [\d,]+ bytes, [\d,]+ are free; make room"):
        million.measure(10**13, tmp_path)


def test_memory_is_in_bytes() -> None:
    memory = process_memory.Memory()
    block = np.ones(30_000_000)
    memory.look()
    assert memory.stop()["peak_anonymous_bytes"] > block.nbytes
