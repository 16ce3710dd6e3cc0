"""One MLflow run per `dvc repro`; real sqlite stores, a real DVC."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline import tracking
from pipeline.paths import Paths
from pipeline.tracking import local_database
from pipeline.tracking.repro_run import is_repro
from repository import TOP

ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(TOP), str(TOP / "runtime")]),
    "DVC_NO_ANALYTICS": "true",
}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)

OPEN = """
from pathlib import Path
from pipeline import tracking
print(tracking.open_store(Path(".")).experiment)
"""

# python -c KILLED N: ends in its Nth SQL statement
KILLED = """
import os, signal, sys
from itertools import count
from pathlib import Path
from sqlalchemy import Engine, event
from pipeline import tracking
numbers = count(1)
@event.listens_for(Engine, "after_cursor_execute")
def die(*_):
    if next(numbers) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
tracking.open_store(Path("."))
"""

# python stage.py NAME SEED...: a stage that runs once per seed
STAGE = """
import sys
from pathlib import Path
from pipeline import tracking
from pipeline.paths import Paths
for seed in sys.argv[2:]:
    with tracking.stage(Paths(Path(".")), sys.argv[1], {"seed": seed}) as log:
        log.metrics({"loss": int(seed)})
"""


def python(folder, *words):
    subprocess.run([sys.executable, *words], cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that the tests of this module share; its root's name needs quoting in a URI."""
    return tracking.open_store(tmp_path_factory.mktemp("a store"))


