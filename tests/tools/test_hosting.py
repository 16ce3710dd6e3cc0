"""What the host of the repository reads agrees with the repository: CI, hooks, forms, citation, release."""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from repository import TOP

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = {
    name.rpartition(" ")[2]
    for name in PROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
}
PINS = dict(re.findall(r"^(\S+)==(\S+)$", (TOP / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
FORMS = sorted(set((TOP / ".github/ISSUE_TEMPLATE").glob("*.yml")) - {TOP / ".github/ISSUE_TEMPLATE/config.yml"})


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


CI = read(TOP / ".github/workflows/ci.yml")
STEPS = [step for job in CI["jobs"].values() for step in job["steps"]]


def test_ci_runs_every_check() -> None:
    assert CI["jobs"].keys() == {"lint", "test", "wheel", "docs", "pages"}
    # what is published has passed all of them
    assert set(CI["jobs"]["pages"]["needs"]) == CI["jobs"].keys() - {"pages"}


def test_ci_runs_the_pythons_that_the_package_names() -> None:
    (setup,) = (step for step in CI["jobs"]["wheel"]["steps"] if "setup-python" in step.get("uses", ""))
    assert set(CI["jobs"]["test"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert set(setup["with"]["python-version"].split()) == PYTHONS
    assert PROJECT["project"]["requires-python"] == ">=" + min(PYTHONS, key=lambda name: int(name.partition(".")[2]))


def test_ci_calls_targets_that_there_are() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    called = {name for step in STEPS for name in re.findall(r"\bmake (\w+)", step.get("run", ""))}
    assert {"lint", "test", "dist", "docs"} <= called
    assert [name for name in called if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_ci_has_few_rights_and_pinned_actions() -> None:
    assert CI["permissions"] == {"contents": "read"}
    assert {name for name, job in CI["jobs"].items() if "permissions" in job} == {"pages"}
    uses = [step["uses"] for step in STEPS if "uses" in step]
    assert [action for action in uses if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []
    checkouts = [step["with"] for step in STEPS if "actions/checkout@" in step.get("uses", "")]
    assert all(given == {"fetch-depth": 0, "persist-credentials": False} for given in checkouts)


def test_hooks_have_the_versions_of_the_constraints() -> None:
    packages = {"ruff-pre-commit": "ruff", "codespell": "codespell"}
    versions = {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in read(TOP / ".pre-commit-config.yaml")["repos"]}
    assert {name: versions[name] for name in packages} == {name: f"v{PINS[held]}" for name, held in packages.items()}


def test_the_newest_release_is_one_everywhere() -> None:
    changes = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = read(TOP / "CITATION.cff")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert (citation["version"], citation["date-released"]) == versions[0]
    assert PROJECT["tool"]["setuptools_scm"]["fallback_version"] == versions[0][0]
    for version, day in versions:
        assert date.fromisoformat(day) and f"\n[{version}]: {PROJECT['project']['urls']['Source']}/" in changes


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_asks_questions_once(form: Path) -> None:
    content = read(form)
    assert content.keys() == {"name", "description", "labels", "body"}
    questions = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in questions}) == len(questions)
    assert any(field.get("validations", {}).get("required") for field in questions)
    assert all(field["attributes"]["label"] for field in questions)
