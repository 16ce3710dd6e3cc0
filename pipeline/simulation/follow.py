"""What the runs of a workload leave behind, and runs at learning rates that are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.workloads.base import Workload
from pipeline.workloads.population import Best, Population


@dataclass
class Recording:
    """What K runs of one workload left behind. Per-decision lists have D + 1 entries: the last is the end."""

    alive: np.ndarray  # (K,) bool: ended with a finite loss
    steps: list[np.ndarray] = field(default_factory=list)  # (K,) completed steps at the decision
    levels: list[np.ndarray] = field(default_factory=list)  # (K,) level in force after the decision
    rates: list[np.ndarray] = field(default_factory=list)  # (K,) learning rate of the following step
    telemetry: list[dict[str, np.ndarray]] = field(default_factory=list)  # of the interval before the decision
    val_error: list[np.ndarray] = field(default_factory=list)  # (K,)
    val_loss: list[np.ndarray] = field(default_factory=list)  # (K,)
    probe: tuple[np.ndarray, np.ndarray, np.ndarray] | None = (
        None  # loss, gradient norm (K, probe steps); steps used (K,)
    )
    anchor: np.ndarray | None = None  # (K,)
    test_loss: np.ndarray | None = None  # (K,) at the end
    test_error: np.ndarray | None = None
    best_loss: np.ndarray | None = None  # (K,) test loss of the milestone with the lowest validation loss
    best_error: np.ndarray | None = None
    curve: np.ndarray | None = None  # (len(milestones), K) validation loss
    lr_curve: np.ndarray | None = None  # (N, K)


def follow(
    workload: Workload,
    seeds: Sequence[int],
    rates: np.ndarray,
    *,
    val_examples: int = 128,
    milestones: Sequence[int] = (),
    device: str = "cpu",
) -> Recording:
    """Train one run per seed at given learning rates (N, K), without a pilot, and test it."""
    population = Population(workload, seeds, device)
    points, curve, scored, best = set(milestones), [], workload.scored(val_examples), Best(population)
    for step, lr in enumerate(rates):
        population.train_step(step, lr)
        if step + 1 in points:
            curve.append(population.score(workload.val, scored)[0])
            best.see(curve[-1])
            population.retire(~np.isfinite(curve[-1]))
    record = Recording(np.ones(len(seeds), bool), curve=np.stack(curve) if curve else None, lr_curve=rates)
    loss, error = population.score(workload.val)
    record.val_loss.append(loss)
    record.val_error.append(error)
    record.test_loss, record.test_error = population.score(workload.test)
    record.best_loss, record.best_error = best.score(workload.test)
    record.alive &= np.isfinite(loss)
    return record
