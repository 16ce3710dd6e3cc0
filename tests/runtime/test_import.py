"""`import lrpilot` is light: numpy and onnxruntime, nothing that trains or tracks; `lrpilot.torch` adds torch."""

import subprocess
import sys

import pytest

from repository import TOP

RUNTIME = TOP / "runtime"
HEAVY = {
    "torch", "onnx", "mlflow", "pandas", "sklearn", "scipy", "d3rlpy", "matplotlib", "lightning", "pytorch_lightning",
    "transformers", "accelerate", "ray", "policy", "pipeline",
}  # fmt: skip


@pytest.mark.parametrize("module, needs", [("lrpilot", {"onnxruntime"}), ("lrpilot.torch", {"onnxruntime", "torch"})])
def test_import_loads_nothing_heavy(module: str, needs: set[str]) -> None:
    code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r}); import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & (HEAVY | needs) == needs
