"""What counts as the code of a result: which modules, and what of them."""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path

import pytest

from code_copy import counting
from pipeline.code_hash import INERT, closure, digest
from pipeline.import_graph import file, graph, is_module, is_package, within

RECORDING, AGENT = "pipeline.simulation.recording", "pipeline.agent_training"
DECISIONS = ("actions", "cadence", "features", "guard", "restart", "telemetry")
PILOT = {"lrpilot.pilot", "lrpilot.probing.probe", *(f"lrpilot.decisions.{name}" for name in DECISIONS)}
TRAINING = {f"pipeline.workloads.{name}" for name in ("base", "training.population", "training.replay")}
FAMILY = {f"pipeline.workloads.{name}" for name in ("base", "networks.small", "building.sampling")}
FAMILY |= {"lrpilot.decisions.optimizer_kinds"}
TEXTS = {
    "lrpilot.cli",
    "lrpilot.reports.explain",
    "lrpilot.reports.history",
    "lrpilot.reports.plot",
    "lrpilot.policy_file.registry",
    "lrpilot.policy_file.policy_cache",
}


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (
            RECORDING,
            PILOT
            | TRAINING
            | {f"pipeline.simulation.{name}" for name in ("behaviour_policy", "schedules", "simulate")},
        ),
        (RECORDING, {"policy.trajectories", "lrpilot.policy_file.bundle", "lrpilot.policy_file.onnxfile"}),
        (AGENT, {f"policy.{name}" for name in ("agents", "mdp", "observations", "store", "trajectories")}),
        (
            AGENT,
            {
                "lrpilot.decisions.actions",
                "lrpilot.decisions.features",
                "lrpilot.probing.probe_curve",
                "lrpilot.decisions.telemetry",
            },
        ),
        ("pipeline.simulation.follow", TRAINING),
        (
            "pipeline.evaluation.methods.pilot_loop",
            PILOT | {"lrpilot.torch", "lrpilot.loop.rates", "lrpilot.loop.rollback"},
        ),
        (
            "experiments.original.trainings.loop",
            PILOT | {"lrpilot.torch", "experiments.original.trainings.rate_setters"},
        ),
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
    assert not closure(AGENT) & {"lrpilot.decisions.guard", "lrpilot.pilot", RECORDING, *TRAINING}
    whole, without = (
        closure("experiments.original.trainings.loop"),
        closure("experiments.original.trainings.loop", unused=("lrpilot",)),
    )
    assert without == {name for name in whole if not name.startswith("lrpilot.")}


@pytest.mark.parametrize(
    ("family", "others"),
    [
        ("heldout.small", {"heldout.small", "benchmark.small", "datasets.packaged"}),
        ("heldout.texts", {"heldout.texts", "benchmark.texts", "datasets.text", "datasets.windows"}),
        (
            "selection.small_transfers",
            {"selection.small_transfers", "benchmark.transfers", "datasets.packaged", "datasets.shifts"},
        ),
        ("building.reinitialised", {"building.reinitialised"}),
    ],
)
def test_a_family_depends_on_its_module_and_what_that_imports(family: str, others: set[str]) -> None:
    assert closure(f"pipeline.workloads.{family}") == FAMILY | {f"pipeline.workloads.{name}" for name in others}


@pytest.mark.parametrize("name", INERT)
def test_what_is_inert_exists(name: str) -> None:
    assert is_module(name)


@pytest.mark.parametrize("package", sorted(name for name in graph().modules if is_package(name)))
def test_a_package_itself_holds_imports_and_texts_alone(package: str) -> None:
    """For its own file does not count."""
    for node in [] if within(package, INERT) else ast.parse(file(package).read_text()).body:
        if isinstance(node, ast.Expr | ast.Assign):
            ast.literal_eval(node.value)
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom) or is_lazy(node)


def is_lazy(node: ast.stmt) -> bool:
    """Whether it is there for imports on demand, of what is inert, and for type checkers, which are told of them."""
    return (isinstance(node, ast.FunctionDef) and node.name == "__getattr__") or (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )


