"""What an exported policy carries beside its weights: the networks' own answers to recorded observations."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bundles import MANIFEST, graph_hash
from lrpilot import load_policy
from lrpilot.cli import main
from lrpilot.decisions.features import NAMES
from pipeline.simulation.recording import Spec, record
from policy import graph, trajectories
from policy.observations import TaskRecording, observations

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded tasks, some runs of which diverge."""
    folder = tmp_path_factory.mktemp("trajectories")
    for name, seed, probed in (("illconditioned", 3, True), ("illconditioned", 6, False), ("regression", 17, True)):
        spec = Spec(
            name, seed, 3, probed, (("constant", 1.0), ("cosine", 1.0)), (), (0.3, 0.95), None, 32, "cpu", "test"
        )
        trajectories.store(record(spec), folder / name / f"{seed}.parquet")
    return folder


def test_recorded_observations_are_those_of_the_recording(recorded: Path) -> None:
    examples = graph.recorded_observations(recorded, 8)
    assert (examples.shape, examples.dtype) == ((8, len(NAMES)), np.float32)
    np.testing.assert_array_equal(examples, graph.recorded_observations(recorded, 8))
    rows = set()
    for path in trajectories.files(recorded):
        task = TaskRecording(trajectories.read(path))
        everything = observations(task, np.ones((task.length, task.runs), bool))
        rows |= {everything[t, run].tobytes() for run, end in enumerate(task.ends) for t in range(end)}
    assert {row.tobytes() for row in examples} <= rows
    progress, first = examples[:, NAMES.index("progress")], examples[:, NAMES.index("first")]
    assert first[0] == 1 and not first[1:].any()
    assert progress[0] < -0.8 and progress[-1] > 0.8  # from one end of a training to the other


@pytest.mark.parametrize("rows", [1, 5])
def test_an_export_keeps_the_networks_own_answers(recorded: Path, tmp_path: Path, rows: int) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(len(NAMES), 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Tanh()
    )
    golden = graph.recorded_observations(recorded, rows)
    path = tmp_path / "policy.onnx"
    graph.write(network, MANIFEST, golden, path)
    bundle = load_policy(path)
    asked, wanted = bundle.manifest.golden.arrays()
    np.testing.assert_array_equal(asked, golden)
    with torch.no_grad():
        np.testing.assert_array_equal(wanted, network(torch.from_numpy(golden)).numpy()[:, 0])
    assert bundle.manifest.graph == graph_hash(onnx.load(path))
    assert main(["verify", str(path)]) == 0


def test_large_weights_are_stored_in_half_precision_and_lose_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(len(NAMES), 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    before = [weights.detach().clone() for weights in network.parameters()]
    examples, path = graph.example_observations(33), tmp_path / "policy.onnx"
    graph.write(network, MANIFEST, examples[:4], path)
    for weights, old in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(weights.detach(), old, rtol=2**-11, atol=2**-25)  # what half precision holds
    kinds = {tuple(t.dims): t.data_type for t in onnx.load(path).graph.initializer if t.dims}
    assert kinds.pop((64, len(NAMES))) == onnx.TensorProto.FLOAT16
    assert onnx.TensorProto.FLOAT16 not in kinds.values()  # small ones are not worth it
    with torch.no_grad():
        wanted = network(torch.from_numpy(examples)).numpy()[:, 0]
    np.testing.assert_allclose(load_policy(path)(examples), wanted, atol=1e-5)
