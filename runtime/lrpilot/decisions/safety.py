"""What stands between a policy's answers and `runs` trainings: caution at first, guards, and a second chance.

`caution.py`, `guard.py` and `restart.py` say what each of them does. Here they meet.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.caution import PATIENCE, Caution
from lrpilot.decisions.guard import Guard
from lrpilot.decisions.restart import DUE, VANISHED, WILD, Restart
from lrpilot.decisions.warm_up import WarmUp
from lrpilot.probing.probe import Probes


class Situation(NamedTuple):
    """Where trainings stand when a decision is due; the arrays are (runs,), levels are decades."""

    step: int  # completed ones
    total_steps: int
    level: np.ndarray
    anchor: np.ndarray
    highest: np.ndarray  # level so far
    warm_up: WarmUp
    losses: np.ndarray  # (n, runs) of the interval that has ended
    interval: dict[str, np.ndarray] | None  # all its telemetry, None at the first decision

    def steps(self, share: float) -> np.ndarray:
        """Return the completed steps (runs,) at which a share of those after the warm-up is over."""
        return self.warm_up.end + share * (self.total_steps - self.warm_up.end)


class Safety:
    """The guards of `runs` trainings. `restarts` and `rises` (runs,) bool are as `lrpilot.pilot.Pilot` has them.

    `possible`: whether the caller makes the copies that a training can be sent back to.
    """

    def __init__(self, runs: int, equation: ActionEquation, possible: bool) -> None:
        self.equation = equation
        self.guard, self.restart, self.caution = Guard(runs, equation), Restart(runs, possible), Caution(runs)
        self.restarts, self.rises = np.zeros((2, runs), bool)

    def begin(self, which: np.ndarray, probes: Probes) -> None:
        """Take in the probes of the runs `which` (runs,) bool."""
        early = probes.loss.shape[1] // 3 + 1
        self.guard.losses.begin(which, probes.climbed[:, :early])
        self.restart.begin(which, probes.grad_norm[:, :early])
        for i in np.flatnonzero(which).tolist():
            self.caution.take(i, probes.loss[i, : probes.steps[i]])

    def first_actions(
        self, answer: np.ndarray, anchor: np.ndarray, blown: np.ndarray, warning: np.ndarray
    ) -> np.ndarray:
        """Return the first actions (runs,) that replace a policy's answers (runs,); what is no action stays.

        anchor, warning (runs,): levels; blown (runs,) bool: whose probe found an edge.
        """
        equation = self.equation
        level = equation.apply(anchor, anchor, answer, True)
        edge = np.where(blown, anchor + equation.below_blowup, np.inf)
        cautious = self.caution.first_levels(level, edge, warning)
        changed = (np.abs(answer) <= 1) & (cautious != level)
        return np.where(changed, equation.invert(anchor, anchor, cautious, True), answer)

    def check(
        self, action: np.ndarray, at: Situation, probed: np.ndarray, failed: bool
    ) -> tuple[np.ndarray, list[str | None]]:
        """Return the actions (runs,) that may be applied, and each run's event; set `restarts` for the caller.

        probed (runs,) bool: whose first decision has a probe behind it; failed: the policy gave no answer.
        """
        check = partial(self.guard.check, action, level=at.level, anchor=at.anchor, probed=probed, failed=failed)
        if at.interval is None:
            free = np.full(len(at.level), np.inf)
            return check(losses=None, earned=free, most=free, fallen=np.zeros(len(at.level), bool))
        fallen, learned = self.guard.losses.clearly_below_start(), self.guard.losses.below_start()
        with np.errstate(all="ignore"):
            stride = at.interval["update_norm"] / at.interval["weight_norm"] / at.warm_up.factors(at.step)
        earned = self.caution.earned(at.level, stride, fallen)
        most = self.caution.highest_unlearned(at.step, at.steps(PATIENCE), learned | self.guard.exempt)
        checked = check(losses=at.losses, earned=earned, most=most, fallen=fallen)
        return self._second_chance(*checked, at, at.interval)

    def _second_chance(
        self, action: np.ndarray, events: list[str | None], at: Situation, interval: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, list[str | None]]:
        """Send ruined trainings back to their copies."""
        losses, high = self.guard.losses, np.maximum(at.highest, at.anchor)
        learned = losses.below_start()
        vanished = interval["grad_norm"] < VANISHED * self.restart.grad0
        lost = ~(np.isfinite(interval["loss_last"]) | np.isfinite(interval["weight_norm"]))
        lost |= losses.out_of_bounds(interval["loss_last"], WILD)
        above = np.array([event == "loss_runaway" for event in events])
        if (vain := self.restart.in_vain(at.step, learned)).any():
            self.guard.lift(vain, self.restart.level_before_restart)
        sent = self.restart.judge(at.step, at.steps(DUE), learned, vanished | above, at.level, high, lost)
        self.restarts = np.zeros_like(lost) if sent is None else sent.which & (lost | ~self.guard.exempt)
        if sent is None or not (back := self.restarts).any():
            return action, events
        self.guard.begin_again(back, sent.level)
        events = [str(name) if i else event for i, name, event in zip(back, sent.event, events, strict=True)]
        return np.where(back, self.equation.invert(at.level, at.anchor, sent.level, False), action), events

    def note(self, before: np.ndarray, after: np.ndarray) -> None:
        """Set `rises` where a decision has raised a level (runs,) from `before` to `after`."""
        self.rises = self.restart.note(before, after, self.restarts)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain Python values."""
        return {name: getattr(self, name).state_dict() for name in ("guard", "restart", "caution")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of as many runs."""
        for name in ("guard", "restart", "caution"):
            getattr(self, name).load_state_dict(state[name])
