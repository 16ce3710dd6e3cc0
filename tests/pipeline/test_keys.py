"""What re-keys what: an edit of the code, and a move, in a copy of it, and an upgrade of a package."""

from __future__ import annotations

import ast
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from code_copy import FOLDERS, copy_code, counting
from pipeline import train
from pipeline.config import load
from pipeline.evaluation.methods.loops import Rival, UserScheduler
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.methods.policies import Learned, Ruled
from pipeline.evaluation.methods.schedules import Replayed, Scheduled
from pipeline.evaluation.rivals import RIVALS
from pipeline.evaluation.runs import Run, facts_key
from pipeline.evaluation.splits import Task
from pipeline.simulation.recording import Spec, code
from pipeline.workloads.families import family
from repository import TOP

KNOWN, LEARNED = {"scheduled", "replayed"}, {"rule", "policy"}  # methods, by what drives them
LOOPED = {"own", "pilot", *RIVALS}
RUNS = KNOWN | LEARNED | LOOPED
METHODS: dict[str, Method] = {
    "scheduled": Scheduled("grid", "a", schedule="linear", lr0=0.1),
    "replayed": Replayed("control", "a", (-3.0, -4.0)),
    "rule": Ruled("rival", "a", "finder_tenth"),
    "policy": Learned("policy", "a", "default"),
    "own": UserScheduler("rival", "a", "tiny:world"),
    "pilot": PilotLoop("loop", "a", "default"),
    **{name: Rival("rival", name, name) for name in RIVALS},
}
PARAMS = load(TOP)
TASK = Task("train", "illconditioned", 1)


def keys() -> dict[str, str]:
    """Of one recording of each of two families, an agent, what is known of a task, and a run of every method."""
    specs = {
        name: Spec(name, 1, 2, True, (("linear", 1.0),), (), (0.1, 0.9), None, 32, "cpu", code(name))
        for name in ("illconditioned", "tabular")
    }
    return {
        **{f"recorded {name}": spec.file() for name, spec in specs.items()},
        "agent": train.plan(PARAMS, "data")["seed0"].key(), "facts": facts_key(TASK, 2, "cpu"),
        **{name: Run(TASK, method, 0).key() for name, method in METHODS.items()},
    }  # fmt: skip


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return keys()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """A copy of all packages, whose code is what counts."""
    copy_code(tmp_path)
    with counting(tmp_path):
        yield tmp_path


def changed(before: dict[str, str]) -> set[str]:
    after = keys()
    return {name for name, key in before.items() if after[name] != key}


def test_a_copy_has_the_same_keys(copy: Path, before: dict[str, str]) -> None:
    assert len({*before.values()}) == len(before) == len(METHODS) + 4
    assert changed(before) == set()


RECORDED = {"recorded illconditioned", "recorded tabular"}
EVERY_TRAINING = RECORDED | RUNS | {"facts"}
PILOTED = RECORDED | LEARNED | {"pilot"}


