"""MLflow: one run per `dvc repro`, and the model registry. No other module of the pipeline imports mlflow.

Stages are processes of their own. They find their common run by the `dvc repro` that started them: an
ancestor's process id, with the host and the root, is a tag of the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from pipeline.paths import Paths

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "lrpilot"
SQLITE = "sqlite:///"
REPRO = "lrpilot.repro"  # tag of a run: which `dvc repro` it belongs to
DATA = "lrpilot.data"  # tag of a run: hash of the trajectories
PER_BATCH = 100  # params in one request, MLflow's limit; it takes 1000 metrics
CLOCK = 2000  # ms by which a process' start time and the wall clock may disagree

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """MLflow's tracking store and model registry behind one client."""

    client: MlflowClient
    uri: str
    experiment: str  # id

    def version_of(self, model: str, sha256: str) -> ModelVersion | None:
        """The version whose file has this hash."""
        versions = self.client.search_model_versions(f"name = '{model}' and tags.sha256 = '{sha256}'")
        return min(versions, key=lambda version: int(version.version), default=None)

    def aliased(self, model: str, alias: str) -> ModelVersion | None:
        """The version that `alias` points at; None where there is no such model or alias."""
        if not self.client.search_registered_models(f"name = '{model}'"):
            return None
        version = self.client.get_registered_model(model).aliases.get(alias)
        return None if version is None else self.client.get_model_version(model, version)

    def add_version(self, model: str, path: Path, run_id: str, tags: Mapping[str, Any]) -> ModelVersion:
        """Register the ONNX file `path`, byte for byte, as an artefact of the run; a tag is its sha256."""
        import onnx
        from mlflow.onnx import save_model

        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        place = f"policy/{sha256[:12]}"  # a run may register more than one
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "policy"
            needs = ["numpy", "onnxruntime"]
            # External data would put the weights into a second file, and a random name.
            save_model(onnx.load(path), folder, save_as_external_data=False, pip_requirements=needs)
            (folder / "model.onnx").write_bytes(content)
            self.client.log_artifacts(run_id, str(folder), place)
        if not self.client.search_registered_models(f"name = '{model}'"):
            self.client.create_registered_model(model)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{place}"
        return self.client.create_model_version(model, source, run_id=run_id, tags={**tags, "sha256": sha256})

    def tag_version(self, version: ModelVersion, tags: Mapping[str, Any]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, version.version, key, value)

    def point(self, alias: str, version: ModelVersion) -> None:
        """Let `alias` point at the version, and at no other of its model."""
        self.client.set_registered_model_alias(version.name, alias, version.version)


def open_store(root: Path) -> Store:
    """The store that MLFLOW_TRACKING_URI names, else ROOT/mlflow.db; made if there is none."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root.resolve()}/mlflow.db"
    if not uri.startswith(SQLITE):
        return _opened(uri, None)
    database = Path(uri.removeprefix(SQLITE)).resolve()
    database.parent.mkdir(parents=True, exist_ok=True)
    # Without the lock, processes that meet at a new database race in its migrations, and all but one die.
    with FileLock(f"{database}.lock"):
        # MLflow's own default for artefacts is the working directory.
        return _opened(uri, (database.parent / "mlartifacts").as_uri())


def _opened(uri: str, artifacts: str | None) -> Store:
    """A store with our experiment; `artifacts` is where a new one keeps files (None: the server decides)."""
    client = _quiet_client(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return Store(client, uri, client.create_experiment(EXPERIMENT, artifact_location=artifacts))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return Store(client, uri, experiment.experiment_id)


def _quiet_client(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; "false" sends usage data
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # an error is raised as well
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@dataclass(frozen=True)
class StageLog:
    """What one stage tells the run."""

    store: Store
    run_id: str
    name: str  # of the stage

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Log the finite numbers among `values` as <stage>/<key>; texts, nan and infinities are left out."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        logged = [
            Metric(_legal(f"{self.name}/{key}"), float(value), now, 0)
            for key, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        for batch in _batches(logged):
            self.store.client.log_batch(self.run_id, metrics=batch)

    def write(self, values: Mapping[str, Any], path: Path) -> None:
        """Write a stage's figures as JSON, which DVC shows, and log its numbers."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        self.metrics(values)

    def artifact(self, path: Path) -> None:
        """Log a file or a folder as <stage>/<its name>."""
        if path.is_dir():
            self.store.client.log_artifacts(self.run_id, str(path), f"{self.name}/{path.name}")
        else:
            self.store.client.log_artifact(self.run_id, str(path), self.name)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tag the run, which all stages share: the names are taken as they are."""
        for key, value in values.items():
            self.store.client.set_tag(self.run_id, key, value)


@contextmanager
def stage(paths: Paths, name: str, params: Mapping[str, Any], data_hash: str | None = None) -> Iterator[StageLog]:
    """Log the stage `name` into the run of the `dvc repro` that started it; by hand, into a run of its own.

    `params` may nest; they become <stage>.<key>.<key>. The run ends FINISHED, or FAILED if the body raises.
    """
    store = open_store(paths.root)
    log = StageLog(store, _run(store, name, paths.root.resolve()), name)
    try:
        _log_params(log, params)
        log.tags(_commit(paths.root) | ({} if data_hash is None else {DATA: data_hash}))
        yield log
    except BaseException:
        try:
            store.client.set_terminated(log.run_id, "FAILED")
        except Exception as error:  # on a full disk, say: what the body raised counts, not this
            logger.warning("MLflow cannot note that run %s failed: %s", log.run_id, type(error).__name__)
        raise
    store.client.set_terminated(log.run_id, "FINISHED")


def _run(store: Store, name: str, root: Path) -> str:
    """Id of the run to log into, which is running from now on."""
    repro = repro_process()
    if repro is None:
        return store.client.create_run(store.experiment, run_name=name).info.run_id
    key = repro_key(repro, root)
    # A process id comes back one day, but a run older than the process cannot be this repro's.
    since = int(repro.create_time() * 1000) - CLOCK
    mine = f"tags.`{REPRO}` = '{key}' and attributes.start_time >= {since}"
    runs = store.client.search_runs([store.experiment], mine, order_by=["attributes.start_time DESC"], max_results=1)
    if not runs:
        return store.client.create_run(store.experiment, run_name=f"repro {root.name}", tags={REPRO: key}).info.run_id
    store.client.update_run(runs[0].info.run_id, status="RUNNING")
    return runs[0].info.run_id


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
    """Names a process that runs now, on this host, for this root."""
    return hashlib.sha256(f"{platform.node()}|{process.pid}|{root}".encode()).hexdigest()[:16]


def _log_params(log: StageLog, params: Mapping[str, Any]) -> None:
    """Log what the run does not have yet: MLflow refuses to rewrite a param."""
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


def _legal(name: str) -> str:
    """A param or metric name with every character that MLflow refuses replaced by _."""
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
