"""Copies of the code, which count in place of the code that runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from pipeline import import_graph
from pipeline.code_hash import digest
from pipeline.hashed_source import source
from repository import TOP

FOLDERS = {name: "runtime" if name == "lrpilot" else "." for name in import_graph.PACKAGES}


def copy_code(top: Path) -> None:
    """Copy all packages below `top`."""
    for package, folder in FOLDERS.items():
        patterns = shutil.ignore_patterns("*.onnx", "*.json", "*.parquet", "__pycache__")
        shutil.copytree(TOP / folder / package, top / folder / package, ignore=patterns)


@contextmanager
def counting(top: Path) -> Iterator[None]:
    """Hashes are those of the packages below `top`, as far as it has them."""
    with pytest.MonkeyPatch.context() as patch:
        for package, folder in FOLDERS.items():
            if (path := top / folder / package).is_dir():
                patch.setattr(import_module(package).__spec__, "submodule_search_locations", [str(path)])
        _forget()
        yield
    _forget()


def _forget() -> None:
    import_graph.graph.cache_clear()
    source.cache_clear()
    digest.cache_clear()
