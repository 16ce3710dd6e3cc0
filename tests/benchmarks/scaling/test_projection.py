"""The plan's arithmetic, by hand."""

import pytest

from benchmarks.scaling import projection

COLLECTION = {"mix_runs_per_hour": 200_000}
STORAGE = {"store_ms": 8.0, "chosen.bytes_per_run": 3000.0, "many_files": 31_250, "read_s": 126.0}
MILLION = {"runs": 10**6, "store_bytes": 7 * 10**9, "load_cpu_s": 360.0}


def test_arithmetic_by_hand() -> None:
    assert projection.arithmetic(COLLECTION, STORAGE, MILLION) == {
        "runs": 10**7,
        "files": 312_500,
        "core_hours": 100.0,  # 10^7 / 10^5 per core and hour
        "price": 0.04,
        "money": 4.0,
        "hours_on_2": 50.0,
        "hours_on_64": pytest.approx(1.5625),
        "hours_on_512": pytest.approx(2500 / 3600),  # to write 312,500 files of 8 ms
        "most_cores": pytest.approx(144.0),  # 125 files of 32 runs a second, 14.4 million runs an hour
        "files_gb": 30.0,
        "store_gb": 70.0,
        "read_hours": pytest.approx(0.35),
        "load_hours": 1.0,
    }


def test_the_table() -> None:
    rows = projection.render(projection.arithmetic(COLLECTION, STORAGE, MILLION)).splitlines()
    assert "| wall time on 64 cores | 1.6 hours |" in rows
    assert "| files | 312,500, 30 GB |" in rows
    documented = projection.__doc__ or ""
    assert all(key in documented for key in projection.arithmetic(COLLECTION, STORAGE, MILLION))
