"""load_policy("models:/..."): a real registry, in place and fetched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundles import write_bundle
from lrpilot import BundleError, load_policy
from lrpilot.registry import resolve
from pipeline import tracking
from pipeline.paths import Paths


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Holds mlflow.db with lr-policy: versions 1 (bias 0.1), 2 (bias 0.2) @champion, 3 (by its run's URI)."""
    root = tmp_path_factory.mktemp("a root")
    store = tracking.open_store(root)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tracking.stage(Paths(root), "register", {}) as log:
        for bias in (0.1, 0.2):
            path = write_bundle(root / f"{bias}.onnx", bias=bias)
            version = store.add_version("lr-policy", path, log.run_id, {})
        store.point("champion", version)
    place = f"policy/{Path(version.source).name}"
    remote = store.client.create_model_version("lr-policy", f"runs:/{log.run_id}/{place}", run_id=log.run_id)
    store.point("elsewhere", remote)
    return root


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """The working directory: empty before and after, whatever is resolved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    assert list((tmp_path / "work").iterdir()) == []


@pytest.fixture
def registry(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    return root


@pytest.mark.parametrize(
    "ref, source", [("models:/lr-policy@champion", "0.2.onnx"), ("models:/lr-policy/1", "0.1.onnx")]
)
def test_a_local_policy_is_used_in_place(registry, ref, source):
    path = resolve(ref)
    assert path.read_bytes() == (registry / source).read_bytes()
    assert registry in path.parents
    assert load_policy(ref).path == path


def test_the_database_of_the_working_directory(root, monkeypatch):
    before = sorted(path.name for path in root.iterdir())
    monkeypatch.chdir(root)
    assert load_policy("models:/lr-policy@champion").manifest.optimizers == ("adam", "sgd")
    assert sorted(path.name for path in root.iterdir()) == before


def test_what_lies_elsewhere_is_fetched_once_and_kept_by_content(registry, tmp_path):
    """Version 3 names its source by the run, so MLflow has to fetch it."""
    path = resolve("models:/lr-policy@elsewhere")
    assert path.parent == tmp_path / "cache" / "lrpilot"
    assert path.read_bytes() == (registry / "0.2.onnx").read_bytes()
    assert resolve("models:/lr-policy/3") == path
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "ref, message",
    [
        ("models:/lr-policy@chief", r"lr-policy has no alias 'chief'; it has \['champion', 'elsewhere'\]"),
        ("models:/lr-policy/9", r"no version 9; versions: \[1, 2, 3\], aliases: \['champion', 'elsewhere'\]"),
        ("models:/policy@champion", r"no model 'policy' in the registry; it has \['lr-policy'\]"),
        ("models:/lr-policy", "write models:/name@alias or models:/name/3"),
        ("models:/lr-policy/latest", "write models:/name@alias or models:/name/3"),
    ],
)
def test_what_is_not_there_is_named(registry, ref, message):
    with pytest.raises(BundleError, match=message) as caught:
        load_policy(ref)
    assert str(caught.value).startswith(f"{ref}: ")


def test_no_registry_is_said_and_none_is_made(tmp_path, monkeypatch):
    with pytest.raises(BundleError, match=r"no mlflow.db in .*set MLFLOW_TRACKING_URI"):
        resolve("models:/lr-policy@champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(BundleError, match=r"none.db, but there is no such file"):
        resolve("models:/lr-policy@champion")
    assert not (tmp_path / "none.db").exists()


def test_a_store_that_mlflow_refuses_is_an_error_of_the_bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    with pytest.raises(BundleError, match=r"models:/lr-policy@champion: .*maintenance mode"):
        resolve("models:/lr-policy@champion")


def test_a_file_changed_after_its_registration_is_refused(registry):
    path = resolve("models:/lr-policy/1")
    content = path.read_bytes()
    write_bundle(path, bias=0.7)
    try:
        with pytest.raises(BundleError, match=r"has sha256 .*, registered was"):
            resolve("models:/lr-policy/1")
    finally:
        path.write_bytes(content)


def test_without_mlflow_the_way_to_get_it_is_said(root):
    code = (
        "import sys; sys.modules['mlflow'] = None; import lrpilot\n"
        "try: lrpilot.load_policy('models:/lr-policy@champion')\n"
        "except lrpilot.BundleError as error: print(error)"
    )
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "PYTHONPATH": str(Path(__file__).parents[1] / "runtime"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("needs mlflow: pip install mlflow")