@pytest.mark.parametrize(
    ("file", "old", "new", "rekeyed"),
    [
        ("runtime/lrpilot/pilot.py", '"""', '"""Reworded: ', set()),
        ("runtime/lrpilot/decisions/guard.py", "\n\n\n", "\n\n\n# A comment.\n", set()),
        ("runtime/lrpilot/cli.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/loop/announcer.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/reports/explain.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/decisions/features.py", "decades over the anchor", "decades above the anchor", set()),
        ("pipeline/tracking/stage_log.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("pipeline/reporting/scores.py", "\nSPLITS = ", "\nCHANGED = True\nSPLITS = ", set()),
        ("pipeline/evaluate.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/decisions/features.py", "CLIP = 5.0", "CLIP = 5.5", PILOTED | {"agent"}),
        ("runtime/lrpilot/decisions/observer.py", "MEMORY = 4", "MEMORY = 5", PILOTED | {"agent"}),
        ("runtime/lrpilot/decisions/guard.py", "BACK_OFF = 0.5", "BACK_OFF = 0.6", PILOTED),
        ("runtime/lrpilot/loop/rates.py", "\nclass Rates", "\nCHANGED = True\n\n\nclass Rates", {"pilot"}),
        ("policy/mdp.py", "WORST = 1.5", "WORST = 2.0", {"agent"}),
        ("policy/trajectories.py", "FORMAT = 8", "FORMAT = 9", RECORDED | {"agent"}),
        ("pipeline/simulation/simulate.py", "= 128", "= 129", RECORDED | LEARNED),
        ("pipeline/simulation/follow.py", "= 128", "= 129", KNOWN | LOOPED),
        ("pipeline/simulation/behaviour.py", "0.08", "0.09", RECORDED),
        ("pipeline/evaluation/rivals.py", "WARM_UP = 0.05", "WARM_UP = 0.06", LOOPED),
        ("pipeline/evaluation/runs.py", "CURVE_POINTS = 100", "CURVE_POINTS = 50", RUNS | {"facts"}),
        ("pipeline/workloads/training/population.py", "RETIRED = 0.25", "RETIRED = 0.5", EVERY_TRAINING),
        (
            "pipeline/workloads/recorded/synthetic.py", "\nimport ", "\nX = 1\nimport ",
            EVERY_TRAINING - {"recorded tabular"},
        ),
        ("pipeline/workloads/recorded/tabular.py", "\nFAMILIES", "\nX = 1\nFAMILIES", {"recorded tabular"}),
    ],
)  # fmt: skip
def test_an_edit_rekeys_what_it_can_change(
    file: str, old: str, new: str, rekeyed: set[str], copy: Path, before: dict[str, str]
) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    assert changed(before) == rekeyed


def test_pythons_version_counts_where_its_texts_are_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the library and of the help, for trainings and for what is known of a task."""
    names = ("prose_lm", "prose_gpt", "stdlib_bag", "stdlib_gpt", "reports_gpt", "topics_bag", "illconditioned")

    def of_tasks() -> dict[str, tuple[str, ...]]:
        tasks = {name: Task(family(name).split, name, 1) for name in names}
        return {
            name: (Run(task, METHODS["scheduled"], 0).key(), facts_key(task, 2, "cpu")) for name, task in tasks.items()
        }

    here = of_tasks()
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    with counting(TOP):
        other = of_tasks()
    same = [name for name in names if other[name] == here[name]]
    assert same == ["reports_gpt", "topics_bag", "illconditioned"]
    assert all({*other[name]}.isdisjoint(here[name]) for name in names if name not in same)


@dataclass
class Follow(ast.NodeTransformer):
    """Follows the move of a module, in a file that imports it."""

    old: str
    new: str

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        (above, _, leaf), (folder, _, name) = self.old.rpartition("."), self.new.rpartition(".")
        if node.module == self.old:
            node.module = self.new
        elif node.module == above and (moved := [alias for alias in node.names if alias.name == leaf]):
            node.names = [alias for alias in node.names if alias not in moved]
            import_ = ast.ImportFrom(folder, [ast.alias(name, moved[0].asname or leaf)], 0)
            return [import_, node] if node.names else import_
        return node


def move(top: Path, old: str, new: str) -> Path:
    """Move a module, rewrite all imports of it, and return its file."""
    files = [top.joinpath(FOLDERS[name.partition(".")[0]], *name.split(".")).with_suffix(".py") for name in (old, new)]
    files[1].parent.mkdir(exist_ok=True)
    (files[1].parent / "__init__.py").touch()
    files[0].rename(files[1])
    for path in top.rglob("*.py"):
        if old.rpartition(".")[2] in (text := path.read_text()):
            path.write_text(ast.unparse(Follow(old, new).visit(ast.parse(text))))
    return files[1]


@pytest.mark.parametrize(
    ("old", "new", "line", "rekeyed"),
    [
        ("pipeline.workloads.training.population", "pipeline.workloads.many.crowd", "RETIRED = 0.25", EVERY_TRAINING),
        ("policy.trajectories", "policy.files.trajectories", "FORMAT = 8", RECORDED | {"agent"}),
        ("lrpilot.decisions.features", "lrpilot.seen.features", "CLIP = 5.0", PILOTED | {"agent"}),
        ("lrpilot.decisions.telemetry", "lrpilot.measured", "SKETCH = ", PILOTED | {"agent"}),
    ],
)
def test_a_module_may_move(
    old: str, new: str, line: str, rekeyed: set[str], copy: Path, before: dict[str, str]
) -> None:
    """It changes no key, and counts as before."""
    file = move(copy, old, new)
    assert changed(before) == set()
    text = file.read_text()
    assert line in text
    file.write_text(text.replace(line, f"CHANGED = {line}", 1))
    with counting(copy):
        assert changed(before) == rekeyed


@pytest.mark.parametrize(
    ("package", "rekeyed"),
    [
        ("prodigyopt", {"prodigy", "prodigy_cosine"}),
        ("schedulefree", {"schedule_free", "schedule_free_high"}),
        ("dadaptation", {"d_adaptation", "d_adaptation_cosine"}),
        ("mechanic-pytorch", {"mechanic_cosine"}),
        ("momo-opt", {"momo"}),
        ("dog-optimizer", {"dog", "ldog"}),
        ("transformers", {"greedy"}),
        ("d3rlpy", {"agent"}),
        ("lrpilot", set()),  # its version changes with every commit
    ],
)
def test_an_upgraded_package_rekeys_its_own_alone(
    package: str, rekeyed: set[str], before: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / f"{package.replace('-', '_')}-99.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with counting(TOP):
        assert changed(before) == rekeyed
