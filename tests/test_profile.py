"""Profiles: each in params/ can be used, and its pipeline differs from the default in its root alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from closure import TOP
from pipeline.config import load, overlay, read
from pipeline.paths import ARTEFACTS
from pipeline.profile import write
from pipeline.schema import ConfigError

NAMES = sorted(path.stem for path in (TOP / "params").glob("*.yaml"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with the default parameters, the profiles and the pipeline."""
    for path in [TOP / "params.yaml", TOP / "dvc.yaml", *(TOP / "params").glob("*.yaml")]:
        copy = tmp_path / path.relative_to(TOP)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_overlaid_and_valid(name: str, repository: Path) -> None:
    folder = write(name, repository)
    assert folder == repository / "profiles" / name
    assert read(folder / "params.yaml") == overlay(read(TOP / "params.yaml"), read(TOP / "params" / f"{name}.yaml"))
    load(folder)


def test_every_path_lies_below_the_profile(repository: Path) -> None:
    text = (write("tiny", repository) / "dvc.yaml").read_text()
    rooted = text.replace("${root}", "profiles/tiny/")
    for artefact in ARTEFACTS:
        assert f"profiles/tiny/{artefact.path}" in rooted
        assert not re.search(rf"(?<!profiles/tiny/){re.escape(artefact.path)}", rooted)
    default, profile = read(TOP / "dvc.yaml"), yaml.safe_load(text)
    assert profile.pop("vars") == [{"root": "profiles/tiny/"}]
    assert {stage.pop("wdir") for stage in profile["stages"].values()} == {"../.."}
    assert profile == {"stages": default["stages"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_collection_depends_on_the_policies_that_it_follows(name: str, repository: Path) -> None:
    folder = write(name, repository)
    deps = read(folder / "dvc.yaml")["stages"]["collect"]["deps"]
    assert [dep for dep in deps if dep.endswith(".onnx")] == list(load(folder).collect.behaviour_policies)


def test_writing_again_changes_nothing(repository: Path) -> None:
    first = {path: path.read_bytes() for path in write("tiny", repository).iterdir()}
    assert {path: path.read_bytes() for path in write("tiny", repository).iterdir()} == first


def test_impossible_values_are_refused_before_anything_is_written(repository: Path) -> None:
    (repository / "params/bad.yaml").write_text("train: {gamma: 2.0}\n")
    with pytest.raises(ConfigError, match=r"train\.gamma is 2\.0, want a finite number in \(0, 1\]"):
        write("bad", repository)
    assert not (repository / "profiles").exists()


def test_unknown_names_are_answered_with_the_known_ones(repository: Path) -> None:
    command = [sys.executable, "-m", "pipeline.profile", "huge"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"'huge', want one of {', '.join(NAMES)}" in done.stderr
    assert "Traceback" not in done.stderr
