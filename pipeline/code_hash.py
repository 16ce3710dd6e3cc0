"""What a result was made by: a hash of source files, part of the names under which results are kept.

Of the workload families only the module that holds the one at hand counts, and what it imports of the others: a new
family leaves the results of the rest alone.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).parents[1]
WORKLOADS = "pipeline.workloads"
TRAINING = tuple(f"pipeline/workloads/{name}.py" for name in ("base", "population", "replay"))  # of every family


def digest(patterns: Iterable[str], module: str | None = None) -> str:
    """SHA-256 of the files that match, relative to the repository's top, and of those that a family's `module` is."""
    files = {path for pattern in patterns for path in TOP.glob(pattern)}
    found = hashlib.sha256()
    for path in sorted(files | (imported(module) if module else set())):
        found.update(path.read_bytes())
    return found.hexdigest()


def imported(module: str) -> set[Path]:
    """The file of a module among the workloads, and of those workload modules that it imports, directly or not."""
    found: set[Path] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        path = TOP.joinpath(*name.split(".")).with_suffix(".py")
        if not name.startswith(WORKLOADS) or not path.is_file() or path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                todo |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
