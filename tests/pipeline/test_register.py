"""Which policy becomes @challenger, and which @champion; a real MLflow in a temporary folder."""

import json
import shutil
from pathlib import Path

import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnxruntime
import pytest
import yaml
from mlflow.exceptions import MlflowException

from bundles import write_bundle
from lrpilot import BundleError, load_policy
from pipeline import tracking
from pipeline.paths import Paths
from pipeline.register import register
from repository import TOP


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tracking.open_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def paths(store, monkeypatch, tmp_path, request):
    """A root with parameters; every test has a registered model of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params["register"]["model"] = request.node.name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return Paths(tmp_path)


def candidate(paths, bias, mean, benchmark="b1"):
    """A policy that differs by its bias, and its evaluation."""
    write_bundle(paths.policy, bias=bias)
    paths.evaluate_metrics.parent.mkdir(exist_ok=True)
    figures = {
        "selection.policy.mean": mean,
        "selection.policy.low": mean - 0.1,
        "selection.policy.high": mean + 0.1,
        "selection.policy.worst": 0.9,
        "selection.policy_val.mean": mean - 0.05,
        "selection.policy.policy_wins": 0.5,
        "benchmark": benchmark,
        "tasks": 3,
    }
    paths.evaluate_metrics.write_text(json.dumps(figures | {"selection.baseline.cosine.mean": 0.5}))


def aliases(store, name):
    return {alias: int(version) for alias, version in store.client.get_registered_model(name).aliases.items()}


def test_the_first_version_is_champion_and_a_repeat_changes_nothing(store, paths, request):
    candidate(paths, 0.1, 0.3)
    first = register(paths)
    written = paths.register_metrics.read_bytes()
    assert (first["version"], first["champion_version"], first["is_champion"]) == (1, 1, True)
    assert first["reason"] == "there was no champion"
    assert register(paths) == first == json.loads(written)
    assert paths.register_metrics.read_bytes() == written

    (version,) = store.client.search_model_versions(f"name = '{request.node.name}'")
    assert version.tags.items() >= {
        "sha256": first["sha256"], "benchmark": "b1", "selection.policy.mean": "0.3", "algorithm": "iql",
        "data": "d" * 64, "selection.policy_val.mean": "0.25",
    }.items()  # fmt: skip
    assert not version.tags.keys() & {"selection.baseline.cosine.mean", "selection.policy.policy_wins", "tasks"}
    stored = Path(version.source.removeprefix("file://")) / "model.onnx"
    assert stored.read_bytes() == paths.policy.read_bytes()
    run = store.client.get_run(version.run_id)
    assert (run.info.status, run.data.tags["lrpilot.policy"]) == ("FINISHED", f"{request.node.name}/1")
    assert run.data.tags["mlflow.note.content"].endswith("version 1: there was no champion.")


def test_a_model_and_its_version_say_what_they_are(store, paths, request):
    candidate(paths, 0.1, 0.3)
    register(paths)
    model = store.client.get_registered_model(request.node.name)
    assert f'policy="models:/{request.node.name}@champion"' in model.description
    (version,) = store.client.search_model_versions(f"name = '{request.node.name}'")
    assert version.description == ("- selection families: mean regret 0.300 (0.200 to 0.400, 95 %), worst task 0.900")


@pytest.fixture
def mlflow_here(store, paths):
    """MLflow's own functions look into the store, whatever other tests of this process have set."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("mlflow_here")
