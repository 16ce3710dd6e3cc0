"""A guard before which losses are played, interval after interval.

Losses are made such that every line can be worked out in the head: `around` alternates about a middle, at a distance
that counts as a scatter of 1. So the line of 16 of them is their middle + 4 (1 + 3 / 15) = 4.8, that of 10 + 5.33.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.guard import Guard
from lrpilot.probing.evidence import NORMAL

EQUATION = ActionEquation(rise=0.5)
Losses = Sequence[float]
Row = dict[str, Any]  # an interval: its losses, and what else differs from an ordinary one


def around(middle: float, n: int = 10, scatter: float = 1.0) -> list[float]:
    """n losses with this median, if n is even."""
    return [middle + (-1) ** i * scatter * NORMAL / 2 for i in range(n)]


def row(losses: Losses, **more: Any) -> Row:
    """more: the policy's `answer`, the level that it `wish`es for, whether it `failed`, the highest level `earned`,
    and `most`.
    """
    return {"losses": losses, **more}


def high(loss: float, n: int = 9) -> list[float]:
    """Ten losses: n of them `loss`, the others 2."""
    return [2.0] * (10 - n) + [loss] * n


def watching(start: Losses | None) -> Guard:
    """The guard of one training with these losses before it; None: without a probe."""
    watch = Guard(1, EQUATION)
    if start is not None:
        watch.losses.begin(np.ones(1, bool), np.array([start]))
    return watch


START = around(20.0, 16)
CALM = [around(3.0, 16), around(2.0, 16), around(2.0, 16)]  # falls to a best time of 16 losses around 2
LOST = [math.inf] * 10
MISSING: Losses = []


def play(
    rows: Sequence[Losses | Row],
    wish: float = 0.0,
    level: float = 0.0,
    start: Losses | None = START,
    watch: Guard | None = None,
) -> tuple[list[str | None], list[float]]:
    """Events and levels of one run whose policy wishes for the level `wish` at every decision. Its anchor is 0."""
    watch, events, levels, anchor = watch or watching(start), [], [], np.zeros(1)
    for r in rows:
        r = r if isinstance(r, dict) else row(r)
        at = np.array([level])
        answer = EQUATION.invert(at, anchor, np.array([r.get("wish", wish)]), False)
        action, (event,) = watch.check(
            np.array([r["answer"]]) if "answer" in r else answer, level=at, anchor=anchor,
            losses=np.array(r["losses"], np.float64).reshape(-1, 1), earned=np.array([r.get("earned", math.inf)]),
            most=np.array([r.get("most", math.inf)]), fallen=watch.losses.clearly_below_start(),
            failed=r.get("failed", False),
        )  # fmt: skip
        level = EQUATION.apply(at, anchor, action, False).item()
        events.append(event)
        levels.append(level)
    return events, levels
