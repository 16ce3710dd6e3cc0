"""What a `PilotLR` says to its user: a start line, warnings, and to `log` each decision and step of the probe.

Needs torch.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from lrpilot.loop import distributed
from lrpilot.loop.calls import user_level
from lrpilot.reports.history import Decision

FALLBACKS = ("policy_failed", "action_nonfinite", "action_out_of_bounds")  # guard events that are the policy's fault

LOG = logging.getLogger("lrpilot")

Log = Callable[[dict[str, float], int], Any]  # (figures, completed optimizer steps)


class Announcer:
    """Warns of each topic once, on rank 0; with `strict` it raises ValueError instead, on every rank."""

    def __init__(self, log: Log | None, strict: bool) -> None:
        self._log, self._strict = log, strict
        self.topics: list[str] = []  # that were warned of

    def warn(self, topic: str, message: str) -> None:
        """Warn the user, at the line that called this package."""
        if self._strict:
            raise ValueError(f"PilotLR: {message}")
        if topic not in self.topics:
            self.topics.append(topic)
            if distributed.leads():
                warnings.warn(f"PilotLR: {message}", stacklevel=user_level())

    def forget(self, topic: str) -> None:
        """Warn of the topic again when it comes up again."""
        self.topics = [other for other in self.topics if other != topic]

    def resume(self, topics: Iterable[str]) -> None:
        """Go on after a training that has warned of these topics."""
        self.topics = list(dict.fromkeys([*topics, *self.topics]))

    def announce(self, decision: Decision) -> None:
        """Pass the decision on to `log`, on rank 0; a log that fails is warned of, and so is a policy that does."""
        if decision.event in FALLBACKS:
            self.warn("fallback", f"{decision.event}: the built-in schedule takes the policy's place meanwhile")
        if self.logs:
            self._pass_on(decision.metrics(), decision.step)

    def start(self, sentences: Iterable[str]) -> None:
        """Log what the training is taken for, in one line, on rank 0."""
        if distributed.leads():
            LOG.info("%s", "; ".join(sentences))

    @property
    def logs(self) -> bool:
        """Whether there is a `log` to pass figures on to."""
        return self._log is not None

    def announce_probe(self, step: int, lr: float, loss: float) -> None:
        """Pass a step of the probe, made after `step` others, on to `log`, marked as one."""
        metrics = {"lrpilot/lr": lr, "lrpilot/loss": loss, "lrpilot/probe": 1.0}
        self._pass_on({name: value for name, value in metrics.items() if math.isfinite(value)}, step)

    def _pass_on(self, metrics: dict[str, float], step: int) -> None:
        if self._log is None or not distributed.leads():
            return
        try:
            self._log(metrics, step)
        except Exception as error:
            self.warn("log", f"log: {type(error).__name__}: {error}; the training goes on without")
