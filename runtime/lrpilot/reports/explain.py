"""Features and guard events in plain words, for `Decision.explain`."""

from __future__ import annotations

import math

from lrpilot.decisions.features import BY_NAME, CLIP, Feature

OTHER = Feature("of another version", "loss", sentence="")  # stands for a feature that the table does not have

EVENTS = {
    "collapsed": "the weights were lost early; the training begins again, a decade lower",
    "no_progress": "nothing learned, weights damaged; the training begins again, a decade lower",
    "rise_undone": "the weights were lost after a rise; back to before it",
    "loss_nonfinite": "the loss is nan or inf to the end of the interval",
    "loss_missing": "no loss was reported in the interval",
    "loss_runaway": "nearly all of the latest losses lie above those before training",
    "loss_rise": "the loss has given back half of what it had gained",
    "policy_failed": "the policy raised; the built-in schedule answers",
    "action_nonfinite": "the policy answered nan or inf; the built-in schedule answers",
    "action_out_of_bounds": "the policy answered outside [-1, 1]; the built-in schedule answers",
    "unearned": "no high level before the loss has fallen, and none too near the probe's edge",
    "recovery": "after a cut the level rises no faster than this, after a restart no higher",
}

ROUTINE = ("recovery", "unearned")  # part of a healthy training: no alarm, no mark, no warning


def is_alarm(event: str | None) -> bool:
    """Whether a decision's event says that something went wrong."""
    return event is not None and event not in ROUTINE


def say(name: str, value: float) -> str:
    """One feature in words; of one that is not known, nothing."""
    feature = BY_NAME.get(name, OTHER)
    if not feature.sentence:
        return ""
    return feature.sentence.format(feature.quantity(value)) + (", or beyond" if abs(value) >= CLIP else "")


def findings(observation: dict[str, float], telemetry: dict[str, float], most: int) -> list[str]:
    """Names of the largest findings, largest first: of probe and network at the first decision, of the training later.

    Features made from telemetry that is not finite are stand-ins, and left out.
    """
    first = bool(observation.get("first"))

    def is_finding(feature: Feature) -> bool:
        measured = math.isfinite(telemetry.get(feature.source or "", 0.0))
        return feature.sentence is not None and feature.per_run == first and measured

    sizes = {name: abs(value) for name, value in observation.items() if value and is_finding(BY_NAME.get(name, OTHER))}
    return sorted(sizes, key=lambda name: -sizes[name])[:most]
