"""The registries of paths, the files with stages and .gitignore agree."""

import subprocess
from pathlib import Path

import pytest

from experiments.original.plan import paths as original
from pipeline.config import read
from pipeline.paths import ARTEFACTS, Artefact, Paths, parse_root
from repository import TOP

BOTH = {"dvc.yaml": ARTEFACTS, "experiments/original/stages.yaml": original.ARTEFACTS}
STAGES = {(file, name): stage for file in BOTH for name, stage in read(TOP / file)["stages"].items()}


def written(file: str, stage: str) -> set[Artefact]:
    """The artefacts that a file names for a stage."""
    artefacts = set()
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[file, stage].get(kind, []):
            path, flags = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            artefacts.add(Artefact(path.removeprefix("${root}"), stage, kind, flags.get("cache", True)))
    return artefacts


@pytest.mark.parametrize(("file", "stage"), STAGES)
def test_registry_and_outs_agree(file: str, stage: str) -> None:
    assert written(file, stage) == {artefact for artefact in BOTH[file] if artefact.stage == stage}


@pytest.mark.parametrize("file", BOTH)
def test_every_artefact_has_a_stage(file: str) -> None:
    assert {(file, artefact.stage) for artefact in BOTH[file]} == {key for key in STAGES if key[0] == file}


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda artefact: artefact.path)
def test_git_ignores_what_dvc_caches(artefact: Artefact) -> None:
    command = ["git", "check-ignore", "--quiet", "--no-index", artefact.path]
    assert subprocess.run(command, cwd=TOP, check=False).returncode == (0 if artefact.cached else 1)


@pytest.mark.parametrize(
    ("argv", "policy"),
    [
        ([], "artifacts/policy.onnx"),
        (["--root", "./"], "artifacts/policy.onnx"),
        (["--root", "./profiles/tiny/"], "profiles/tiny/artifacts/policy.onnx"),
    ],
)
def test_root_of_the_command_line(argv: list[str], policy: str) -> None:
    assert parse_root("a stage", argv).policy == Path(policy)


def test_params_lie_below_the_root() -> None:
    assert Paths(Path("profiles/tiny")).params == Path("profiles/tiny/params.yaml")
