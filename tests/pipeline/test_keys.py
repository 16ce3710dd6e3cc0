"""What re-keys what: an edit of the code, in a copy of it, and an upgrade of a package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import code_hash, train
from pipeline.code_hash import FOLDERS
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
    code_hash.digest.cache_clear()
    specs = {
        name: Spec(name, 1, 2, True, (("linear", 1.0),), (), (0.1, 0.9), None, 32, "cpu", code(name))
        for name in ("illconditioned", "tabular")
    }
    return {
        **{f"recorded {name}": spec.file() for name, spec in specs.items()},
        "agent": train.plan(PARAMS, "data")["seed0"].key(), "facts": facts_key(TASK, 2, "cpu"),
        **{name: Run(TASK, method, 0).key() for name, method in METHODS.items()},
    }  # fmt: skip


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No digest of a copy outlives its test."""
    yield
    code_hash.digest.cache_clear()


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return keys()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all packages, whose code is what counts."""
    for package, folder in FOLDERS.items():
        patterns = shutil.ignore_patterns("*.onnx", "*.json", "__pycache__")
        shutil.copytree(TOP / folder / package, tmp_path / folder / package, ignore=patterns)
    monkeypatch.setattr(code_hash, "TOP", tmp_path)
    return tmp_path


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
        ("runtime/lrpilot/guard.py", "\n\n\n", "\n\n\n# A comment.\n", set()),
        ("runtime/lrpilot/cli.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/announcer.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/explain.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/features.py", "decades over the anchor", "decades above the anchor", set()),
        ("pipeline/tracking/stage_log.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("pipeline/reporting/scores.py", "\nSPLITS = ", "\nCHANGED = True\nSPLITS = ", set()),
        ("pipeline/evaluate.py", "\nimport ", "\nCHANGED = True\nimport ", set()),
        ("runtime/lrpilot/features.py", "CLIP = 5.0", "CLIP = 5.5", PILOTED | {"agent"}),
        ("runtime/lrpilot/observer.py", "MEMORY = 4", "MEMORY = 5", PILOTED | {"agent"}),
        ("runtime/lrpilot/guard.py", "BACK_OFF = 0.5", "BACK_OFF = 0.6", PILOTED),
        ("runtime/lrpilot/rates.py", "\nclass Rates", "\nCHANGED = True\n\n\nclass Rates", {"pilot"}),
        ("policy/mdp.py", "WORST = 1.5", "WORST = 2.0", {"agent"}),
        ("policy/trajectories.py", "FORMAT = 6", "FORMAT = 7", RECORDED | {"agent"}),
        ("pipeline/simulation/simulate.py", "= 128", "= 129", RECORDED | LEARNED),
        ("pipeline/simulation/follow.py", "= 128", "= 129", KNOWN | LOOPED),
        ("pipeline/simulation/behaviour.py", "0.08", "0.09", RECORDED),
        ("pipeline/evaluation/rivals.py", "WARM_UP = 0.05", "WARM_UP = 0.06", LOOPED),
        ("pipeline/evaluation/runs.py", "CURVE_POINTS = 100", "CURVE_POINTS = 50", RUNS | {"facts"}),
        ("pipeline/workloads/population.py", "RETIRED = 0.25", "RETIRED = 0.5", EVERY_TRAINING),
        ("pipeline/workloads/synthetic.py", "\nimport ", "\nX = 1\nimport ", EVERY_TRAINING - {"recorded tabular"}),
        ("pipeline/workloads/tabular.py", "\nFAMILIES", "\nX = 1\nFAMILIES", {"recorded tabular"}),
    ],
)  # fmt: skip
def test_an_edit_rekeys_what_it_can_change(
    file: str, old: str, new: str, rekeyed: set[str], copy: Path, before: dict[str, str]
) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
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
    assert changed(before) == rekeyed
