"""Makes tiny policy bundles: real ONNX, one linear layer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lrpilot.actions import ActionEquation
from lrpilot.bundle import FORMAT, INPUT, KEY, OUTPUT, Manifest
from lrpilot.features import NAMES, VERSION
from lrpilot.pilot import Protocol

MANIFEST = Manifest(
    format=FORMAT,
    features_version=VERSION,
    features=NAMES,
    protocol=Protocol(),
    optimizers=("adam", "sgd"),
    training={"algorithm": "iql", "steps": 10, "seeds": [0], "data": "d" * 64, "commit": "c" * 40},
    evaluation={},
)


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
        protocol=Protocol(action=action or ActionEquation()),
        evaluation=dict(evaluation or {}),
    )
    weights = weights or {}
    column = np.array([[weights.get(name, 0.0)] for name in features], np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(linear(column, bias, squash, {KEY: manifest.to_json()}))
    return path


def linear(column: np.ndarray, bias: float, squash: bool, properties: Mapping[str, str]) -> bytes:
    """An ONNX file: observation (batch, F) -> action (batch, 1), with metadata."""
    nodes = [
        helper.make_node("Gemm", [INPUT, "w", "b"], ["y"]),
        helper.make_node("Tanh" if squash else "Identity", ["y"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", len(column)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(column, "w"), numpy_helper.from_array(np.float32([bias]), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def manifest_json(**changes: Any) -> str:
    """The text of a manifest with some fields replaced."""
    return json.dumps(json.loads(MANIFEST.to_json()) | changes)
