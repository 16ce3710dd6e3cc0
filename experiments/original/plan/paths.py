"""The paths of the original experiment's artefacts, below the root of its profile. A test compares stages.yaml with
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.paths import Artefact, Paths, parse_root


class OriginalPaths(Paths):
    """The paths below one root."""

    sets = Artefact("data/sets", "prepare")  # arrays of the data sets, sets.json, bert/: all that the other stages read
    prepare_metrics = Artefact("metrics/prepare.json", "prepare", "metrics")  # has wall times
    recordings = Artefact("data/recordings", "record")  # <hash>.json, a training each
    record_metrics = Artefact("metrics/record.json", "record", "metrics")
    discrete = Artefact("artifacts/discrete.onnx", "learn")
    continuous = Artefact("artifacts/continuous.onnx", "learn")
    learn_metrics = Artefact("metrics/learn.json", "learn", "metrics")
    runs = Artefact("data/runs", "run")  # <hash>.json, a training each; <hash>.pt of one that is not finished
    run_metrics = Artefact("metrics/run.json", "run", "metrics")
    rows = Artefact("artifacts/rows.parquet", "table")  # a row per training
    results = Artefact("reports/results.md", "table")
    table_metrics = Artefact("metrics/table.json", "table", "metrics")

    @property
    def mirror(self) -> Path:
        """Where `data.mirror: embedded` writes. The sets are made from it."""
        return self.root / "data" / "mirror"


ARTEFACTS: tuple[Artefact, ...] = tuple(v for v in vars(OriginalPaths).values() if isinstance(v, Artefact))


def original_root(description: str | None, argv: Sequence[str] | None = None) -> OriginalPaths:
    """Read `--root ROOT` from the command line of a stage."""
    return OriginalPaths(parse_root(description, argv).root)
