"""The recorded tasks that a variant learns from: a part of a collection, copies that lack runs, or tasks recorded
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.policy.variant import DIVERGED, WORSE, Variant
from lrpilot.decisions.cadence import CadenceSpec
from pipeline.simulation.recording import Spec, record
from policy import trajectories

Run = Callable[[Callable[[Any], Any], Sequence[Any], str], list[Any]]  # all results, and progress of a name

BEST = 4  # of so many runs of a task one is not WORSE


def learned(
    variant: Variant, files: Sequence[Path], specs: Sequence[Spec], recordings: Path, copies: Path, run: Run
) -> list[Path]:
    """The files that a variant learns from, given those of a collection and the specs that they were recorded by.

    Tasks with another cadence are recorded below `recordings`; tasks that lack runs are copied below `copies`.
    """
    paths = chosen(variant, files)
    if variant.cadence:
        names = {path.name for path in paths}
        todo = [spec for spec in specs if Path(spec.file()).name in names]
        paths = sorted(run(partial(recorded, variant=variant, folder=recordings), todo, "record"))
    if variant.without:
        paths = [copy for path in paths if (copy := lacking(path, variant.without, copies)) is not None]
    return paths


def chosen(variant: Variant, files: Sequence[Path]) -> list[Path]:
    """For each family the first tasks by name. Names begin with seeds that were drawn at random."""
    by_family: dict[str, list[Path]] = {}
    for path in sorted(files):
        by_family.setdefault(path.parent.name, []).append(path)
    families = sorted(by_family)[:: max(len(by_family) // (variant.families or len(by_family)), 1)]
    return [p for name in families for p in by_family[name][: max(round(variant.share * len(by_family[name])), 1)]]


def recorded(spec: Spec, variant: Variant, folder: Path) -> Path:
    """A task of the collection, recorded below `folder` with a variant's cadence, unless it is already there."""
    path = folder / spec.file()
    if not path.exists():
        trajectories.store(record(spec, CadenceSpec(**variant.cadence)), path)
    return path


def lacking(path: Path, without: str, folder: Path) -> Path | None:
    """A copy of a recorded task below `folder` without some of its runs; None if fewer than two runs remain."""
    table = trajectories.read(path)
    runs = np.array(table["run_id"].to_pylist())
    left = table.filter(pa.array(~np.isin(runs, _left_out(table, runs, without))))
    if trajectories.count_runs(left) < 2:
        return None
    copy = folder / path.parent.name / path.name
    trajectories.store(trajectories.encode(left), copy)
    return copy


def _left_out(table: pa.Table, runs: np.ndarray, without: str) -> np.ndarray:
    """Names of the runs that a variant leaves out. `runs` holds the name of each row's run."""
    if without == WORSE:
        last = np.flatnonzero(runs != np.append(runs[1:], ""))  # a run's last row
        final, reason = (np.array(table[name].to_pylist())[last] for name in ("val_loss", "reason"))
        ranked = np.argsort(np.where(reason == DIVERGED, np.inf, final.astype(float)), kind="stable")
        return runs[last[ranked[max(len(last) // BEST, 2) :]]]
    column = "reason" if without == DIVERGED else "schedule"
    return runs[np.array(table[column].to_pylist()) == without]
