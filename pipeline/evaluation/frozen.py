"""The oracles of the frozen tasks, in oracles.json: the best schedule and rate of a task's grid, by score.

A grid costs as much as everything else on a task, and its winner does not change. So `benchmarks.spread` stores the
winners, and `dvc repro` trains only these. An entry is valid as long as the task's entry in splits.json is the one that
its grid was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from lrpilot import digests
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.splits import Task, entry

ORACLES = Path(__file__).with_name("oracles.json")
Winners = Mapping[str, Scheduled]  # by score


def oracles(tasks: Iterable[Task]) -> dict[str, Winners]:
    """By name the winners of those tasks that the file has."""
    known = json.loads(ORACLES.read_text(encoding="utf-8"))
    return {
        task.name: {score: Scheduled("oracle", score, **won) for score, won in known[task.name]["winners"].items()}
        for task in tasks
        if task.name in known and known[task.name]["task"] == _digest(task)
    }


def write(winners: Mapping[Task, Winners]) -> None:
    """Replace the file's content by these winners, except for tasks that splits.json lacks."""
    content = {
        task.name: {
            "task": _digest(task),
            "winners": {score: {"schedule": won.schedule, "lr0": won.lr0} for score, won in of_task.items()},
        }
        for task, of_task in winners.items()
        if _digest(task) is not None
    }
    ORACLES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def changed(winners: Mapping[Task, Winners]) -> list[str]:
    """The names of the tasks for which the file has other winners."""
    known = oracles(winners)
    return [task.name for task, of_task in winners.items() if known.get(task.name, of_task) != of_task]


def _digest(task: Task) -> str | None:
    """Hash of a task's entry in splits.json; None if it has none."""
    said = entry(task)
    return None if said is None else digests.of_json(said)[:16]
