"""The benchmark of twins: two tasks, and the bars."""

from pathlib import Path

import pytest

from benchmarks.scaling import twin_costs
from quick import quick


def test_a_group_is_timed_both_ways(tmp_path: Path) -> None:
    _, figures = quick("benchmarks.scaling.twin_costs", tmp_path)
    assert 0.2 < figures["cost_low"] <= figures["cost"] <= figures["cost_high"] < 1.2
    assert (figures["tasks"], figures["quick"]) == (2, True) and figures["twins"] >= 4
    documented = twin_costs.__doc__ or ""
    assert all(key in documented for key in ("cost", "cost_low", "cost_high", "tasks", "twins", "per_hour"))


@pytest.mark.parametrize(
    ("figures", "misses"),
    [
        ({"cost": 0.6, "per_hour": 40_000}, []),
        ({"cost": 0.61, "per_hour": 40_000}, ["a group costs 0.61 of as many separate runs, want 0.6 at most"]),
        ({"cost": 0.5, "per_hour": 39_000.4}, ["39,000 twins an hour, want 40,000"]),
        ({"cost": 0.5}, []),
    ],
)
def test_bars(figures: dict[str, float], misses: list[str]) -> None:
    assert twin_costs.missed(figures) == misses
