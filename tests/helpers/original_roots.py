"""Tiny roots for the original experiment: its mirror once, parameters of one or a few pairs, arrays laid out."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import yaml

from experiments.original.plan.config import EmbeddedConfig, Original, load
from experiments.original.plan.paths import OriginalPaths
from experiments.original.prepare import lay_out
from experiments.original.sources.mirror import write_mirror
from experiments.original.trainings.cells import pairs
from experiments.original.trainings.training import Training
from pipeline.config import overlay
from repository import TOP
from tools.profile import content


@functools.cache
def mirror() -> Path:
    """A small mirror of all data sets, for tests that only read it."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-"))
    write_mirror(folder, EmbeddedConfig(train=96, test=32, vocabulary=300, hidden=8, layers=1, pretraining=0))
    return folder


def root(folder: Path, where: Path | None = None, **sections: dict[str, Any]) -> tuple[Original, OriginalPaths]:
    """Write FOLDER/params.yaml: those of plan-tiny with a mirror folder, and what `sections` change."""
    folder.mkdir(parents=True, exist_ok=True)
    _, params = content("plan-tiny", TOP, "PROFILE")
    params = overlay(overlay(params, {"data": {"mirror": str(where or mirror())}}), sections)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return load(folder), OriginalPaths(folder)


def laid_out(folder: Path, **sections: dict[str, Any]) -> tuple[Original, OriginalPaths]:
    """`root`, with its data sets ready for trainings."""
    made = root(folder, **sections)
    lay_out(*made)
    return made


def pair(made: tuple[Original, OriginalPaths], name: str, model: str) -> Training:
    """The training of a pair, by its first setting."""
    return next(t for t in pairs(*made) if (t.about.name, t.model) == (name, model))


def result(scheduler: str, rate: float, seed: int, loss: float, **more: Any) -> dict[str, Any]:
    """A run of two epochs that began at a loss of 2 and an error of 0.9."""
    curve = [
        {"step": s, "lr": rate, "val_loss": v, "val_error": e}
        for s, v, e in ((0, 2.0, 0.9), (10, 1.5, 0.4), (20, loss, 0.1))
    ]
    own = {
        "dataset": "mnist", "model": "vgg16", "batch_size": 64, "epochs": 2, "own_rate": 1e-3, "scheduler": scheduler,
        "learning_rate": rate, "seed": seed, "steps": 20, "diverged": False, "train_runtime": 1.0, "eval_loss": loss,
        "eval_accuracy": 0.9, "eval_runtime": 0.5, "eval_samples_per_second": 20.0, "eval_steps_per_second": 2.0,
        "epoch": 2, "test_loss": loss, "test_accuracy": 0.8, "curve": curve,
    }  # fmt: skip
    return own | more
