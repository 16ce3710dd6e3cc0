"""What a collection holds: counts, medians and shares, worked out by hand, of all runs and of each regime."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recorded_facts import summarise
from policy import trajectories
from written_task import ROWS, table

TASKS: tuple[dict[str, Any], ...] = (
    {"regime": "ordinary", "optimizer": "adamw", "steps_per_epoch": 30.0, "examples": 960, "batch_size": 32,
     "weights": 60_000, "batch_norm": True, "dropout": True, "family": "deep"},
    {"regime": "ordinary", "optimizer": "sgd", "steps_per_epoch": 90.0, "examples": 5760, "batch_size": 64,
     "weights": 50_000, "clipped": True, "family": "wide"},
    {"regime": "odd", "optimizer": "adamw", "steps_per_epoch": 9.0, "examples": 90, "batch_size": 10, "weights": 7,
     "family": "wide"},
)  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three tasks of two runs (one diverges) and 90 steps each."""
    paths = [tmp_path / f"{i}.parquet" for i in range(len(TASKS))]
    for path, task in zip(paths, TASKS, strict=True):
        trajectories.store(trajectories.encode(table(**{name: [value] * ROWS for name, value in task.items()})), path)
    return paths


FACTS = {
    "runs": 6, "families": 2, "optimizers": 2, "schedules": 1, "decisions": 15, "divergent_share": 0.5,
    "epochs": 3.0, "batch": 32.0, "examples": 960.0, "weights": 50_000.0, "steps": 90.0,
    "batch_norm": 0.3333, "dropout": 0.3333, "clipped": 0.3333, "large": 0.3333, "one_pass": 0.3333,
    "optimizer.adamw": 0.6667, "optimizer.sgd": 0.3333,
    "odd.runs": 2, "odd.share": 0.3333, "odd.epochs": 10.0, "odd.batch": 10.0, "odd.examples": 90.0,
    "odd.weights": 7.0, "odd.steps": 90.0, "odd.batch_norm": 0.0, "odd.dropout": 0.0, "odd.clipped": 0.0,
    "odd.large": 0.0, "odd.one_pass": 0.0,
    "ordinary.runs": 4, "ordinary.share": 0.6667, "ordinary.epochs": 2.0, "ordinary.batch": 48.0,
    "ordinary.examples": 3360.0, "ordinary.weights": 55_000.0, "ordinary.steps": 90.0, "ordinary.batch_norm": 0.5,
    "ordinary.dropout": 0.5, "ordinary.clipped": 0.5, "ordinary.large": 0.5, "ordinary.one_pass": 0.5,
}  # fmt: skip


def test_facts_by_hand(files: list[Path]) -> None:
    assert summarise(files) == FACTS


def test_nothing_collected() -> None:
    assert summarise([]) == {
        "runs": 0, "families": 0, "optimizers": 0, "schedules": 0, "decisions": 0, "divergent_share": 0.0
    }  # fmt: skip
