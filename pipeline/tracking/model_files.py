"""A policy in the form in which MLflow stores models: its file, and a description of its inputs and outputs.

`mlflow.onnx.load_model`, `mlflow.pyfunc.load_model` and `mlflow models serve` work on it, and so does `load_policy`,
because the ONNX file is the policy's, byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpilot.policy_file.bundle import Bundle

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

NEEDS = ["numpy", "onnxruntime"]


def write(policy: Path, folder: Path) -> None:
    """Write the model folder of a policy; `folder` must not exist. Raises BundleError if the file is not a policy."""
    import onnx
    from mlflow.onnx import save_model

    bundle = Bundle(policy)
    facts: dict[str, Any] = {"features": list(bundle.manifest.features), "graph": bundle.manifest.graph}
    observations, _ = bundle.manifest.golden.arrays()
    save_model(
        onnx.load_model_from_string(bundle.content), folder, signature=signature(len(bundle.manifest.features)),
        input_example=observations[:1], metadata=facts, pip_requirements=NEEDS,
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,  # or the weights would go into a second file, of a random name
    )  # fmt: skip
    (folder / "model.onnx").write_bytes(bundle.content)


def signature(features: int) -> ModelSignature:
    """Observations (n, features) in, actions (n, 1) out, float32."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    kind = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(kind, (-1, features))]), outputs=Schema([TensorSpec(kind, (-1, 1), "action")])
    )
