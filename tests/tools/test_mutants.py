"""What `make mutants` changes, and the tests that should notice, are there."""

import shlex
import tomllib
from pathlib import Path

import pytest

from repository import TOP


@pytest.mark.parametrize("path", sorted((TOP / "tools/mutants").glob("*.toml")), ids=lambda path: path.stem)
def test_a_configuration_names_its_module_and_tests_that_there_are(path: Path) -> None:
    config = tomllib.loads(path.read_text(encoding="utf-8"))["cosmic-ray"]
    tests = [word for word in shlex.split(config["test-command"]) if word.startswith("tests/")]
    assert tests and all((TOP / test).is_file() for test in tests)
    assert (TOP / config["module-path"]).is_file() and Path(config["module-path"]).stem == path.stem
