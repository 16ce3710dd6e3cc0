"""What a result was made by: a hash of source files, part of the names under which results are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).parents[1]
WORKLOADS = ("pipeline/workloads/*.py",)


def digest(patterns: Iterable[str]) -> str:
    """SHA-256 of the files that match, relative to the repository's top."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in TOP.glob(pattern)}):
        found.update(path.read_bytes())
    return found.hexdigest()
