"""The oracles of the frozen tasks, in oracles.json: which schedule and rate of a task's grid is best, by score.

A grid costs as much as all else that a task is judged by, and its winner does not change. So `benchmarks.spread` writes
the winners down, and `dvc repro` trains these alone. They are bound to what the task was: an entry counts as long as
the task's entry in splits.json is the one that its grid was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.splits import Task, entry

ORACLES = Path(__file__).with_name("oracles.json")
Winners = Mapping[str, Scheduled]  # by score


def oracles(tasks: Iterable[Task]) -> dict[str, Winners]:
    """By name the winners of those of the tasks that the file knows."""
    known = json.loads(ORACLES.read_text(encoding="utf-8"))
    return {
        task.name: {score: Scheduled("oracle", score, **won) for score, won in known[task.name]["winners"].items()}
        for task in tasks
        if task.name in known and known[task.name]["task"] == _digest(task)
    }


def write(winners: Mapping[Task, Winners]) -> None:
    """Make these the file's content, but for tasks that splits.json does not hold."""
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
    """The names of the tasks of which the file says something else."""
    known = oracles(winners)
    return [task.name for task, of_task in winners.items() if known.get(task.name, of_task) != of_task]


def _digest(task: Task) -> str | None:
    """Hash of what splits.json says of a task; None where it says nothing."""
    said = entry(task)
    return None if said is None else hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
