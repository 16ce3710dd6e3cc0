"""Trainings under the shipped policy decide as they did when golden_training.json was written."""

import json
import math
import warnings
from functools import cache
from typing import Any

import pytest

from golden_records import CLOSE, differences
from golden_training import TRAININGS, interrupted, policy_hash, processor, read

GOLDEN = read()
EVENTS = {
    "collapsed", "no_progress", "rise_undone", "loss_nonfinite", "loss_missing", "loss_runaway", "loss_rise",
    "policy_failed", "action_nonfinite", "action_out_of_bounds", "unearned", "recovery",
}  # fmt: skip
RESUMED = {
    "plain": 20, "untold": 20, "watched": 20, "sudden": 30, "failing": 6, "hopeless": 12, "lost": 12, "raised": 21,
    "extended": 30,
}  # fmt: skip
MOMENTS = ("probe", "between, probe", "window", "between, window", "decision")


@cache
def trained(name: str) -> Any:
    """As it would come back from a file."""
    return json.loads(json.dumps(TRAININGS[name]()))


@cache
def same_processor() -> bool:
    return GOLDEN["processor"] == processor()


@pytest.mark.parametrize("name", TRAININGS)
def test_decisions_are_those_on_file(name: str) -> None:
    """Bit for bit where this machine computes as the file's did; elsewhere closely, and with a warning."""
    if not same_processor():
        warnings.warn(
            f"compared within {CLOSE:g}, not bit for bit: the golden file is of {GOLDEN['processor']}, "
            f"this machine is {processor()}",
            stacklevel=1,
        )
    assert differences(GOLDEN["trainings"][name], trained(name), to_the_bit=same_processor()) == []


def test_the_file_holds_these_trainings_alone() -> None:
    assert GOLDEN["trainings"].keys() == TRAININGS.keys()


def test_every_event_is_on_file() -> None:
    decisions = [decision for record in GOLDEN["trainings"].values() for decision in record["decisions"]]
    assert {decision.get("event") for decision in decisions} == EVENTS | {None}


def test_the_policy_is_the_same_file() -> None:
    assert policy_hash() == GOLDEN["policy"] == "296b00a325cba747f66aca4b6afc5783216a55023317fd75ad2d1438a31d3482"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_is_as_if_never_stopped(name: str, moment: str) -> None:
    """Bit for bit on every machine; `between`: after the optimizer's step and before the scheduler's."""
    steps = [decision["step"] for decision in trained(name)["decisions"]]
    between, _, place = moment.rpartition(", ")
    decided = steps[RESUMED[name]]
    stop = {"probe": 7, "window": decided - 1, "decision": decided}[place]
    assert differences(trained(name), interrupted(name, stop, bool(between)), to_the_bit=True) == []


@pytest.mark.parametrize(
    ("name", "now", "same"),
    [
        ("lr", 1e-3 * (1 + CLOSE / 2), True),
        ("lr", 1e-3 * (1 + CLOSE * 2), False),
        ("level", 1e-3 + CLOSE / 2, True),
        ("level", 1e-3 + CLOSE * 2, False),
        ("level", math.nan, False),
    ],
)
def test_what_counts_as_close(name: str, now: float, same: bool) -> None:
    golden, other = ({name: value.hex(), "bits": str(value)} for value in (1e-3, now))
    assert (differences(golden, other, to_the_bit=False) == []) is same
    assert len(differences(golden, other, to_the_bit=True)) == 2


@pytest.mark.parametrize("now", [{"step": 17}, {"step": None}, {}, {"step": 16, "event": None}])
def test_steps_and_names_are_the_same_everywhere(now: dict[str, Any]) -> None:
    assert differences({"step": 16}, now, to_the_bit=False)
