"""At which optimizer steps a pilot looks and decides.

A training of N steps is: a probe (rolled back, see `probe.py`), then decisions. Decision 0 falls at the end of the
probe, which may come early when the loss blows up; all later decisions fall on a grid that depends on N alone, close
together at first, uniform afterwards. Telemetry of parameters is taken on the last few steps before a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class CadenceSpec:
    """The part of a policy's manifest that places probe, decisions and windows in a training of N steps.

    Attributes:
        probe_fraction: share of N that the probe may take.
        probe_min: steps of the probe, at least.
        probe_max: steps of the probe, at most.
        probe_from: trainings of fewer steps are not probed.
        early: number of the first intervals, which grow geometrically.
        early_fraction: their share of the steps after the probe.
        early_growth: length of the last of them over that of the first.
        late: number of the uniform intervals that follow.
        window: steps before a decision on which gradients and weights are measured.
        losses: losses kept per interval, at most, evenly spaced.
    """

    probe_fraction: float = 0.05
    probe_min: int = 16
    probe_max: int = 240
    probe_from: int = 64
    early: int = 11
    early_fraction: float = 0.06
    early_growth: float = 5.0
    late: int = 32
    window: int = 4
    losses: int = 64


@dataclass(frozen=True)
class Cadence:
    """`CadenceSpec` worked out for one training of `total_steps` optimizer steps."""

    spec: CadenceSpec
    total_steps: int
    probe: bool
    passed: tuple[int, ...] = ()  # bounds that lay behind when `total_steps` was changed
    changed_at: int = 0  # completed steps at the time
    probe_steps: int = field(init=False)  # 0 without a probe
    bounds: np.ndarray = field(init=False)  # (D + 1,) int64: latest step of decision 0, of decisions 1..D-1, then N

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(f"total_steps: {self.total_steps!r}, want the number of optimizer steps, at least 1")
        s, n = self.spec, self.total_steps
        probed = self.probe and n >= s.probe_from
        start = int(np.clip(round(s.probe_fraction * n), s.probe_min, s.probe_max)) if probed else 0
        start = self.passed[0] if self.passed else start
        rest = n - start
        growth = s.early_growth ** (np.arange(s.early) / max(s.early - 1, 1))
        lengths = np.maximum(growth / growth.sum() * max(2.0 * s.early, s.early_fraction * rest), 2.0)
        early = start + np.cumsum(lengths)
        late = early[-1] + np.arange(1, s.late + 1) / s.late * (n - early[-1]) if early[-1] < n else np.array([n])
        grid = np.unique(np.rint(np.concatenate([[start], early, late])).astype(np.int64))
        if self.passed:  # a whole window must fit before the next bound
            grid = np.concatenate([self.passed, grid[grid >= self.changed_at + s.window]])
        bounds = np.append(grid[grid < n], n)
        bounds.setflags(write=False)
        object.__setattr__(self, "probe_steps", start)
        object.__setattr__(self, "bounds", bounds)

    @property
    def decisions(self) -> int:
        """Number of decisions D of the episode."""
        return len(self.bounds) - 1

    def changed(self, total_steps: int, step: int, decision: int) -> Cadence:
        """The rest of a training whose length becomes `total_steps` after `step` steps and `decision` decisions.

        Raises ValueError unless at least one step is left after those made and the probe's.
        """
        least = max(step, self.probe_steps)
        if total_steps <= least:
            raise ValueError(f"total_steps: {total_steps!r}, want more than {least}, made so far or the probe's")
        passed = tuple(int(b) for b in self.bounds[: max(decision, 1)] if b < total_steps)
        return Cadence(self.spec, total_steps, self.probe, passed, least)

    def interval(self, interval: int) -> tuple[int, int]:
        """Completed steps at which interval `interval` (0-based) begins and ends."""
        begin, end = self.bounds[interval : interval + 2].tolist()
        return begin, end

    def window_start(self, interval: int) -> int:
        """Completed steps at which the telemetry window of interval `interval` (0-based) opens."""
        begin, end = self.interval(interval)
        return max(begin, end - self.spec.window)

    def stride(self, interval: int) -> int:
        """Every how many steps, counted back from the end of the interval, a loss is kept: `spec.losses` at most."""
        begin, end = self.interval(interval)
        return -(-(end - begin) // self.spec.losses)
