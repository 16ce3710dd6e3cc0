"""The Python of the documentation runs."""

import re
from pathlib import Path

import pytest

from repository import TOP

PAGES = [p for p in (TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))) if p.exists()]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program, run in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    # Blank lines in place of the prose, so that a traceback names the page's own lines.
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python"), "an indented or unfinished block would not run"
    code, at = "", 0
    for block in blocks:
        code += "\n" * text.count("\n", at, block.start(1)) + block.group(1)
        at = block.end(1)
    exec(compile(code, page.name, "exec"), {"__name__": "__main__"})


def test_the_contract_names_tests_that_there_are() -> None:
    rows = [line for line in (TOP / "docs/scheduler.md").read_text(encoding="utf-8").splitlines() if "`tests/" in line]
    assert len(rows) > 15
    for row in rows:
        source = ""
        for name in re.findall(r"`(tests/[\w/]+\.py|test_\w+)`", row):
            if name.startswith("tests/"):
                source = (TOP / name).read_text(encoding="utf-8")
            else:
                assert f"\ndef {name}(" in source, f"{name}: no such test"
