"""Profiles: each in params/ can be used, and its pipeline differs from the default in its root alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.scm import Git

from experiments.original.plan import config as original
from experiments.original.plan.paths import ARTEFACTS as ORIGINAL_ARTEFACTS
from pipeline.config import load, overlay, read
from pipeline.paths import ARTEFACTS, Artefact
from pipeline.schema import ConfigError
from repository import TOP
from tools.profile import track, write
from tools.stage_deps import PIPELINES

FILES = {path.stem: read(path) for path in sorted((TOP / "params").glob("*.yaml"))}
NAMES = sorted(FILES)
ORIGINAL = [name for name, content in FILES.items() if "plan" in (name, content.get("base"))]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with the default parameters, the profiles and the pipelines."""
    pipelines = (TOP / file for file in PIPELINES)
    for path in [TOP / "params.yaml", *pipelines, *(TOP / "params").glob("*.yaml")]:
        copy = tmp_path / path.relative_to(TOP)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ORIGINAL])
def test_parameters_are_overlaid_and_valid(name: str, repository: Path) -> None:
    folder = write(name, repository)
    assert folder == repository / "profiles" / name
    assert read(folder / "params.yaml") == overlay(read(TOP / "params.yaml"), read(TOP / "params" / f"{name}.yaml"))
    load(folder)


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_original_experiment_has_parameters_and_stages_of_its_own(name: str, repository: Path) -> None:
    folder, plan = write(name, repository), dict(FILES["plan"])
    del plan["pipeline"], plan["parameters"]
    over = {} if name == "plan" else {k: v for k, v in FILES[name].items() if k != "base"}
    assert read(folder / "params.yaml") == overlay(plan, over)
    original.load(folder)


@pytest.mark.parametrize(
    ("name", "file", "artefacts"),
    [("tiny", "dvc.yaml", ARTEFACTS), ("plan", "experiments/original/stages.yaml", ORIGINAL_ARTEFACTS)],
)
def test_every_path_lies_below_the_profile(name: str, file: str, artefacts: tuple[Artefact], repository: Path) -> None:
    text = (write(name, repository) / "dvc.yaml").read_text()
    rooted = text.replace("${root}", f"profiles/{name}/")
    for artefact in artefacts:
        assert f"profiles/{name}/{artefact.path}" in rooted
        assert not re.search(rf"(?<!profiles/{name}/){re.escape(artefact.path)}", rooted)
    default, profile = read(TOP / file), yaml.safe_load(text)
    assert profile.pop("vars") == [{"root": f"profiles/{name}/"}]
    assert {stage.pop("wdir") for stage in profile["stages"].values()} == {"../.."}
    assert profile == {"stages": default["stages"]}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ORIGINAL])
def test_stages_depend_on_the_policies_that_they_use(name: str, repository: Path) -> None:
    folder = write(name, repository)
    deps, params = {name: stage["deps"] for name, stage in read(folder / "dvc.yaml")["stages"].items()}, load(folder)
    small = [] if params.export.small is None else [params.export.small]
    for stage, wanted in (("collect", [*params.collect.behaviour_policies]), ("export", small)):
        assert [dep for dep in deps[stage] if dep.endswith(".onnx")] == wanted


def test_writing_again_changes_nothing(repository: Path) -> None:
    first = {path: path.read_bytes() for path in write("tiny", repository).iterdir()}
    assert {path: path.read_bytes() for path in write("tiny", repository).iterdir()} == first


def test_git_sees_a_tracked_profile_but_for_its_data(repository: Path) -> None:
    """With --track and without; by git, and by DVC, which matches patterns in a way of its own."""
    (repository / ".gitignore").write_bytes((TOP / ".gitignore").read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    for name in ("tiny", "round0"):
        folder = write(name, repository)
    track(folder, repository)
    scm = Git(str(repository))
    for path in ("dvc.yaml", "dvc.lock", "params.yaml", "metrics/headline.json", "plots/train.csv", ""):
        assert not scm.is_ignored(f"{folder}/{path}")
        assert scm.is_ignored(f"{repository}/profiles/tiny/{path}") == (path != "")
    for path in ("data/", "artifacts/", "reports/", "metrics/collect.json", "mlflow.db", "mlartifacts/"):
        assert scm.is_ignored(f"{folder}/{path}")
    listed = ["git", "ls-files", "--others", "--exclude-standard", "profiles"]
    done = subprocess.run(listed, cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"profiles/round0/{file}" for file in (".gitignore", "dvc.yaml", "params.yaml")]


def test_impossible_values_are_refused_before_anything_is_written(repository: Path) -> None:
    """The file that is named is the one with the fault, also where another profile overlays it."""
    (repository / "params/bad.yaml").write_text("train: {gamma: 2.0}\n")
    (repository / "params/over.yaml").write_text("base: bad\n")
    for name in ("bad", "over"):
        with pytest.raises(
            ConfigError, match=r"^params/bad\.yaml: .*train\.gamma is 2\.0, want a finite number in \(0, 1\]"
        ):
            write(name, repository)
    assert not (repository / "profiles").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: huge\n", "base is 'huge', want one of"),
        ("pipeline: other.yaml\n", "pipeline is 'other.yaml', want one of dvc.yaml, experiments/original/stages.yaml"),
        ("parameters: pipeline.config:Other\n", "parameters is 'pipeline.config:Other', want module:dataclass"),
        ("base: seed\nplan: {pairs: {mnist: [bert]}}\n", "plan.pairs.mnist is 'bert', want a model for images"),
        ("base: seed\nplan: {thresholds: {mnist: 0.9}}\n", "plan.thresholds.cifar10 is missing"),
        ("base: seed\ndata: {max_tokens: {imdb: 16}}\n", "data.max_tokens.sst2 is missing"),
        ("base: seed\ntraining: {settings: {bert: [{learning_rate: 1.0e-5}]}}\n", "batch_size is missing"),
        ("base: seed\ncollect: {tasks: 3}\n", "collect is an unknown key"),
    ],
)
def test_odd_profiles_are_refused(content: str, message: str, repository: Path) -> None:
    (repository / "params/odd.yaml").write_text(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        write("odd", repository)


def test_a_profile_cannot_overlay_itself(repository: Path) -> None:
    for name, base in (("one", "two"), ("two", "one")):
        (repository / f"params/{name}.yaml").write_text(f"base: {base}\n")
    with pytest.raises(ConfigError, match="base is 'one', want a profile that does not overlay itself"):
        write("one", repository)


def test_unknown_names_are_answered_with_the_known_ones(repository: Path) -> None:
    command = [sys.executable, "-m", "tools.profile", "huge"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"'huge', want one of {', '.join(NAMES)}" in done.stderr
    assert "Traceback" not in done.stderr
