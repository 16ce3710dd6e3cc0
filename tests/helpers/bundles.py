"""Makes tiny policy bundles: real ONNX, one linear layer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES, VERSION
from lrpilot.decisions.protocol import Protocol
from lrpilot.policy_file.bundle import INPUT, OUTPUT
from lrpilot.policy_file.manifest import CHECKSUM, FORMAT, KEY, Golden, Manifest

MANIFEST = Manifest(
    format=FORMAT,
    features_version=VERSION,
    features=NAMES,
    protocol=Protocol(),
    optimizers=("adam", "sgd"),
    training={"algorithm": "iql", "steps": 10, "seeds": [0], "data": "d" * 64, "commit": "c" * 40},
    evaluation={},
    golden=Golden.of(np.zeros((1, len(NAMES))), np.zeros(1)),
)
FALLING = ActionEquation(decay=1.0, warm_up=0.0)  # every step has a rate of its own, by which tests tell them apart


def write_bundle(
    path: Path,
    *,
    features: Sequence[str] = NAMES,
    format: int = FORMAT,
    action: ActionEquation | None = None,
    weights: Mapping[str, float] | None = None,
    bias: float = 0.0,
    squash: bool = True,
    evaluation: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle whose action is tanh(weights . observation + bias); without `squash`, no tanh.

    `features` are the manifest's names and the width of the input; `weights` maps some of them to numbers.
    """
    manifest = replace(
        MANIFEST,
        format=format,
        features=tuple(features),
        protocol=Protocol(action=action or FALLING),
        evaluation=dict(evaluation or {}),
    )
    weights = weights or {}
    column = np.array([[weights.get(name, 0.0)] for name in features], np.float32)
    rows = np.random.default_rng(0).normal(size=(3, len(column))).astype(np.float32)
    answers = (rows @ column + np.float32(bias))[:, 0]
    model = linear(column, bias, squash)
    save(model, replace(manifest, golden=Golden.of(rows, np.tanh(answers) if squash else answers)), path)
    return path


def linear(column: np.ndarray, bias: float = 0.0, squash: bool = True) -> onnx.ModelProto:
    """An ONNX model: observation (batch, F) -> action (batch, 1)."""
    nodes = [
        helper.make_node("Gemm", [INPUT, "w", "b"], ["y"]),
        helper.make_node("Tanh" if squash else "Identity", ["y"], [OUTPUT]),
    ]
    weights = [numpy_helper.from_array(column, "w"), numpy_helper.from_array(np.float32([bias]), "b")]
    model = with_nodes(nodes, weights, len(column))
    onnx.checker.check_model(model)
    return model


def with_nodes(
    nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto] = (), width: int = len(NAMES)
) -> onnx.ModelProto:
    """An ONNX model of these nodes, with a policy's input and output."""
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def save(model: onnx.ModelProto, manifest: Manifest, path: Path, **changes: Any) -> Path:
    """Write `model` with a manifest that fits it, `changes` of its JSON aside; the checksum fits them too."""
    raw = json.loads(replace(manifest, graph=graph_hash(model)).to_json()) | changes
    raw.pop(CHECKSUM)
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    raw[CHECKSUM] = hashlib.sha256(text.encode()).hexdigest()
    return save_as(model, {KEY: json.dumps(raw)}, path)


def save_as(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> Path:
    """Write `model` with this metadata, whatever it is."""
    helper.set_model_props(model, dict(metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def graph_hash(model: onnx.ModelProto) -> str:
    """sha256 of the model's file without metadata, by the book: that of its bytes, written without."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