@pytest.fixture
def paths(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    return Paths(tmp_path)


@pytest.mark.parametrize(
    "command, expected",
    [
        ("/venv/bin/python3 /venv/bin/dvc repro", True),
        ("python -m dvc repro -f train", True),
        ("dvc -v repro", True),
        ("/venv/bin/python /venv/bin/dvc exp run", True),
        ("/venv/bin/python /venv/bin/dvc status", False),
        ("make repro", False),
        ("python -m pipeline.train --root dvc", False),
        ("", False),
    ],
)
def test_what_counts_as_a_repro(command, expected):
    assert is_repro(command.split()) is expected


def test_all_stages_of_a_repro_share_a_run(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    python(tmp_path, "-m", "dvc", "init", "--no-scm", "--quiet")
    commands = {"collect": "collect 1 2", "train": "train 3"}
    stages = "".join(f"  {name}:\n    cmd: {sys.executable} stage.py {cmd}\n" for name, cmd in commands.items())
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{stages}")
    before = {path.name for path in tmp_path.iterdir()}
    python(tmp_path, "-m", "dvc", "repro", "--quiet")
    python(tmp_path, "-m", "dvc", "repro", "--quiet", "--force", "--single-item", "train")

    store = tracking.open_store(tmp_path)
    second, first = store.client.search_runs([store.experiment])
    assert first.data.params == {"collect.seed": "1", "train.seed": "3"}  # the second collect cannot rewrite
    assert first.data.metrics == {"collect/loss": 2.0, "train/loss": 3.0}
    assert second.data.params == {"train.seed": "3"}
    assert {first.info.status, second.info.status} == {"FINISHED"}
    new = {path.name for path in tmp_path.iterdir()} - before - {"dvc.lock", "mlflow.db.lock"}
    assert new == {"mlflow.db"}


def test_stages_run_by_hand_have_runs_of_their_own(store, paths):
    with tracking.stage(paths, "by_hand", {}) as one:
        assert store.client.get_run(one.run_id).info.status == "RUNNING"
    with tracking.stage(paths, "by_hand", {}) as other:
        other.tags({"note": "kept"})
    assert one.run_id != other.run_id
    run = store.client.get_run(other.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "by_hand")
    assert run.data.tags["note"] == "kept"
    assert run.data.tags["mlflow.note.content"].startswith("The stage `by_hand` alone, run by hand in ")


def test_the_experiment_is_of_machine_learning_and_says_what_it_holds(store, paths):
    tags = store.client.get_experiment(store.experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "A run is one `dvc repro`" in tags["mlflow.note.content"]
    store.client.set_experiment_tag(store.experiment, "mlflow.note.content", "ours")
    again = tracking.open_store(paths.root)
    assert again.client.get_experiment(again.experiment).tags["mlflow.note.content"] == "ours"


def test_curves_have_steps(store, paths):
    with tracking.stage(paths, "train", {}) as log:
        log.curves([(10, {"loss": 0.5, "why": "x"}), (20, {"loss": 0.25, "bc": math.nan}), (30, {"loss": 0.125})])
    history = store.client.get_metric_history(log.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(10, 0.5), (20, 0.25), (30, 0.125)]
    assert store.client.get_run(log.run_id).data.metrics == {"train/loss": 0.125}


def test_what_a_stage_learns_from_is_a_data_set_of_its_run(store, paths):
    schema = pa.schema([("run_id", pa.string()), ("lr", pa.float64())])
    with tracking.stage(paths, "train", {}) as log:
        log.learns_from("trajectories", "0123456789abcdef" * 4, paths.trajectories, schema, {"runs": 48})
    run = store.client.get_run(log.run_id)
    (used,) = run.inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    assert (used.dataset.name, used.dataset.digest) == ("trajectories", "0123456789abcdef" * 2 + "0123")
    assert json.loads(used.dataset.source) == {"uri": paths.trajectories.as_uri()}
    assert json.loads(used.dataset.profile) == {"runs": 48}
    columns = json.loads(used.dataset.schema)["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [("run_id", "string"), ("lr", "double")]
    assert run.data.tags["lrpilot.data"] == "0123456789abcdef" * 4


def test_a_description_grows_and_repeats_nothing(store, paths):
    with tracking.stage(paths, "evaluate", {}) as log:
        for text in ("Good.", "Better.", "Good."):
            log.describe(text)
    note = store.client.get_run(log.run_id).data.tags["mlflow.note.content"]
    assert note.split("\n\n")[1:] == ["Good.", "Better."]


def test_tables_are_artefacts(store, paths, tmp_path):
    with tracking.stage(paths, "evaluate", {}) as log:
        log.table(pd.DataFrame({"method": ["policy", "linear"], "mean": [0.1, 0.25]}), "figures")
        log.write({"mean": 0.1}, paths.headline)
    names = [item.path for item in store.client.list_artifacts(log.run_id, "evaluate")]
    assert names == ["evaluate/figures.csv", "evaluate/headline.json"]
    path = store.client.download_artifacts(log.run_id, names[0], str(tmp_path))
    assert Path(path).read_text() == "method,mean\npolicy,0.1\nlinear,0.25\n"
    assert store.client.get_run(log.run_id).data.metrics == {}


def test_a_stage_that_raises_is_failed(store, paths):
    with pytest.raises(KeyError), tracking.stage(paths, "broken", {}) as log:
        raise KeyError("x")
    assert store.client.get_run(log.run_id).info.status == "FAILED"


def test_params_are_flat_and_metrics_finite(store, paths):
    params = {
        "families": {"digits[0]": 1.0, "text": 2.0},
        "seeds": (1, 2),
        **{f"p{i}": i for i in range(150)},
    }
    with tracking.stage(paths, "train", params) as log:
        log.metrics({"loss": 0.5, "heldout.policy.mean": 1, "won": True, "gap": math.nan, "max": math.inf, "why": "x"})
        log.metrics({f"m{i}": i for i in range(250)})
    data = store.client.get_run(log.run_id).data
    assert data.params.items() >= {
        "train.families.digits_0_": "1.0", "train.families.text": "2.0", "train.seeds": "(1, 2)",
        "train.p149": "149",
    }.items()  # fmt: skip
    logged = {key: value for key, value in data.metrics.items() if not key.startswith("train/m")}
    assert logged == {"train/loss": 0.5, "train/heldout.policy.mean": 1.0, "train/won": 1.0}
    assert data.metrics["train/m249"] == 249


def test_artifacts_lie_beside_the_database(store, paths):
    folder = paths.root / "agent"
    folder.mkdir()
    (folder / "weights.d3").write_text("w")
    (paths.root / "train.json").write_text("{}")
    with tracking.stage(paths, "train", {}) as log:
        log.artifact(folder)
        log.artifact(paths.root / "train.json")
    place = Path(store.uri.removeprefix("sqlite:///")).parent / "mlartifacts" / log.run_id / "artifacts" / "train"
    assert (place / "agent" / "weights.d3").read_text() == "w"
    assert (place / "train.json").is_file()


def test_the_environment_names_the_store(store, paths):
    assert tracking.open_store(paths.root).uri == store.uri
    assert os.environ["MLFLOW_TRACKING_URI"] == store.uri
    assert not list(paths.root.glob("mlflow.db"))


def test_a_deleted_experiment_comes_back(store, paths):
    store.client.delete_experiment(store.experiment)
    assert tracking.open_store(paths.root).experiment == store.experiment
    with tracking.stage(paths, "again", {}):
        pass


def test_first_use_by_two_processes_at_once(tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {process.communicate()[0].strip() for process in started}
    assert len(answers) == 1 and answers != {""}


@pytest.mark.parametrize("statements", [60, 720, 1640])  # of about 1,700
def test_a_kill_while_the_database_is_made(tmp_path, statements):
    """There is none then. One that MLflow was making in place stays half made. Both are made anew."""
    command = [sys.executable, "-c", KILLED, str(statements)]
    assert subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT).returncode == -signal.SIGKILL
    database = tmp_path / "mlflow.db"
    left = list(tmp_path.glob("mlflow.db.partial*"))
    assert left and not database.exists()
    for path in left:  # as MLflow leaves them
        shutil.copy(path, tmp_path / path.name.replace(".partial", ""))
    assert local_database.half_made(database)

    store = tracking.open_store(tmp_path)
    store.client.create_run(store.experiment)
    assert not local_database.half_made(database)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


@pytest.mark.parametrize(
    ("tables", "rows", "half_made"),
    [
        (["experiments"], [], True),
        (
            ["runs", "_alembic_tmp_experiments", "alembic_version", "workspaces"],
            ["alembic_version", "workspaces"],
            True,
        ),
        (["experiments", "runs"], ["experiments"], False),
        (["experiments", "registered_models"], ["registered_models"], False),
        (["customers"], [], False),
        (["customers", "runs"], ["customers"], False),
        ([], [], True),
    ],
)
def test_what_counts_as_half_made(tmp_path, tables, rows, half_made):
    """Never what holds anything of somebody."""
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (name TEXT)")
        for table in rows:
            connection.execute(f"INSERT INTO {table} VALUES ('x')")
    assert local_database.half_made(path) is half_made


def test_what_is_no_database_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "mine.db"
    path.write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(Exception, match="not a database"):
        tracking.open_store(tmp_path)
    assert path.read_bytes() == b"no database at all" * 100
