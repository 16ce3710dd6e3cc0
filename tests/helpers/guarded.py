"""A guard before which intervals are played, one after another."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrpilot.actions import ActionEquation
from lrpilot.guard import Guard

EQUATION = ActionEquation(rise=0.5)
LOSS0 = 10.0
Row = dict[str, Any]  # what differs from an ordinary interval


def row(mean: float, last: float | None = None, noise: float = 0.1, grad: float = 1.0, **more: Any) -> Row:
    return {"mean": mean, "last": mean if last is None else last, "noise": noise, "grad": grad, **more}


def missing() -> Row:
    return row(math.nan, noise=math.nan, missing=True)


def play(
    rows: Sequence[Row], wish: float = 0.0, level: float = 0.0, loss0: float = LOSS0, watch: Guard | None = None
) -> tuple[list[str | None], list[float]]:
    """Events and levels of one run whose policy wishes for the level `wish` at every decision."""
    watch, events, levels = watch or Guard(1, EQUATION), [], []
    anchor = np.zeros(1)
    for r in rows:
        at = np.array([level])
        answer = EQUATION.invert(at, anchor, np.array([wish]), False) if "answer" not in r else np.array([r["answer"]])
        interval = {"loss_mean": r["mean"], "loss_last": r["last"], "loss_noise": r["noise"], "grad_norm": r["grad"]}
        action, (event,) = watch.check(
            answer, level=np.array([level]), anchor=anchor, loss0=np.array([loss0]), missing=r.get("missing", False),
            interval={name: np.array([value]) for name, value in interval.items()}, failed=r.get("failed", False),
        )  # fmt: skip
        level = EQUATION.apply(np.array([level]), anchor, action, False).item()
        events.append(event)
        levels.append(level)
    return events, levels


CALM = [row(2.0)] * 4
