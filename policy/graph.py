"""Write agents as one self-describing ONNX file with the normalisation inside the graph.

Several agents (training seeds) become one policy that answers with their mean. Single seeds differ most where the data
are sparse, and the mean is steadier there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from lrpilot.decisions.features import CLIP, NAMES
from lrpilot.policy_file import onnxfile
from lrpilot.policy_file.bundle import INPUT, OUTPUT
from lrpilot.policy_file.manifest import KEY, Golden, Manifest
from policy import trajectories
from policy.by_size import Small
from policy.later_moves import UNCHANGED, Factor
from policy.observations import TaskRecording, observations

OPSET = 18
STORED = 256  # numbers from which on a tensor is worth storing in half precision


class Mean(torch.nn.Module):
    """The mean answer of several networks: observations (n, F) -> actions (n, 1)."""

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self._networks = torch.nn.ModuleList(networks)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.stack([network(observation) for network in self._networks]).mean(dim=0)


class Masked(torch.nn.Module):
    """A network that sees only the features at which `mask` (F,) is 1; all others are 0 for it."""

    _mask: torch.Tensor

    def __init__(self, network: torch.nn.Module, mask: np.ndarray) -> None:
        super().__init__()
        self._network = network
        self.register_buffer("_mask", torch.from_numpy(mask))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self._network(observation * self._mask)


def write(
    network: torch.nn.Module,
    manifest: Manifest,
    golden: np.ndarray,
    path: Path,
    later: Factor = UNCHANGED,
    small: Small | None = None,
) -> None:
    """Export `network` with its manifest, and add its answers to the observations `golden` (K, F) to the manifest.

    The factor `later` is applied after the network, and networks of up to 140,000 weights are left to `small`. The
    weights are rounded to half precision, in place: agents differ by far more than this, and the file is half as large.
    The same arguments give the same bytes.
    """
    network.eval()
    for weights in network.parameters():
        weights.data = weights.data.half().float()
    with torch.no_grad():
        # d3rlpy's scalers make their tensors on first use; that must not happen inside the exporter.
        answers = network(torch.from_numpy(golden))
    model = traced(network, len(NAMES), OUTPUT)
    _halve(model)
    later.put_behind(model)
    answers = later.of(golden, answers.numpy()[:, 0])
    if small is not None:
        small.put_beside(model)
        answers = small.of(golden, answers)
    graph = onnxfile.read(model.SerializeToString(deterministic=True)).sha256
    manifest = replace(manifest, graph=graph, golden=Golden.of(golden, answers))
    save(model, {KEY: manifest.to_json()}, path)


def traced(network: torch.nn.Module, features: int, output: str) -> onnx.ModelProto:
    """A network as an ONNX model from `INPUT` (n, features) to `output` (n, 1), with nothing in it that depends on the
    machine.

    The network must have answered once before. d3rlpy's scalers create their tensors then, which must not happen inside
    the exporter.
    """
    program = torch.onnx.export(
        network, (torch.zeros(2, features),), dynamo=True, opset_version=OPSET, verbose=False, input_names=[INPUT],
        output_names=[output], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]  # stack traces with absolute paths of this machine
    del model.metadata_props[:]
    return model


def _halve(model: onnx.ModelProto) -> None:
    """Store weights in half precision where nothing is lost. onnxruntime casts them back once, at loading."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        half = values.astype(np.float16) if values.dtype == np.float32 else values
        if values.size >= STORED and values.dtype == np.float32 and np.array_equal(half, values):
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def save(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> None:
    """Write `model` with this metadata. The model is checked, and the bytes are reproducible."""
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def recorded_observations(folder: Path, rows: int) -> np.ndarray:
    """Observations (rows, F) float32 of recorded trainings, each from another file, run and stage of the training."""
    files, examples = trajectories.files(folder), []
    for i, at in enumerate(np.linspace(0, len(files) - 1, rows).astype(int)):
        task = TaskRecording(trajectories.read(files[at]))
        run = i % task.runs
        decision = max(task.ends[run] - 1, 0) * i // max(rows - 1, 1)
        examples.append(observations(task, np.ones((task.length, task.runs), bool))[decision, run])
    return np.stack(examples)


def example_observations(rows: int, seed: int = 0) -> np.ndarray:
    """Observations (rows, F) float32 over the whole range, including extremes and zeros, to compare two
    implementations.
    """
    rng = np.random.default_rng(seed)
    examples = rng.normal(0, 2, (rows, len(NAMES))).clip(-CLIP, CLIP).astype(np.float32)
    examples[0], examples[1], examples[2] = 0.0, CLIP, -CLIP
    return examples
