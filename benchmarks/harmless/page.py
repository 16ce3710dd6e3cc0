"""docs/harmless.md: what went wrong first, then sums, then every case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harmless.figures import Row, best, events, regret, ruined, summary
from benchmarks.harmless.loops import METHODS, PILOT, RIVALS, UNGUARDED
from pipeline.reporting import markdown, verdict

WORST = 10


def render(r: Mapping[str, Any]) -> str:
    rows = r["rows"]
    lost = ruined(rows, PILOT)
    worst = sorted((row for row in rows if row not in lost), key=lambda row: -regret(row, PILOT))[:WORST]
    parts = [
        f"## Ruined\n\n{trainings(lost, PILOT) if lost else 'None.'}",
        f"## The {WORST} worst of the others\n\n{trainings(worst, PILOT)}",
        f"## All together\n\n{_methods(rows)}",
        f"## By what is difficult\n\n{_kinds(rows)}",
        f"## Every training\n\n{_cases(rows)}",
        f"{len(rows)} trainings of each method; policy `{r['policy'][:12]}`.",
    ]
    return "\n\n".join(parts)


def trainings(rows: Iterable[Row], *methods: str) -> str:
    """A line of each row and method."""
    head = ["training", "seed", "of", "loss before", "best rival", "end", "regret", "first level", "anchor", "events"]
    lines = []
    for row in rows:
        for method in methods:
            of = row[method]
            levels = [f"{of[name]:+.2f}" if name in of else "" for name in ("level", "anchor")]
            losses = [f"{value:.4g}" for value in (row["first"], best(row), of["final"])]
            cells = [row["case"], str(row["seed"]), method, *losses, _regret(regret(row, method)), *levels]
            lines.append([*cells, events(row, method) or "–"])
    return markdown.table(head, lines, "lrl" + "r" * 6 + "l")


def _methods(rows: Sequence[Row]) -> str:
    head = ["method", "ruined", "mean regret", "worst", "trainings with an alarm", "alarms"]
    lines = []
    for method in METHODS:
        of = summary(rows, method)
        raised = [str(of[name]) if name in of else "–" for name in ("alarmed", "alarms")]
        lines.append([method, str(of["ruined"]), verdict.number(of["regret"]), _regret(of["worst"]), *raised])
    return markdown.table(head, lines)


def _kinds(rows: Sequence[Row]) -> str:
    head = ["", "trainings", "ruined", "with an alarm", *(f"regret of {method}" for method in METHODS)]
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        of = {method: summary(mine, method) for method in METHODS}
        counts = [str(len(mine)), str(of[PILOT]["ruined"]), str(of[PILOT]["alarmed"])]
        lines.append([kind, *counts, *(verdict.number(of[method]["regret"]) for method in METHODS)])
    return markdown.table(head, lines)


def _cases(rows: Sequence[Row]) -> str:
    head = ["training", "loop", "steps", "loss before", "best rival", "pilot's regret", "worst", "ruined", "alarms",
            "unguarded", *RIVALS[:2]]  # fmt: skip
    lines = []
    for name in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == name]
        of = {method: summary(mine, method) for method in METHODS}
        means = [f"{sum(values) / len(mine):.4g}" for values in ([row["first"] for row in mine], map(best, mine))]
        cells = [name, mine[0]["loop"], str(mine[0]["steps"]), *means, _regret(of[PILOT]["regret"])]
        cells += [_regret(of[PILOT]["worst"]), str(of[PILOT]["ruined"]), str(of[PILOT]["alarms"])]
        lines.append([*cells, *(_regret(of[method]["regret"]) for method in (UNGUARDED, *RIVALS[:2]))])
    return markdown.table(head, lines, "ll" + "r" * 10)


def _regret(value: float) -> str:
    return verdict.number(value, 2) if math.isfinite(value) else "lost"


def lines(rows: Iterable[Row], methods: Sequence[str]) -> str:
    """For those who work on the guards: a line of each training, and the sums of the pilots."""
    rows = list(rows)
    sums = [f"{method}: {summary(rows, method)}" for method in methods]
    return "\n".join([trainings(rows, *methods), *sums])
