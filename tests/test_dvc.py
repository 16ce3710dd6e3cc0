"""dvc.yaml says what its stages execute, read and write."""

import ast
import re
from dataclasses import fields

import grimp
import pytest

from closure import TOP, closure, import_graph
from pipeline.config import Params, read
from pipeline.paths import ARTEFACTS

STAGES = read(TOP / "dvc.yaml")["stages"]
SECTIONS = {field.name for field in fields(Params)}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return import_graph()


def sections_read(files: set[str]) -> set[str]:
    """Sections that the code takes from a `params` or straight from a call of `load`."""
    nodes = (node for file in files for node in ast.walk(ast.parse((TOP / file).read_text())))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr in SECTIONS
        and re.fullmatch(r"params|(\w+\.)?load\(.*\)", ast.unparse(node.value), re.DOTALL)
    }


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_import_closure(name: str, graph: grimp.ImportGraph) -> None:
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert declared == closure(f"pipeline.{name}", graph), "run `make deps`"


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_read(name: str, graph: grimp.ImportGraph) -> None:
    declared = {section for entry in STAGES[name].get("params", []) for section in entry["${root}params.yaml"]}
    assert declared == sections_read(closure(f"pipeline.{name}", graph))


@pytest.mark.parametrize("name", STAGES)
def test_command_and_description(name: str) -> None:
    assert STAGES[name]["cmd"] == f"python -m pipeline.{name} --root ./${{root}}"
    assert STAGES[name]["desc"].strip()


@pytest.mark.parametrize("name", STAGES)
def test_other_deps_are_artefacts_of_earlier_stages(name: str) -> None:
    earlier = list(STAGES)[: list(STAGES).index(name)]
    written = {f"${{root}}{a.path}" for a in ARTEFACTS if a.stage in earlier}
    others = {dep for dep in STAGES[name]["deps"] if not dep.endswith(".py")}
    assert {dep for dep in others - written if not (TOP / dep).is_file()} == set()
