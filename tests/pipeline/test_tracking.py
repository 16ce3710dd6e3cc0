"""One MLflow run per `dvc repro`; real sqlite stores, a real DVC."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.paths import Paths
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
    assert tracking.is_repro(command.split()) is expected


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
    with tracking.stage(paths, "by_hand", {}, data_hash="abc") as other:
        other.tags({"note": "kept"})
    assert one.run_id != other.run_id
    run = store.client.get_run(other.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "by_hand")
    assert (run.data.tags["lrpilot.data"], run.data.tags["note"]) == ("abc", "kept")


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
