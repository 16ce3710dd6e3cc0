"""load_policy("models:/..."): a real registry, in place and fetched."""

import hashlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from bundles import write_bundle
from lrpilot import BundleError, load_policy
from lrpilot.policy_file import policy_cache
from lrpilot.policy_file.registry import PATIENCE, resolve
from pipeline import tracking
from pipeline.paths import Paths
from repository import TOP


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
def test_what_is_registered_is_kept_by_content(registry, tmp_path, ref, source):
    bundle = load_policy(ref)
    assert bundle.content == (registry / source).read_bytes()
    assert bundle.path == tmp_path / "cache" / "lrpilot" / f"{hashlib.sha256(bundle.content).hexdigest()}.onnx"
    assert bundle.path.read_bytes() == bundle.content


def test_the_database_of_the_working_directory(root, monkeypatch):
    before = sorted(path.name for path in root.iterdir())
    monkeypatch.chdir(root)
    assert load_policy("models:/lr-policy@champion").manifest.optimizers == ("adam", "sgd")
    assert sorted(path.name for path in root.iterdir()) == before


def test_what_lies_elsewhere_is_fetched(registry, tmp_path):
    """Version 3 names its source by the run, so MLflow has to fetch it."""
    path, content = resolve("models:/lr-policy@elsewhere")
    assert content == (registry / "0.2.onnx").read_bytes()
    assert resolve("models:/lr-policy/3") == resolve("models:/lr-policy@champion") == (path, content)
    assert [file.name for file in path.parent.glob("*.onnx")] == [path.name]


@pytest.mark.parametrize("ref", ["models:/lr-policy@champion", "models:/lr-policy@elsewhere"])
def test_a_cache_that_cannot_be_written_costs_nothing_but_the_copy(registry, tmp_path, ref):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert load_policy(ref).content == (registry / "0.2.onnx").read_bytes()


@contextmanager
def gone(database: Path) -> Iterator[None]:
    """The registry's database is not there for a while."""
    away = database.rename(database.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(database)


def test_a_training_starts_without_the_database(registry):
    with gone(registry / "mlflow.db"), pytest.raises(BundleError, match="there is no such file"):
        load_policy("models:/lr-policy@champion")
    wanted = load_policy("models:/lr-policy@champion").content
    with gone(registry / "mlflow.db"):
        with pytest.warns(
            UserWarning, match=r"no such file.*last known policy of models:/lr-policy@champion: version 2"
        ):
            assert load_policy("models:/lr-policy@champion").content == wanted
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a version does not change
            assert load_policy("models:/lr-policy/2").content == wanted
        for unknown in ("models:/lr-policy/1", "models:/lr-policy@elsewhere"):
            with pytest.raises(BundleError, match="there is no such file"):
                load_policy(unknown)


def test_a_database_at_hand_is_asked_each_time(registry, tmp_path):
    """It may have been made anew, with other policies under the same numbers."""
    assert load_policy("models:/lr-policy/1").content == (registry / "0.1.onnx").read_bytes()
    uri, other = os.environ["MLFLOW_TRACKING_URI"], (registry / "0.2.onnx").read_bytes()
    policy_cache.store(uri, ["models:/lr-policy/1"], "1", other)
    assert load_policy("models:/lr-policy/1").content == (registry / "0.1.onnx").read_bytes()


def test_a_damaged_copy_is_fetched_again(registry):
    path, content = resolve("models:/lr-policy/1")
    path.write_bytes(content[:-1])
    with gone(registry / "mlflow.db"), pytest.raises(BundleError, match="there is no such file"):
        resolve("models:/lr-policy/1")
    assert resolve("models:/lr-policy/1") == (path, content)
    assert path.read_bytes() == content


@contextmanager
def server(root: Path) -> Iterator[str]:
    """MLflow's own server of the database, over HTTP; yields its address."""
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{root}/mlflow.db"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(root / "mlartifacts")
    import mlflow
    from mlflow.server import app

    served = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.port}"
    finally:
        served.shutdown()
        thread.join()
        served.server_close()
        del os.environ["_MLFLOW_SERVER_FILE_STORE"], os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"]
        mlflow.set_registry_uri("")  # the server has named its own to this process, and in the environment
        os.environ.pop("MLFLOW_REGISTRY_URI", None)


def test_a_training_starts_without_the_server(root, monkeypatch):
    settings = {name: os.environ.get(name) for name in PATIENCE}
    with server(root) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        wanted = load_policy("models:/lr-policy@champion").content
        with pytest.raises(BundleError, match="has no alias 'chief'"):
            load_policy("models:/lr-policy@chief")
    assert wanted == (root / "0.2.onnx").read_bytes()
    with pytest.warns(UserWarning, match=r"API request .*last known policy of models:/lr-policy@champion: version 2, "):
        assert load_policy("models:/lr-policy@champion").content == wanted
    with pytest.raises(BundleError, match=r"models:/lr-policy/1: the registry http.* says: API request"):
        load_policy("models:/lr-policy/1")
    assert {name: os.environ.get(name) for name in PATIENCE} == settings
    # A version that is cached needs neither the server nor MLflow.
    code = "import sys, lrpilot; lrpilot.load_policy('models:/lr-policy/2'); print('mlflow' in sys.modules)"
    env = os.environ | {"PYTHONPATH": str(TOP / "runtime")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unusable_database_is_no_crash(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(BundleError, match="models:/lr-policy/1: the registry sqlite"):
        load_policy("models:/lr-policy/1")


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


def test_a_file_changed_after_its_registration_is_refused(root, registry):
    (path,) = (p for p in root.rglob("model.onnx") if p.read_bytes() == (root / "0.1.onnx").read_bytes())
    content = path.read_bytes()
    write_bundle(path, bias=0.7)
    try:
        with pytest.raises(BundleError, match=r"has sha256 .*, registered was"):
            resolve("models:/lr-policy/1")
    finally:
        path.write_bytes(content)
    assert resolve("models:/lr-policy/1")[1] == content


def test_without_mlflow_the_way_to_get_it_is_said(root):
    code = (
        "import sys; sys.modules['mlflow'] = None; import lrpilot\n"
        "try: lrpilot.load_policy('models:/lr-policy@champion')\n"
        "except lrpilot.BundleError as error: print(error)"
    )
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "PYTHONPATH": str(TOP / "runtime"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("needs mlflow: pip install mlflow")
