"""models:/name@alias and models:/name/3 -> a policy, through MLflow's model registry. Needs mlflow, but not always.

What was resolved once is cached (see `policy_cache.py`), so that a training also starts where the registry cannot be
reached: a version never changes, so the cached one is the policy; of an alias the latest known one is taken, with a
warning.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lrpilot import digests
from lrpilot.policy_file import policy_cache
from lrpilot.policy_file.manifest import BundleError

SQLITE = "sqlite:///"
# MLflow would try for minutes; who sets these, is obeyed.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# What a registry that could not do its work says; every other answer is an answer.
OUTAGES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}


class UnreachableError(BundleError):
    """The registry did not answer."""


def resolve(ref: str) -> tuple[Path, bytes]:
    """The .onnx file that `ref` names: where it lies, and its bytes.

    The registry is MLFLOW_TRACKING_URI's, or that of mlflow.db in the working directory. Raises BundleError
    where there is no registry, model, alias or version of that name.
    """
    name, alias, number = _parse(ref)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path('mlflow.db').resolve()}"
    cached = policy_cache.find(uri, ref)
    # A database at hand is asked, since it may have been made anew; a server is spared the question.
    if cached is not None and number is not None and not uri.startswith(SQLITE):
        return cached.path, cached.content
    try:
        return _ask(ref, uri, name, alias, number)
    except UnreachableError as error:
        if cached is None:
            raise
        if alias is not None:
            warnings.warn(
                f"{error}; using the last known policy of {ref}: version {cached.version}, sha256 {cached.sha256}",
                stacklevel=3,
            )
        return cached.path, cached.content


def _parse(ref: str) -> tuple[str, str | None, str | None]:
    """Name, and alias or number, of a reference."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", ref)
    if match is None:
        raise BundleError(f"{ref}: not a registry reference; write models:/name@alias or models:/name/3")
    return match[1], match[2], match[3]


def _ask(ref: str, uri: str, name: str, alias: str | None, number: str | None) -> tuple[Path, bytes]:
    """The policy as the registry has it now, cached for the next time."""
    # MLflow would make an empty database, and then miss the model in it.
    if uri.startswith(SQLITE) and not (file := Path(uri.removeprefix(SQLITE))).is_file():
        raise UnreachableError(
            f"{ref}: MLFLOW_TRACKING_URI is {uri}, but there is no such file; correct it"
            if os.environ.get("MLFLOW_TRACKING_URI")
            else f"{ref}: no registry known: there is no mlflow.db in {file.parent}; "
            "set MLFLOW_TRACKING_URI, for instance to sqlite:////path/to/mlflow.db"
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; "false" sends usage data
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UnreachableError(f"{ref}: a models:/ reference needs mlflow: pip install mlflow") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with _patience():
            client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
            version = _version(client, ref, name, alias, number)
            path, content = _fetch(client, ref, uri, version)
    except MlflowException as error:
        kind = UnreachableError if error.error_code in OUTAGES else BundleError
        raise kind(f"{ref}: the registry {_public(uri)} says: {error.message}") from error
    except BundleError:
        raise
    except Exception as error:  # MLflow lets those of its HTTP, database and storage libraries pass
        raise UnreachableError(f"{ref}: the registry {_public(uri)} failed: {error}") from error
    path = policy_cache.store(uri, {ref, f"models:/{name}/{version.version}"}, str(version.version), content) or path
    return path, content


@contextmanager
def _patience() -> Generator[None, None, None]:
    """MLflow's requests end soon; its settings are environment variables, put back afterwards."""
    added = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _version(client: Any, ref: str, name: str, alias: str | None, number: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        aliases: dict[str, Any] = client.get_registered_model(name).aliases
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


def _fetch(client: Any, ref: str, uri: str, version: Any) -> tuple[Path, bytes]:
    """A version's file and bytes: the cached ones where its hash is registered, else from where it lies."""
    wanted: str | None = version.tags.get("sha256")  # versions made by others may not say
    if wanted is not None and (content := policy_cache.content(wanted)) is not None:
        return policy_cache.path(wanted), content
    source: str = client.get_model_version_download_uri(version.name, str(version.version))
    local = _local(source)
    if local is not None:
        path = _policy_in(local, ref)
        return path, _checked(path, ref, wanted)
    from mlflow.artifacts import download_artifacts

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        path = _policy_in(Path(download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=uri)), ref)
        return path, _checked(path, ref, wanted)


def _local(source: str) -> Path | None:
    """The path that a file:// URI or a plain path names; None for anything that must be fetched."""
    parts = urlparse(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(source) if parts.scheme == "" else None


def _policy_in(place: Path, ref: str) -> Path:
    """The one ONNX file in a model's folder, or the file itself."""
    files = sorted(place.glob("*.onnx")) if place.is_dir() else [place]
    if len(files) != 1 or not files[0].is_file():
        raise BundleError(f"{ref}: want one .onnx file in {place}, found {[f.name for f in files if f.is_file()]}")
    return files[0]


def _checked(path: Path, ref: str, wanted: str | None) -> bytes:
    """The bytes of `path`, if they are what was registered."""
    content = path.read_bytes()
    sha256 = digests.of_bytes(content)
    if wanted not in (None, sha256):
        raise BundleError(f"{ref}: {path} has sha256 {sha256}, registered was {wanted}; register the policy again")
    return content


def _public(uri: str) -> str:
    """A registry's address without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)
