"""Results of trainings, one file each, named by what decides them, so no training is repeated.

Workers train and write checkpoints; only this process writes results. A kill loses at most the epoch in progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from experiments.original.plan.config import TrainingConfig
from experiments.original.trainings.cells import paths_of
from experiments.original.trainings.checkpoints import train
from experiments.original.trainings.training import Training
from pipeline.engines import engine, progress
from policy import trajectories


def compute(trainings: Sequence[Training], folder: Path, config: TrainingConfig, what: str) -> list[dict[str, Any]]:
    """The results of all trainings, in their order.

    A training that fails does not affect the others. Raises SystemExit if any has no result; a new run trains only
    those.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {training.name(): training for training in trainings}
    todo = {name: t for name, t in names.items() if not _sound(paths_of(folder, name)[0])}
    failures = 0
    if todo:
        print(f"{what}: {len(names) - len(todo)} of {len(names)} trainings are there, {len(todo)} to go", flush=True)
        device = next(iter(todo.values())).device
        pool = engine(config.engine, min(config.workers, len(todo)), device=device)
        with closing(pool.imap_unordered(partial(_work, folder=folder.resolve()), list(todo.items()))) as outcomes:
            for outcome in progress(outcomes, len(todo), what, lambda _: 1.0, "trainings"):
                name, training = outcome.item
                problem = outcome.failure.message if outcome.failure else _store(outcome.result, folder, name)
                if problem:
                    failures += 1
                    print(f"{what}: {training.title}: {problem}", file=sys.stderr, flush=True)
                    if "No space left" in problem:
                        break
    if failures:
        raise SystemExit(f"{what}: {failures} trainings failed; a new run goes on with those that have no result")
    _tidy(folder, names)
    return [json.loads(paths_of(folder, training.name())[0].read_text()) for training in trainings]


def _work(item: tuple[str, Training], folder: Path) -> dict[str, Any]:
    name, training = item
    return train(training, paths_of(folder, name)[1])


def _store(result: dict[str, Any], folder: Path, name: str) -> str:
    """Write a result and delete its checkpoint. Returns the problem, if there was one."""
    path, checkpoint = paths_of(folder, name)
    try:
        trajectories.store((json.dumps(result) + "\n").encode(), path)
    except OSError as error:
        return f"{path}: {error.strerror}; make room or allow writing there, then run again"
    checkpoint.unlink(missing_ok=True)
    return ""


def _sound(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        print(f"{path}: damaged; it is trained again", flush=True)
        return False
    return True


def _tidy(folder: Path, names: dict[str, Training]) -> None:
    """Remove results and checkpoints of other parameters or code."""
    for path in folder.iterdir():
        if path.stem not in names or path.suffix != ".json":
            path.unlink()
