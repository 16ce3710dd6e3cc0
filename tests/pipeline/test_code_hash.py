"""Which sources a family's results depend on."""

from pathlib import Path

import pytest

from pipeline import code_hash
from pipeline.workloads.families import FAMILIES

ALWAYS = {"base", "networks", "sampling"}


@pytest.mark.parametrize(
    ("family", "others"),
    [
        ("tabular", {"tabular", "data"}),
        ("spirals", {"synthetic"}),
        ("overfit", {"overfit", "data", "synthetic"}),
        ("markov_rnn", {"sequences", "text"}),
    ],
)
def test_a_family_depends_on_its_module_and_what_that_imports(family: str, others: set[str]) -> None:
    found = code_hash.imported(FAMILIES[family].module)
    assert {path.stem for path in found} == ALWAYS | others


def test_modules_of_other_packages_count_for_nothing() -> None:
    assert code_hash.imported("tests.tiny") == code_hash.imported("pipeline.simulation.schedules") == set()


def test_digests_change_with_any_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pipeline/workloads"
    folder.mkdir(parents=True)
    contents = {"one": "from pipeline.workloads import two\n", "two": "X = 1\n", "three": "X = 2\n"}
    for name, content in contents.items():
        (folder / f"{name}.py").write_text(content)
    (tmp_path / "more.txt").write_text("more")
    monkeypatch.setattr(code_hash, "TOP", tmp_path)

    def digest() -> str:
        return code_hash.digest(["more.txt"], "pipeline.workloads.one")

    seen = [digest()]
    for file, changes in (("three.py", False), ("two.py", True), ("one.py", True), ("../../more.txt", True)):
        (folder / file).write_text((folder / file).read_text() + "\n")
        seen.append(digest())
        assert (seen[-1] != seen[-2]) == changes, file
