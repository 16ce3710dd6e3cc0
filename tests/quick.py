"""A benchmark's own command line, in a process of its own, because it changes torch's number of threads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from closure import TOP


def quick(name: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`python -m benchmarks.NAME --quick --check`: how it ended, and its figures."""
    out = folder / "new" / f"{name}.json"
    code = f"import sys; sys.path[:0] = {[str(TOP), str(TOP / 'runtime')]!r}; from benchmarks import {name}; "
    code += f"sys.exit({name}.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--quick", "--check", "--out", str(out)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert out.is_file(), done.stderr
    return done, json.loads(out.read_text())
