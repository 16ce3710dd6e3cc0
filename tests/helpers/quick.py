"""A benchmark's own command line, in a process of its own, because it changes torch's number of threads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from repository import TOP


def quick(module: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`python -m MODULE --quick --check`: how it ended, and its figures."""
    out = folder / "new" / "figures.json"
    code = f"import sys; sys.path[:0] = {[str(TOP), str(TOP / 'runtime')]!r}; import {module}; "
    code += f"sys.exit({module}.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--quick", "--check", "--out", str(out)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert out.is_file(), done.stderr
    return done, json.loads(out.read_text())
