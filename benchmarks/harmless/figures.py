"""From the ends of trainings to regrets, and to what a method does to all of them.

A row is one case and seed: case, kind, loop, steps, floor (of its loss), seed, first (loss), and for each method a
dict: final (loss), and for a pilot level, anchor and events (the guard's, by name, with their numbers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harmless.loops import GUARDS, RIVALS
from lrpilot.reports.explain import is_alarm

Row = Mapping[str, Any]

RUINED = 0.4  # regret above which a training counts as ruined
LEAST, MOST = -1.0, 2.0  # regrets beyond count as these in means; one that is not finite as the latter
HEALTHY = 0.2  # share of the way from the first loss to the floor that the best rival makes at least


def best(row: Row) -> float:
    """The lowest final loss of the rivals."""
    return min(row[rival]["final"] for rival in RIVALS if math.isfinite(row[rival]["final"]))


def health(row: Row) -> float:
    """How much of the way to the floor the best rival makes."""
    return (row["first"] - best(row)) / (row["first"] - row["floor"])


def regret(row: Row, method: str) -> float:
    """0: as good as the best rival; 1: no better than before training; inf: the network is lost."""
    final = row[method]["final"]
    return (final - best(row)) / (row["first"] - best(row)) if math.isfinite(final) else math.inf


def alarms(row: Row, method: str) -> int:
    return sum(n for name, n in row[method].get("events", {}).items() if is_alarm(name))


def events(row: Row, method: str) -> str:
    """The guard's events in words."""
    return ", ".join(f"{name} {n}" for name, n in row[method].get("events", {}).items())


def ruined(rows: Iterable[Row], method: str) -> list[Row]:
    return [row for row in rows if regret(row, method) > RUINED]


def summary(rows: Sequence[Row], method: str) -> dict[str, float]:
    """ruined and alarmed (trainings), alarms, regret (mean of the clipped ones), worst (regret, at most `MOST`)."""
    clipped = np.clip([regret(row, method) for row in rows], LEAST, MOST)
    of = {"ruined": len(ruined(rows, method)), "regret": float(clipped.mean()), "worst": float(clipped.max())}
    if method in GUARDS:
        raised = [alarms(row, method) for row in rows]
        of |= {"alarmed": sum(n > 0 for n in raised), "alarms": sum(raised)}
    return of