def test_mlflow_loads_what_is_registered_and_it_scores_a_row(paths, request):
    """By both flavours, from the signature and the example alone: the answers are those of the policy."""
    candidate(paths, 0.1, 0.3)
    register(paths)
    name = f"models:/{request.node.name}@champion"
    policy, network, function = load_policy(name), mlflow.onnx.load_model(name), mlflow.pyfunc.load_model(name)
    inputs, outputs = function.metadata.signature.inputs.inputs, function.metadata.signature.outputs.inputs
    assert [(i.type, i.shape) for i in inputs] == [(np.float32, (-1, len(policy.manifest.features)))]
    assert [(o.name, o.type, o.shape) for o in outputs] == [("action", np.float32, (-1, 1))]
    assert function.metadata.metadata["features"] == list(policy.manifest.features)

    row = np.asarray(function.input_example, np.float32)
    (wanted,) = policy(row)
    session = onnxruntime.InferenceSession(network.SerializeToString())
    assert session.run(["action"], {"observation": row})[0] == pytest.approx(wanted, abs=1e-6)
    assert function.predict(row)["action"] == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(MlflowException, match="shape"):
        function.predict(row[:, :-1])


# Champion: mean regret 0.3 on benchmark b1.
@pytest.mark.parametrize(
    "mean, benchmark, wins, reason",
    [
        (0.2, "b1", True, "mean regret 0.2 is below the 0.3 of the champion then (version 1)"),
        (0.4, "b1", False, "mean regret 0.4 is not below the 0.3 of the champion then (version 1)"),
        (0.3, "b1", False, "mean regret 0.3 is not below"),
        (0.2, "b2", False, "judged on benchmark b2, the champion (version 1) on b1"),
    ],
)
def test_a_challenger_replaces_a_champion_that_it_beats(store, paths, mean, benchmark, wins, reason):
    name = f"model {mean} {benchmark}"
    params = yaml.safe_load(paths.params.read_text())
    params["register"]["model"] = name
    paths.params.write_text(yaml.safe_dump(params))
    candidate(paths, 0.1, 0.3)
    register(paths)
    candidate(paths, 0.2, mean, benchmark)
    second = register(paths)
    assert (second["version"], second["is_champion"]) == (2, wins)
    assert second["champion_version"] == (2 if wins else 1)
    assert second["reason"].startswith(reason)
    assert aliases(store, name) == {"challenger": 2, "champion": 2 if wins else 1}
    assert register(paths) == second


def test_an_old_policy_made_again_is_the_challenger_again(store, paths, request):
    candidate(paths, 0.1, 0.3)
    register(paths)
    candidate(paths, 0.2, 0.2)
    register(paths)
    candidate(paths, 0.1, 0.3)
    again = register(paths)
    assert (again["version"], again["champion_version"], again["is_champion"]) == (1, 2, False)
    assert aliases(store, request.node.name) == {"challenger": 1, "champion": 2}


def test_a_champion_made_by_others_stays(store, paths, request):
    """Its tags say nothing of a benchmark."""
    with tracking.stage(paths, "foreign", {}) as log:
        theirs = write_bundle(paths.root / "theirs.onnx", bias=0.2)
        version = store.add_version(request.node.name, theirs, log.run_id, {})
    store.point("champion", version)
    candidate(paths, 0.1, 0.3)
    result = register(paths)
    assert (result["version"], result["is_champion"]) == (2, False)
    assert "on None, so their regrets do not compare" in result["reason"]


@pytest.mark.parametrize(
    "figures, message",
    [
        (None, "evaluate.json: no such file; run `dvc repro evaluate`"),
        ({"benchmark": "b"}, "selection.policy.mean is None, want a number"),
        ({"benchmark": "b", "selection.policy.mean": float("nan")}, "selection.policy.mean is nan"),
        ({"selection.policy.mean": 0.5}, "benchmark is None, want its hash"),
    ],
)
def test_a_policy_without_a_judgement_is_not_registered(paths, figures, message):
    candidate(paths, 0.1, 0.3)
    if figures is None:
        shutil.rmtree(paths.evaluate_metrics.parent)
    else:
        paths.evaluate_metrics.write_text(json.dumps(figures))
    with pytest.raises(ValueError, match=message):
        register(paths)


def test_a_file_that_is_no_policy_is_not_registered(paths):
    candidate(paths, 0.1, 0.3)
    paths.policy.write_bytes(b"?")
    with pytest.raises(BundleError, match="not an ONNX model"):
        register(paths)
