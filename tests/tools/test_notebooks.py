"""The notebooks run without an error, and the outputs stored in them are of the kinds that a run has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import clones
from repository import TOP

NOTEBOOKS = sorted((TOP / "examples").glob("*.ipynb"))
MOST_BYTES = 300_000
TIMEOUT = 900  # seconds for a cell, on a busy machine
PICTURE = "image/png"


def outputs(notebook: Any) -> dict[int, set[str]]:
    """By place of a code cell what it puts out; a picture is told from text, texts are not told apart."""
    return {
        at: {PICTURE if PICTURE in output.get("data", {}) else "text" for output in cell.outputs}
        for at, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, for what the notebooks write."""
    folder = tmp_path_factory.mktemp("copy")
    clones.copy(folder)
    return folder


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_run", "own_policy", "what_the_pilot_sees"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_files(path: Path) -> None:
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)#]+)", "\n".join(texts))
    assert links and [link for link in links if not (path.parent / link).is_file()] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_has_the_outputs_that_are_stored(path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(copy / ".ipython"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in clones.environment(copy).items():
        monkeypatch.setenv(name, value)
    stored, fresh = (nbformat.read(path, as_version=4) for _ in range(2))
    assert path.stat().st_size < MOST_BYTES
    nbformat.validate(stored)
    # Raises CellExecutionError, with the cell and its traceback, where a cell fails.
    NotebookClient(fresh, timeout=TIMEOUT, resources={"metadata": {"path": copy / "examples"}}).execute()
    assert [cell.execution_count for cell in stored.cells if cell.cell_type == "code"] == [
        cell.execution_count for cell in fresh.cells if cell.cell_type == "code"
    ], "run all cells in order, then save"
    assert outputs(stored) == outputs(fresh)
