"""What processes log, and scripts of two of them."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Lines(logging.Handler):
    """Collects the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def in_two_processes(script: str | None, folder: Path, *args: str) -> list[Any]:
    """Run a helper of the tests; what its processes wrote to 0.json and 1.json in the folder."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder), *args]
    subprocess.run(command, env=env, cwd=folder, check=True, timeout=300, capture_output=True)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
