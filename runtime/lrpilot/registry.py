"""models:/name@alias and models:/name/3 -> a policy file, through MLflow's model registry. Needs mlflow."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from lrpilot.bundle import BundleError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"


def resolve(ref: str) -> Path:
    """Path of the .onnx file that `ref` names, in place where the store is local, else in a cache by content.

    The registry is MLFLOW_TRACKING_URI's, or that of mlflow.db in the working directory. Raises BundleError
    where there is no registry, model, alias or version of that name.
    """
    name, alias, number = _parse(ref)
    uri = _registry(ref)
    mlflow = _mlflow(ref)
    try:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        version = _version(client, ref, name, alias, number)
        source = client.get_model_version_download_uri(name, str(version.version))
        local = _local(source)
        if local is not None:
            return _checked(_policy_in(local, ref), ref, version.tags)
        return _cached(ref, source, uri, version.tags)
    except mlflow.exceptions.MlflowException as error:
        raise BundleError(f"{ref}: the registry {uri} says: {error.message}") from error


def _parse(ref: str) -> tuple[str, str | None, str | None]:
    """Name, and alias or number, of a reference."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", ref)
    if match is None:
        raise BundleError(f"{ref}: not a registry reference; write models:/name@alias or models:/name/3")
    return match[1], match[2], match[3]


def _registry(ref: str) -> str:
    here = Path("mlflow.db").resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (f"{SQLITE}{here}" if here.is_file() else "")
    if not uri:
        raise BundleError(
            f"{ref}: no registry known: there is no mlflow.db in {here.parent}; "
            "set MLFLOW_TRACKING_URI, for instance to sqlite:////path/to/mlflow.db"
        )
    # MLflow would make an empty database, and then miss the model in it.
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise BundleError(f"{ref}: MLFLOW_TRACKING_URI is {uri}, but there is no such file; correct it")
    return uri


def _mlflow(ref: str) -> ModuleType:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; "false" sends usage data
    try:
        import mlflow
    except ImportError as error:
        raise BundleError(f"{ref}: a models:/ reference needs mlflow: pip install mlflow") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return mlflow


def _version(client: MlflowClient, ref: str, name: str, alias: str | None, number: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [model.name for model in client.search_registered_models()]
        raise BundleError(f"{ref}: no model {name!r} in the registry; it has {known or 'no models'}") from error
    if alias is not None:
        if alias not in aliases:
            raise BundleError(f"{ref}: {name} has no alias {alias!r}; it has {sorted(aliases) or 'none'}")
        number = str(aliases[alias])
    assert number is not None
    versions = {str(v.version): v for v in client.search_model_versions(f"name = '{name}'")}
    if number not in versions:
        have = sorted(map(int, versions))
        raise BundleError(f"{ref}: {name} has no version {number}; versions: {have}, aliases: {sorted(aliases)}")
    return versions[number]


def _local(source: str) -> Path | None:
    """The path that a file:// URI or a plain path names; None for anything that must be fetched."""
    parts = urlparse(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(source) if parts.scheme == "" else None


def _policy_in(place: Path, ref: str) -> Path:
    """The one ONNX file in a model's folder, or the file itself."""
    found = sorted(place.glob("*.onnx")) if place.is_dir() else [place]
    if len(found) != 1 or not found[0].is_file():
        raise BundleError(f"{ref}: want one .onnx file in {place}, found {[f.name for f in found if f.is_file()]}")
    return found[0]


def _checked(path: Path, ref: str, tags: dict[str, str]) -> Path:
    """`path`, if it holds what was registered (versions made by others may not say)."""
    want = tags.get("sha256")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if want not in (None, got):
        raise BundleError(f"{ref}: {path} has sha256 {got}, registered was {want}; register the policy again")
    return path


def _cached(ref: str, source: str, uri: str, tags: dict[str, str]) -> Path:
    """The policy fetched from `source`, kept as CACHE/<sha256>.onnx; fetched once where its hash is known."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrpilot"
    if "sha256" in tags and (kept := home / f"{tags['sha256']}.onnx").is_file():
        return _checked(kept, ref, tags)
    home.mkdir(parents=True, exist_ok=True)
    from mlflow.artifacts import download_artifacts

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory(dir=home) as folder:
        fetched = download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=uri)
        policy = _checked(_policy_in(Path(fetched), ref), ref, tags)
        return policy.replace(home / f"{hashlib.sha256(policy.read_bytes()).hexdigest()}.onnx")
