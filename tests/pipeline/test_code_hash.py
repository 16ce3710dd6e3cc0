"""What counts as the code of a result: which modules, and what of them."""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path

import grimp
import pytest

from pipeline import code_hash
from pipeline.code_hash import FOLDERS, INERT, closure, digest
from repository import TOP
from tools.stage_deps import import_graph

RECORDING, AGENT = "pipeline.simulation.recording", "pipeline.agent_training"
PILOT = {
    f"lrpilot.{name}" for name in ("actions", "cadence", "features", "guard", "pilot", "probe", "restart", "telemetry")
}
TRAINING = {f"pipeline.workloads.{name}" for name in ("base", "population", "replay")}
FAMILY = {f"pipeline.workloads.{name}" for name in ("base", "networks", "sampling")}
TEXTS = {
    "lrpilot.cli",
    "lrpilot.explain",
    "lrpilot.history",
    "lrpilot.plot",
    "lrpilot.registry",
    "lrpilot.policy_cache",
}


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (
            RECORDING,
            PILOT | TRAINING | {f"pipeline.simulation.{name}" for name in ("behaviour", "schedules", "simulate")},
        ),
        (RECORDING, {"policy.trajectories", "lrpilot.bundle", "lrpilot.onnxfile"}),
        (AGENT, {f"policy.{name}" for name in ("agents", "mdp", "observations", "store", "trajectories")}),
        (AGENT, {"lrpilot.actions", "lrpilot.features", "lrpilot.probe_curve", "lrpilot.telemetry"}),
        ("pipeline.simulation.follow", TRAINING),
        ("pipeline.evaluation.methods.pilot_loop", PILOT | {"lrpilot.torch", "lrpilot.rates", "lrpilot.rollback"}),
        ("experiments.original.loop", PILOT | {"lrpilot.torch", "experiments.original.drivers"}),
        ("benchmarks.robust", PILOT | TRAINING),
    ],
)
def test_a_closure_holds_what_can_change_a_number(entry: str, wanted: set[str]) -> None:
    modules = closure(entry)
    assert modules >= wanted
    assert not modules & TEXTS


def test_what_a_result_does_not_run() -> None:
    """Rates that are known beforehand, and agents, know no pilot; nor does an agent know how tasks are recorded."""
    assert not closure("pipeline.simulation.follow", "pipeline.simulation.schedules") & PILOT
    assert not closure(AGENT) & {"lrpilot.guard", "lrpilot.pilot", RECORDING, *TRAINING}
    whole, without = closure("experiments.original.loop"), closure("experiments.original.loop", unused=("lrpilot",))
    assert without == {name for name in whole if not name.startswith("lrpilot.")}


@pytest.mark.parametrize(
    ("family", "others"),
    [
        ("judged_small", {"judged_small", "data"}),
        ("judged_texts", {"judged_texts", "text", "text_data"}),
        ("judged_transfers", {"judged_transfers", "data", "shifts"}),
        ("reinitialised", {"reinitialised"}),
    ],
)
def test_a_family_depends_on_its_module_and_what_that_imports(family: str, others: set[str]) -> None:
    assert closure(f"pipeline.workloads.{family}") == FAMILY | {f"pipeline.workloads.{name}" for name in others}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return import_graph()


@pytest.mark.parametrize("entry", [RECORDING, AGENT, "pipeline.evaluate", "pipeline.report"])
def test_closures_follow_the_import_graph(
    entry: str, graph: grimp.ImportGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing inert, grimp names the same modules."""
    monkeypatch.setattr(code_hash, "INERT", {})
    upstream = {entry} | graph.find_upstream_modules(entry)
    assert closure(entry) == {name for name in upstream if not graph.find_children(name)}


@pytest.mark.parametrize("name", INERT)
def test_what_is_inert_exists(name: str) -> None:
    path = TOP.joinpath(FOLDERS[name.partition(".")[0]], *name.split("."))
    assert path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("package", FOLDERS)
def test_a_package_itself_holds_imports_and_texts_alone(package: str) -> None:
    """For its own file does not count."""
    for path in TOP.joinpath(FOLDERS[package], package).rglob("__init__.py"):
        name = ".".join(path.relative_to(TOP / FOLDERS[package]).parent.parts)
        for node in [] if name in INERT else ast.parse(path.read_text()).body:
            if isinstance(node, ast.Expr | ast.Assign):
                ast.literal_eval(node.value)
            else:
                assert isinstance(node, ast.Import | ast.ImportFrom) or is_lazy(node), name


def is_lazy(node: ast.stmt) -> bool:
    """Whether it is there for imports on demand, of what is inert, and for type checkers, which are told of them."""
    return (isinstance(node, ast.FunctionDef) and node.name == "__getattr__") or (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )


PACKAGE = {
    "policy/__init__.py": "",
    "policy/one.py": """
'''A module.'''
from typing import TYPE_CHECKING
import numpy as np
from policy.two import X
if TYPE_CHECKING:
    from policy import four

class Thing:
    "It does."
    size: int = 1

    def run(self):
        "Run."
        from policy import three
        return three.Y  # of three
""",
    "policy/two.py": "X = 1\nFeature('a', 'b', 'It was {:.2f}.', 2.5)\n",
    "policy/three.py": "Y = 2\n",
    "policy/four.py": "Z = 3\n",
}


@pytest.mark.parametrize(
    ("file", "before", "after", "same"),
    [
        ("one", "A module.", "Another sentence.", True),
        ("one", "It does.", "It did.", True),
        ("one", '        "Run."\n', "", True),
        ("one", "# of three", "# of the third", True),
        ("one", "\n\n", "\n\n\n\n", True),
        ("one", "import numpy as np\n", "import numpy as np  # noqa\n\n", True),
        ("one", "size: int = 1", "size: int = 2", False),
        ("one", "size: int = 1", "size: float = 1", False),
        ("one", "three.Y", "-three.Y", False),
        ("two", "X = 1", "X = 1.0", False),
        ("two", "It was {:.2f}.", "It has been {:.3f}.", True),
        ("two", "2.5", "2.0", False),
        ("three", "2", "3", False),
        ("four", "3", "4", True),  # for type checkers alone
    ],
)
def test_what_of_a_module_counts(
    file: str, before: str, after: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for change in (False, True):
        top = tmp_path / str(change)
        for name, content in PACKAGE.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace(before, after) if change and path.stem == file else content)
        monkeypatch.setattr(code_hash, "TOP", top)
        digest.cache_clear()
        digests.append(digest("policy.one"))
    digest.cache_clear()
    assert (digests[0] == digests[1]) == same


def test_what_there_is_not() -> None:
    with pytest.raises(ModuleNotFoundError, match=re.escape("pipeline.nowhere is no module of lrpilot")):
        digest("pipeline.nowhere")
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-package"):
        digest(RECORDING, packages=("no-such-package",))
