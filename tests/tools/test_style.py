"""Every file of the product can be read in one sitting, its names say what they are, and no imports go in circles."""

import io
import statistics
import tokenize
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from repository import TOP

PACKAGES = ("runtime/lrpilot", "policy", "pipeline", "benchmarks", "experiments", "tools")
FILES = [path for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))]
MOST_LINES, MEDIAN_LINES = 400, 110
VAGUE, MOST_VAGUE = ("found", "seen", "kept", "told"), 40  # participles that say nothing of what they name


def names(path: Path) -> Counter[str]:
    """The identifiers of a file, keywords included."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return Counter(token.string for token in tokens if token.type == tokenize.NAME)


def test_files_are_short() -> None:
    lines = {str(path.relative_to(TOP)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= MEDIAN_LINES


@pytest.mark.parametrize("name", VAGUE)
def test_names_are_nouns(name: str) -> None:
    counts = {str(path.relative_to(TOP)): names(path)[name] for path in FILES}
    assert sum(counts.values()) <= MOST_VAGUE, {path: count for path, count in counts.items() if count}


def test_no_imports_go_in_circles() -> None:
    """Imports for type checkers alone count, too, which the import linter leaves out."""
    graph = grimp.build_graph(*(Path(package).name for package in PACKAGES), cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules of a circle
