"""Find the MLflow run that a stage logs to: that of the `dvc repro` that started it.

Stages are separate processes. They find their common run by the `dvc repro` that started them: the process id of that
ancestor, with the host and the root, is a tag of the run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil

from lrpilot import digests
from pipeline.tracking.model_store import NOTE, Store

REPRO = "lrpilot.repro"  # tag of a run: which `dvc repro` it belongs to
CLOCK = 2000  # ms by which a process' start time and the wall clock may disagree


def begin(store: Store, stage: str, root: Path) -> str:
    """Id of the run that the stage logs to, which is now running. A stage that is started by hand has its own run."""
    repro = repro_process()
    if repro is None:
        note = f"The stage `{stage}` alone, run by hand in {root.name or root}."
        return store.client.create_run(store.experiment, run_name=stage, tags={NOTE: note}).info.run_id
    key = repro_key(repro, root)
    # A process id comes back one day, but a run older than the process cannot be this repro's.
    since = int(repro.create_time() * 1000) - CLOCK
    mine = f"tags.`{REPRO}` = '{key}' and attributes.start_time >= {since}"
    runs = store.client.search_runs([store.experiment], mine, order_by=["attributes.start_time DESC"], max_results=1)
    if runs:
        store.client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id
    experiment = os.environ.get("DVC_EXP_NAME")  # set by `dvc exp run`
    how = f"`dvc exp run`, experiment {experiment}" if experiment else "`dvc repro`"
    tags = {REPRO: key, NOTE: f"One {how} in {root.name}: the stages that had something to do."}
    return store.client.create_run(store.experiment, run_name=experiment or f"repro {root.name}", tags=tags).info.run_id


def repro_process() -> psutil.Process | None:
    """The nearest ancestor that is `dvc repro` or `dvc exp run`."""
    for process in psutil.Process().parents():
        try:
            command = process.cmdline()
        except psutil.Error:  # it ended meanwhile, or belongs to somebody else
            continue
        if is_repro(command):
            return process
    return None


def is_repro(command: Sequence[str]) -> bool:
    """Whether a command line is `dvc repro`, `python -m dvc repro`, `python venv/bin/dvc exp run` or so."""
    names = [Path(word).name for word in command[:3]]
    return "dvc" in names and not {"repro", "exp"}.isdisjoint(command[names.index("dvc") + 1 :])


def repro_key(process: psutil.Process, root: Path) -> str:
    """Identifies a process that runs now, on this host, for this root."""
    return digests.of_bytes(f"{platform.node()}|{process.pid}|{root}".encode())[:16]
