"""Pages hold what the committed figures say, and nothing else between their marks."""

import json
from pathlib import Path

import pytest

from experiments.original.pages import page
from experiments.policy import variant_study
from experiments.policy.variants import EXPERIMENTS
from pipeline.reporting import markdown
from repository import TOP

FILES = sorted((TOP / "experiments/results").rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_has_the_table_of_the_figures(path: Path) -> None:
    command = page if path == TOP / page.OUT else variant_study
    text = (TOP / command.PAGE).read_text(encoding="utf-8")
    assert markdown.fill(text, path.stem, command.render(json.loads(path.read_text(encoding="utf-8")))) == text


def test_every_command_has_its_figures() -> None:
    variants = {variant_study.RESULTS / f"{name}.json" for name in EXPERIMENTS}
    assert {TOP / path for path in (page.OUT, *variants)} == set(FILES)
