"""Policies that a registry gave out once, stored by content: $XDG_CACHE_HOME/lrpilot (~/.cache/lrpilot).

    <sha256>.onnx                 a policy
    refs/<hash>.json              what a reference led to last in one registry: {"ref", "version", "sha256"}

Nothing here is needed: deleting the folder, or one that cannot be written to, costs the next start a question more.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrpilot import digests


@dataclass(frozen=True)
class CachedPolicy:
    """A policy that a reference led to, and its bytes."""

    version: str
    sha256: str
    path: Path
    content: bytes


def folder() -> Path:
    """Where policies are stored."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrpilot"


def path(sha256: str) -> Path:
    """Where the policy of this hash is stored."""
    return folder() / f"{sha256}.onnx"


def content(sha256: str) -> bytes | None:
    """The bytes of this hash, or None where they are not here or no longer intact."""
    try:
        data = path(sha256).read_bytes()
    except OSError:
        return None
    return data if digests.of_bytes(data) == sha256 else None


def find(registry: str, ref: str) -> CachedPolicy | None:
    """What `ref` led to last in the registry of this URI, or None where that is not known or not here."""
    try:
        note: Any = json.loads(_note(registry, ref).read_bytes())
        version, sha256 = str(note["version"]), str(note["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    data = content(sha256)
    return None if data is None else CachedPolicy(version, sha256, path(sha256), data)


def store(registry: str, refs: Iterable[str], version: str, policy: bytes) -> Path | None:
    """Store a policy and what led to it; returns its place, or None where nothing can be written."""
    sha256 = digests.of_bytes(policy)
    try:
        if content(sha256) is None:
            _write(path(sha256), policy)
        for ref in refs:
            note = {"ref": ref, "version": version, "sha256": sha256}
            _write(_note(registry, ref), json.dumps(note).encode())
    except OSError:
        return None
    return path(sha256)


def _note(registry: str, ref: str) -> Path:
    """The registry's URI may hold a password, so that only a hash of it is written."""
    name = digests.of_bytes(f"{registry}\n{ref}".encode())
    return folder() / "refs" / f"{name[:32]}.json"


def _write(target: Path, data: bytes) -> None:
    """Write at once or not at all: several processes of one training may be at it, and the disk may be full."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
