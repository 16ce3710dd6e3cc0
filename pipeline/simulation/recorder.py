"""What is recorded of the runs of a workload, however they are driven: validation at milestones, the best checkpoint,
and the test at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from lrpilot.decisions.network_size import NetworkSize
from pipeline.workloads.base import Data, Workload

Scores = tuple[np.ndarray, np.ndarray]  # losses (K,), error rates (K,)


class ProbeRecording(NamedTuple):
    """The recorded probes of K runs, by level of the climb (K, probe steps); nan past the end of a run's curves."""

    loss: np.ndarray
    grad: np.ndarray  # gradient norm
    used: np.ndarray  # (K,) int: levels that the curves cover


@dataclass
class Recording:
    """The recording of K runs of one workload. Lists per decision have D + 1 entries; the last one is the end."""

    alive: np.ndarray  # (K,) bool: ended with a finite loss
    steps: list[np.ndarray] = field(default_factory=list)  # (K,) completed steps at the decision
    levels: list[np.ndarray] = field(default_factory=list)  # (K,) level in force after the decision
    rates: list[np.ndarray] = field(default_factory=list)  # (K,) learning rate of the following step
    telemetry: list[dict[str, np.ndarray]] = field(default_factory=list)  # of the interval before the decision
    val_error: list[np.ndarray] = field(default_factory=list)  # (K,)
    val_loss: list[np.ndarray] = field(default_factory=list)  # (K,)
    probe: ProbeRecording | None = None
    anchor: np.ndarray | None = None  # (K,)
    size: NetworkSize | None = None  # of the networks
    test_loss: np.ndarray | None = None  # (K,) at the end
    test_error: np.ndarray | None = None
    best_loss: np.ndarray | None = None  # (K,) test loss of the milestone with the lowest validation loss
    best_error: np.ndarray | None = None
    curve: np.ndarray | None = None  # (len(milestones), K) validation loss
    lr_curve: np.ndarray | None = None  # (N, K)
    guard_acts: np.ndarray | None = None  # (K,) decisions that a guard changed
    restarts: np.ndarray | None = None  # (K,) times that a run began again


class Runs(Protocol):
    """K runs in training, of which k still have weights of their own; the others have ended."""

    members: np.ndarray  # (k,) int: whose row of `snapshot` is which

    @property
    def snapshot(self) -> Tensor: ...  # (k, P + Q): all that their scores depend on

    def __len__(self) -> int: ...  # K

    def score(self, data: Data, limit: int | None = None) -> Scores: ...

    def score_of(self, snapshot: Tensor, data: Data) -> Scores: ...  # of other numbers (K, P + Q)


class BestCheckpoint:
    """For every run the weights at its lowest validation loss so far."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._best = runs.snapshot.clone()
        self._loss = np.full(len(runs), np.inf)

    def update(self, loss: np.ndarray) -> None:
        """Take the current validation losses (K,) into account. A loss that is not finite is no improvement."""
        better = loss < self._loss
        self._loss = np.where(better, loss, self._loss)
        members = self._runs.members
        rows = np.flatnonzero(better[members])
        self._best[members[rows]] = self._runs.snapshot[rows]

    def score(self, data: Data) -> Scores:
        """Losses and error rates of these weights; of the initial ones if no validation loss was finite."""
        return self._runs.score_of(self._best, data)


class Recorder:
    """Records what every training of `runs` yields.

    `milestones` are completed steps. Validation at milestones and decisions uses as many examples as `Workload.scored`
    makes of `val_examples`. Without `test`, nothing is tested, and no best checkpoint is kept.
    """

    def __init__(
        self, workload: Workload, runs: Runs, val_examples: int, milestones: Sequence[int], *, test: bool = True
    ) -> None:
        self.recording = Recording(np.ones(len(runs), bool))
        self.lr_curve = np.full((workload.n_steps, len(runs)), np.nan)  # the caller fills it
        self._workload, self._runs = workload, runs
        self._milestones, self._scored = set(milestones), workload.scored(val_examples)
        self._curve: list[np.ndarray] = []
        self._best = BestCheckpoint(runs) if test else None

    def validate(self, *, at_end: bool) -> np.ndarray:
        """Record and return the validation losses (K,) of a decision, and record the errors; at the end on all
        examples.
        """
        loss, error = self._runs.score(self._workload.val, None if at_end else self._scored)
        self.recording.val_loss.append(loss)
        self.recording.val_error.append(error)
        return loss

    def is_milestone(self, step: int) -> bool:
        """Whether validation is due after so many completed steps."""
        return step in self._milestones

    def pass_milestone(self) -> np.ndarray:
        """Record and return the validation losses (K,) of a milestone, and update the best checkpoints."""
        loss, _ = self._runs.score(self._workload.val, self._scored)
        self._curve.append(loss)
        if self._best is not None:
            self._best.update(loss)
        return loss

    def finish(self) -> Recording:
        """Test what was trained, after the validation at the end."""
        record = self.recording
        record.alive &= np.isfinite(record.val_loss[-1])
        record.curve = np.stack(self._curve) if self._curve else None
        record.lr_curve = self.lr_curve
        if self._best is not None:
            record.test_loss, record.test_error = self._runs.score(self._workload.test)
            record.best_loss, record.best_error = self._best.score(self._workload.test)
        return record
