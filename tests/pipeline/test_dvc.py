"""dvc.yaml, and its like for the original experiment, say what their stages execute, read and write."""

import ast
import re
from dataclasses import dataclass, fields
from typing import Any

import pytest

from experiments.original.plan.config import Original
from experiments.original.plan.paths import ARTEFACTS as ORIGINAL
from pipeline.config import Params, read
from pipeline.paths import ARTEFACTS, Artefact
from repository import TOP
from tools.stage_deps import PIPELINES, closure


@dataclass(frozen=True)
class Pipeline:
    """A file with stages, the package that they are modules of, and what they read and write."""

    package: str
    stages: dict[str, Any]
    sections: frozenset[str]
    artefacts: tuple[Artefact, ...]


READ = {"pipeline": (Params, ARTEFACTS), "experiments.original": (Original, ORIGINAL)}
ALL = [
    Pipeline(package, read(TOP / file)["stages"], frozenset(f.name for f in fields(READ[package][0])), READ[package][1])
    for file, package in PIPELINES.items()
]
each_stage = pytest.mark.parametrize(
    ("pipeline", "name"), [pytest.param(p, name, id=f"{p.package}.{name}") for p in ALL for name in p.stages]
)


def sections_read(files: set[str], sections: frozenset[str]) -> set[str]:
    """Sections that the code takes from a `params` or straight from a call of `load`."""
    nodes = (node for file in files for node in ast.walk(ast.parse((TOP / file).read_text())))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr in sections
        and re.fullmatch(r"params|(\w+\.)?load\(.*\)", ast.unparse(node.value), re.DOTALL)
    }


@each_stage
def test_deps_are_the_import_closure(pipeline: Pipeline, name: str) -> None:
    declared = {dep for dep in pipeline.stages[name]["deps"] if dep.endswith(".py")}
    assert declared == closure(f"{pipeline.package}.{name}"), "run `make deps`"


@each_stage
def test_params_are_the_sections_read(pipeline: Pipeline, name: str) -> None:
    entries = pipeline.stages[name].get("params", [])
    declared = {section for entry in entries for section in entry["${root}params.yaml"]}
    assert declared == sections_read(closure(f"{pipeline.package}.{name}"), pipeline.sections)


@each_stage
def test_command_and_description(pipeline: Pipeline, name: str) -> None:
    assert pipeline.stages[name]["cmd"] == f"python -m {pipeline.package}.{name} --root ./${{root}}"
    assert pipeline.stages[name]["desc"].strip()


@each_stage
def test_other_deps_are_artefacts_of_earlier_stages(pipeline: Pipeline, name: str) -> None:
    earlier = list(pipeline.stages)[: list(pipeline.stages).index(name)]
    written = {f"${{root}}{a.path}" for a in pipeline.artefacts if a.stage in earlier}
    others = {dep for dep in pipeline.stages[name]["deps"] if not dep.endswith(".py")}
    assert {dep for dep in others - written if not (TOP / dep).is_file()} == set()
