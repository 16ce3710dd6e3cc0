"""Hashes that name a content: SHA-256, as 64 hex digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def of_parts(parts: Iterable[bytes | memoryview]) -> str:
    """The hash of all parts, one after the other, which need not be in memory together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_json(content: object) -> str:
    """The hash of a content of JSON's types. The order of keys does not count."""
    return of_bytes(json.dumps(content, sort_keys=True).encode())
