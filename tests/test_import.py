"""`import lrpilot` is light: numpy and onnxruntime, nothing that trains or tracks."""

import subprocess
import sys
from pathlib import Path

RUNTIME = Path(__file__).parents[1] / "runtime"
HEAVY = {"torch", "onnx", "mlflow", "pandas", "sklearn", "d3rlpy", "matplotlib", "policy", "pipeline"}


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r}); import lrpilot; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "onnxruntime" in loaded
    assert not loaded & HEAVY
