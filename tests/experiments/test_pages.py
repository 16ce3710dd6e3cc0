"""Pages hold what the committed figures say, and nothing else between their marks."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.original import page
from experiments.policy import (
    variant_study,
)
from pipeline.reporting import markdown
from repository import TOP

FILES = sorted((TOP / "experiments/results").rglob("*.json"))
COMMANDS: dict[Path, Any] = {
    TOP / module.OUT: module
    for module in (
        page,
    )
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_has_the_table_of_the_figures(path: Path) -> None:
    command = COMMANDS.get(path, variant_study)
    text = (TOP / command.PAGE).read_text(encoding="utf-8")
    assert markdown.fill(text, path.stem, command.render(json.loads(path.read_text(encoding="utf-8")))) == text


def test_every_command_has_its_figures() -> None:
    assert COMMANDS.keys() <= set(FILES)
