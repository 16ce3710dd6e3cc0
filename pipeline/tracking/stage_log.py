"""What a stage logs to MLflow: parameters, metrics, curves, its data set, and artefacts."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.paths import Paths
from pipeline.tracking import repro_run
from pipeline.tracking.model_store import NOTE, Store, open_store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DATA = "lrpilot.data"  # tag of a run: hash of the trajectories
PER_BATCH = 100  # params in one request, MLflow's limit; it takes 1000 metrics
DIGEST = 36  # characters of a data set's hash, MLflow's limit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageLog:
    """Logs for one stage into the run that all stages share."""

    store: Store
    run_id: str
    name: str  # of the stage

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Log the finite numbers among `values` as <stage>/<key>; texts, nan and infinities are left out.

        Metrics fill the top of the run's page and the columns of MLflow's table of runs. So log the few that people
        compare, and the others by `table` or `artifact`.
        """
        self.curves([(0, values)])

    def curves(self, points: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Log `metrics` of several steps, each as (step, values)."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        logged = [
            Metric(_legal(f"{self.name}/{key}"), float(value), now, step)
            for step, values in points
            for key, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        for batch in _batches(logged):
            self.store.client.log_batch(self.run_id, metrics=batch)

    def write(self, values: Mapping[str, Any], path: Path) -> None:
        """Write a stage's figures as JSON, and log the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        self.artifact(path)

    def artifact(self, path: Path) -> None:
        """Log a file or a folder as <stage>/<its name>."""
        if path.is_dir():
            self.store.client.log_artifacts(self.run_id, str(path), f"{self.name}/{path.name}")
        else:
            self.store.client.log_artifact(self.run_id, str(path), self.name)

    def table(self, rows: pd.DataFrame, name: str) -> None:
        """Log rows as <stage>/<name>.csv, which MLflow shows as a table."""
        content = rows.to_csv(index=False, lineterminator="\n")
        self.store.client.log_text(self.run_id, content, f"{self.name}/{name}.csv")

    def learns_from(
        self, name: str, data_hash: str, folder: Path, schema: pa.Schema, facts: Mapping[str, int | float]
    ) -> None:
        """Log the data set that the stage trains on: its hash, location, columns and content."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        source = json.dumps({"uri": folder.resolve().as_uri()})
        data = Dataset(name, data_hash[:DIGEST], "local", source, _columns(schema), json.dumps(facts))
        used = DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])
        self.store.client.log_inputs(self.run_id, [used])
        self.tags({DATA: data_hash})

    def describe(self, text: str) -> None:
        """Add a paragraph, in Markdown, to the run's description. A paragraph that is already there is not repeated."""
        note = self.store.client.get_run(self.run_id).data.tags.get(NOTE, "")
        if text not in note:
            self.tags({NOTE: f"{note}\n\n{text}".strip()})

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tag the run, which all stages share. The names are used as they are."""
        for key, value in values.items():
            self.store.client.set_tag(self.run_id, key, value)


@contextmanager
def stage(paths: Paths, name: str, params: Mapping[str, Any]) -> Iterator[StageLog]:
    """Log the stage `name` to the run of the `dvc repro` that started it; started by hand, to a run of its own.

    `params` may be nested; they become <stage>.<key>.<key>. The run ends as FINISHED, or as FAILED if the body raises.
    """
    store = open_store(paths.root)
    log = StageLog(store, repro_run.begin(store, name, paths.root.resolve()), name)
    try:
        _log_params(log, params)
        log.tags(_commit(paths.root))
        yield log
    except BaseException:
        try:
            store.client.set_terminated(log.run_id, "FAILED")
        except Exception as error:  # on a full disk, say: what the body raised counts, not this
            logger.warning("MLflow cannot note that run %s failed: %s", log.run_id, type(error).__name__)
        raise
    store.client.set_terminated(log.run_id, "FINISHED")


def _log_params(log: StageLog, params: Mapping[str, Any]) -> None:
    """Log the params that the run does not have yet. MLflow refuses to overwrite a param."""
    from mlflow.entities import Param

    known = log.store.client.get_run(log.run_id).data.params
    new = []
    for key, value in _flat(params, log.name).items():
        if key not in known:
            new.append(Param(key, value))
        elif known[key] != value:
            logger.warning(
                "MLflow keeps %s = %s of this run's first %s; now it is %s", key, known[key], log.name, value
            )
    for batch in _batches(new):
        log.store.client.log_batch(log.run_id, params=batch)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat |= _flat(value, name) if isinstance(value, Mapping) else {_legal(name): str(value)}
    return flat


def _columns(schema: pa.Schema) -> str:
    """Names and types of columns, for MLflow's page of a data set."""
    columns = [{"name": field.name, "type": str(field.type), "required": False} for field in schema]
    return json.dumps({"mlflow_colspec": columns})


def _legal(name: str) -> str:
    """A param or metric name in which _ replaces every character that MLflow refuses."""
    return re.sub(r"[^\w./ \-]", "_", name)


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), PER_BATCH):
        yield items[start : start + PER_BATCH]


def _commit(folder: Path) -> dict[str, str]:
    """MLflow's tag of the git commit; empty outside a repository."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": done.stdout.strip()}
