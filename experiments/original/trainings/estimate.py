"""Estimate how long the experiment will take, from a few steps and a validation of every pair, before any training
begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from joblib import cpu_count

from experiments.original.plan.config import TrainingConfig
from experiments.original.trainings.cells import steps
from experiments.original.trainings.loop import Loop
from experiments.original.trainings.training import Training
from pipeline.engines import engine, results
from policy.allowed import device

STEPS = 6  # of a rehearsal


def rehearse(training: Training) -> tuple[Training, float, float]:
    """A pair with the seconds of its optimizer step and of its validation, measured in a worker of the engine."""
    return training, *Loop(training).rehearse(STEPS)


def measure(pairs: Sequence[Training], config: TrainingConfig) -> dict[str, tuple[float, float]]:
    """For each pair, seconds of a step and of a validation. Raises `EngineError` if one cannot be trained."""
    pool = engine(config.engine, config.workers, device=device(config.device))
    return {key(pair): (step, val) for pair, step, val in results(pool, rehearse, list(pairs))}


def key(training: Training) -> str:
    """Identifies a pair: mnist.resnet18.64x50."""
    setting = training.setting
    return f"{training.about.name}.{training.model}.{setting.batch_size}x{setting.epochs}"


def seconds(trainings: Sequence[Training], measured: dict[str, tuple[float, float]], config: TrainingConfig) -> float:
    """Wall time of trainings on this machine's workers."""
    total = 0.0
    for training in trainings:
        step, val = measured[key(training)]
        total += steps(training) * step + (training.setting.epochs * training.decisions + 3) * val
    return total / (config.workers or _workers(config))


def _workers(config: TrainingConfig) -> int:
    if device(config.device) == "cpu":
        return cpu_count()
    import torch

    return torch.cuda.device_count()


def words(wall: float) -> str:
    """A duration in words."""
    if wall < 120:
        return f"{wall:.0f} seconds"
    return f"{wall / 60:.0f} minutes" if wall < 7200 else f"{wall / 3600:.1f} hours"


def report(measured: dict[str, tuple[float, float]], walls: dict[str, tuple[int, float]]) -> dict[str, Any]:
    """The figures, flat; they are also printed."""
    for name, (count, wall) in walls.items():
        print(f"prepare: stage {name}: {count} trainings, about {words(wall)}", flush=True)
    print(f"prepare: all of it about {words(sum(wall for _, wall in walls.values()))}", flush=True)
    figures: dict[str, Any] = {}
    for name, (step, val) in measured.items():
        figures |= {f"{name}.step_ms": round(1000 * step, 2), f"{name}.validation_s": round(val, 3)}
    for name, (count, wall) in walls.items():
        figures |= {f"{name}.trainings": count, f"{name}.estimate_s": round(wall)}
    return figures
