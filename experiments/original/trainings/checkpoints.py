"""Run a training from its beginning or its last checkpoint to its end, with a checkpoint after every epoch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from experiments.original.trainings.loop import Loop
from experiments.original.trainings.training import Training
from policy import trajectories


class TooLargeError(MemoryError):
    """A training that does not fit into the device's memory."""


def train(training: Training, checkpoint: Path | None = None) -> dict[str, Any]:
    """Run a training to its end, from its checkpoint if there is one; returns `Loop.result()`.

    Raises `TooLargeError` if memory does not suffice, OSError if a checkpoint cannot be written.
    """
    with _enough_memory(training):
        loop = Loop(training)
        if checkpoint is not None and checkpoint.exists():
            loop.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
        while not loop.over:
            loop.epoch()
            if checkpoint is not None and not loop.over:
                _save(loop, checkpoint)
        return loop.result()


def _save(loop: Loop, checkpoint: Path) -> None:
    content = io.BytesIO()  # torch's own writer does not tell a full disk from other mishaps
    torch.save(loop.state_dict(), content)
    try:
        trajectories.store(content.getvalue(), checkpoint)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; make room or allow writing", str(checkpoint)) from None


@contextmanager
def _enough_memory(training: Training) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        size = training.setting.batch_size
        raise TooLargeError(
            f"{training.title}: out of memory on {training.device} at training.settings.{training.model}.batch_size "
            f"{size}; lower it, set training.amp to bf16, or take fewer training.workers or a smaller model"
        ) from error
