"""MLflow's tracking store and model registry behind one client."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lrpilot import digests
from pipeline.tracking import local_database, model_files
from pipeline.tracking.local_database import SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "lrpilot"
NOTE = "mlflow.note.content"  # tag that MLflow's pages show as the description of an experiment or a run
# Tags of a new experiment. MLflow has two kinds of them, and takes one that does not say for generative AI.
ABOUT = {
    "mlflow.experimentKind": "custom_model_development",
    NOTE: "Learning-rate policies, each trained offline on recorded trainings. A run is one `dvc repro`: "
    "recordings (its dataset), the agents' training curves, the exported policy, and its regret on families of "
    "trainings that it never saw. `evaluate/figures.csv` among its artefacts has the figures of all methods, "
    "`report/latest.html` the report. Regret: 0 is a schedule tuned for the task, 1 is no training at all.",
}
MODEL = (
    "Learning-rate policies of lrpilot. Input: observations of trainings, float32 (trainings, features); output: an "
    "action in [-1, 1] for each, which moves its learning rate. In a training: "
    '`PilotLR(optimizer, total_steps=..., policy="models:/{name}@champion")`. `@challenger` is the policy of the last '
    "`dvc repro`, `@champion` the one with the lowest mean regret on the selection split."
)


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
        """The version that `alias` points at; None if there is no such model or alias."""
        if not self.client.search_registered_models(f"name = '{model}'"):
            return None
        version = self.client.get_registered_model(model).aliases.get(alias)
        return None if version is None else self.client.get_model_version(model, version)

    def add_version(self, model: str, path: Path, run_id: str, tags: Mapping[str, Any]) -> ModelVersion:
        """Register the policy `path`, byte for byte, as an artefact of the run. A tag holds its sha256."""
        sha256 = digests.of_file(path)
        place = f"policy/{sha256[:12]}"  # a run may register more than one
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "policy"
            model_files.write(path, folder)
            self.client.log_artifacts(run_id, str(folder), place)
        if not self.client.search_registered_models(f"name = '{model}'"):
            self.client.create_registered_model(model, description=MODEL.format(name=model))
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{place}"
        return self.client.create_model_version(model, source, run_id=run_id, tags={**tags, "sha256": sha256})

    def tag_version(self, version: ModelVersion, tags: Mapping[str, Any]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, version.version, key, value)

    def describe_version(self, version: ModelVersion, text: str) -> None:
        """Set the description, in Markdown, that the version's page shows."""
        self.client.update_model_version(version.name, version.version, text)

    def point(self, alias: str, version: ModelVersion) -> None:
        """Make `alias` point at the version, and at no other version of its model."""
        self.client.set_registered_model_alias(version.name, alias, version.version)


def open_store(root: Path) -> Store:
    """The store that MLFLOW_TRACKING_URI names, else ROOT/mlflow.db, which is created if needed."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root.resolve()}/mlflow.db"
    _quieten()
    if not uri.startswith(SQLITE):
        return _opened(uri, None)
    database = Path(uri.removeprefix(SQLITE)).resolve()
    database.parent.mkdir(parents=True, exist_ok=True)
    artifacts = (database.parent / "mlartifacts").as_uri()  # MLflow's own default is the working directory
    # Without the lock, processes that meet at a new database race in its migrations, and all but one die.
    with FileLock(f"{database}.lock"):
        local_database.ensure(database, artifacts)
        return _opened(uri, artifacts)


def _opened(uri: str, artifacts: str | None) -> Store:
    """A store with our experiment. `artifacts` is where a new experiment stores files (None: the server decides)."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return Store(client, uri, client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=ABOUT))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for key in ABOUT.keys() - experiment.tags.keys():  # one that an earlier version made; what users wrote stays
        client.set_experiment_tag(experiment.experiment_id, key, ABOUT[key])
    return Store(client, uri, experiment.experiment_id)


def _quieten() -> None:
    """Keep MLflow, from its import on, from sending usage data, drawing bars and logging steps."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; "false" sends usage data
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401 (it sets the levels of its loggers)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # an error is raised as well