FILES = {
    "policy/__init__.py": "",
    "policy/deep/__init__.py": "'''Empty.'''",
    "policy/one.py": """
'''A module.'''
from typing import TYPE_CHECKING
import numpy as np
from policy.two import X
if TYPE_CHECKING:
    from policy import four
LATER = "policy.five:W"

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
    "policy/five.py": "W = 4\n",
}
LAZY = "from policy import three"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"A module.": "Another sentence."}, True),
        ({"It does.": "It did."}, True),
        ({'        "Run."\n': ""}, True),
        ({"# of three": "# of the third"}, True),
        ({"\n\n": "\n\n\n\n"}, True),
        ({"import numpy as np\n": "import numpy as np  # noqa\n\n"}, True),
        ({"size: int = 1": "size: int = 2"}, False),
        ({"size: int = 1": "size: float = 1"}, False),
        ({"three.Y": "-three.Y"}, False),
        ({"X = 1": "X = 1.0"}, False),
        ({"It was {:.2f}.": "It has been {:.3f}."}, True),
        ({"2.5": "2.0"}, False),
        ({"Y = 2": "Y = 3"}, False),
        ({"Z = 3": "Z = 4"}, True),  # for type checkers alone
        ({"W = 4": "W = 5"}, False),
        # where modules lie, and how they are named
        ({"policy/two": "policy/deep/second", "policy.two": "policy.deep.second"}, True),
        ({"policy/three": "policy/third", LAZY: "from policy import third", "three.Y": "third.Y"}, True),
        ({"policy/three": "policy/deep/three", LAZY: "from policy.deep import three"}, True),
        ({LAZY: "from . import three"}, True),
        ({LAZY: "import policy.three as last", "three.Y": "last.Y"}, True),
        ({LAZY: "import policy.three", "three.Y": "policy.three.Y"}, True),
        ({"policy/three": "policy/deep/last", LAZY: "import policy.deep.last", "three.Y": "policy.deep.last.Y"}, True),
        ({"policy/four": "policy/deep/four", "from policy import four": "from policy.deep import four"}, True),
        ({"policy/five": "policy/deep/fifth", "policy.five": "policy.deep.fifth"}, True),
        ({"from policy.two import X\n": "", "import numpy": "from policy.two import X\nimport numpy"}, True),
        ({"policy.two import X": "policy.three import X"}, False),
        ({"policy.two import X": "policy.two import X as Y"}, False),
        ({LAZY: "from policy import two as three"}, False),
        ({"policy.five:W": "policy.five:V"}, False),
        ({"policy.five:W": "policy.four:W"}, False),
    ],
)
def test_what_of_a_module_counts(changes: dict[str, str], same: bool, tmp_path: Path) -> None:
    assert (hashed(FILES, tmp_path / "before") == hashed(changed(FILES, changes), tmp_path / "after")) == same


@pytest.mark.parametrize("other", ["def f(three): ...", "three = 1", "from math import e as three", "class three: ..."])
def test_a_name_with_two_meanings(other: str, tmp_path: Path) -> None:
    """A module's name that also stands for something else: the module still moves, and is not another one."""
    files = {**FILES, "policy/one.py": FILES["policy/one.py"].replace("LATER", f"{other}\nLATER")}
    one, two, three = (
        hashed(changed(files, changes), tmp_path / str(i))
        for i, changes in enumerate((
            {}, {"policy/three": "policy/deep/three", LAZY: "from policy.deep import three"},
            {LAZY: "from policy import two as three"},
        ))
    )  # fmt: skip
    assert one == two != three


def changed(files: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """The files after replacements in their paths and texts."""
    for old, new in changes.items():
        assert any(old in text for item in files.items() for text in item)
        files = {path.replace(old, new): text.replace(old, new) for path, text in files.items()}
    return files


def hashed(files: dict[str, str], top: Path) -> str:
    """The digest of policy.one in a package of these files."""
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    with counting(top):
        return digest("policy.one")


def test_what_there_is_not() -> None:
    with pytest.raises(ModuleNotFoundError, match=re.escape("pipeline.nowhere is no module of lrpilot")):
        digest("pipeline.nowhere")
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-package"):
        digest(RECORDING, packages=("no-such-package",))
