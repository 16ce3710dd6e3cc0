"""Mutants of a module of two lines, in a repository of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from repository import TOP

CONFIG = """
killed_at_least = 0.5
operators = ["own/Scale", "core/ReplaceComparisonOperator_(Gt_GtE|GtE_Gt)"]
libraries = []
[modules]
"tiny.py" = ["test_tiny.py"]
"""
SURVIVOR = """[[survivors]]
module = "tiny.py"
before = "EDGE = 1.5  # by which it is large"
after = "EDGE = 3.0  # by which it is large"
reason = "{}"
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(TOP)!r}); from tools.mutants import main; main()"
    (folder / "run.py").write_text(f"if __name__ == '__main__':\n    {code}\n")
    return subprocess.run([sys.executable, "run.py", "--workers", "1"], cwd=folder, capture_output=True, text=True)


def test_what_no_test_notices_needs_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge of 1.5 between tests at 1.5 and at 4: that it doubles is not noticed, that it halves or is met is."""
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    for folder in ("tools", "docs"):
        (tmp_path / folder).mkdir()
    config, page = tmp_path / "tools/mutants.toml", tmp_path / "docs/mutants.md"
    config.write_text(CONFIG)
    (tmp_path / "tiny.py").write_text(
        "EDGE = 1.5  # by which it is large\n\n\ndef large(x: float):\n    return x > EDGE\n"
    )
    test = "from tiny import large\n\n\ndef test_edge():\n    assert large(4.0) and not large(1.5)\n"
    (tmp_path / "test_tiny.py").write_text(test)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    first = run(tmp_path)
    assert first.returncode == 1 and SURVIVOR.format("") in first.stdout, first.stderr
    assert "| tiny.py | 3 | 2 | 66.7% |" in page.read_text()

    config.write_text(CONFIG + SURVIVOR.format("it may"))
    again = run(tmp_path)
    assert again.returncode == 0 and "tiny.py" in first.stderr and not again.stderr  # nothing is tried twice
    assert "`EDGE = 3.0  # by which it is large` | it may |" in page.read_text()

    (tmp_path / "test_tiny.py").write_text(test.replace("4.0", "2.0"))
    last = run(tmp_path)
    assert last.returncode == 1 and "a reason without a survivor:\n  tiny.py" in last.stdout
    assert "| tiny.py | 3 | 3 | 100.0% |" in page.read_text()
