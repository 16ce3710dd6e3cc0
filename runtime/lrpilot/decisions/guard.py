"""What happens when a training or a policy misbehaves: the last word on an action.

Guards act at decisions only, on what the interval that ended has reported, so they never make a step wait for the
device. Each decision of each run has at most one event; where several fit, the first of this list:

    collapsed             the weights are lost before anything was learned: back to the start, lower
    no_progress           nothing was learned, and the weights are damaged: the same
    rise_undone           the weights are lost after a rise: back to before it (`restart.py` judges these three)
    loss_nonfinite        the loss is nan or inf to the end of the interval: cut the level as far as one decision can
    loss_missing          no loss was reported in the interval: hold the level
    loss_runaway          the loss is above that before training: cut; while it falls: hold
    loss_rise             the loss has given back half of what it had gained: back off
    policy_failed         the policy raised: the built-in schedule
    action_nonfinite      the policy answered nan or inf: the same
    action_out_of_bounds  the policy answered outside [-1, 1]: the same
    unearned              the policy raises the level before the loss has clearly fallen (the rise waits for that), to
                          long steps, or too near the probe's edge: no rise. Or it holds a high level although the
                          loss has not fallen for long: down to the prior (`lrpilot.decisions.caution` says all that)
    recovery              the policy asks for more than a back-off or a restart still allows, or holds: as much as that

To back off is to go `BACK_OFF` decades below the present level, or lower if the policy says so. The built-in schedule
holds the level under the envelope; at decision 0 there is none to hold, and the range test's classical rule
takes its place, a tenth of the probe's blow-up (after Smith 2017, arXiv:1506.01186), or the anchor without a probe.
After a cut or a back-off the level may rise by `RECOVER` decades per decision until it is where it was: additive
increase after a multiplicative decrease, as Chiu & Jain 1989 have it for congestion in networks. A policy that holds,
by an answer of 0, holds the level that it decided on, not the one that it was brought down to: it is led back as fast,
to where it was after a back-off, and to `BACK_OFF` below that after a cut. A move down of its own ends that. A level
that has raised an alarm twice is not led back to again.

A loss that rises further and further although the level was lowered for it does not rise because of the rate: one of
two networks that are trained against each other has such a loss. After `TRIES` lowerings in vain the training is
exempt: up to the level it had before, runaway and rise lower it no more, and it is led back there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.probing.evidence import Losses

GIVEN_BACK = 0.5  # share of what was gained that a rise gives back
BACK_OFF = 0.5  # decades
RECOVER = 0.25  # decades per decision
PATIENCE = 4  # consecutive events of the loss after which the learning rate is not their cause
TRIES = 3  # times that the level is lowered for a loss that goes on rising
STRIKES = 2  # alarms of a level, or of one less than RECOVER below it, after which it is given up
SLACK = 1e-3  # by which an action may miss [-1, 1]: rounding

STATE = (
    "streak", "bound", "recovered_at", "ceiling", "tries", "exempt_below", "target_level", "strikes", "strike_level",
    "alarm_loss", "after_nonfinite", "rise_deferred",
)  # fmt: skip


class GuardError(RuntimeError):
    """With `strict=True`: a guard would have acted. The message names the step and the event."""


class Guard:
    """Watches `runs` trainings, each on its own; the state is a fixed set of arrays that lead with the runs."""

    def __init__(self, runs: int, equation: ActionEquation) -> None:
        self.equation = equation
        self.losses = Losses(runs)
        self.streak = np.zeros(runs)  # consecutive decisions at which the loss had an event
        self.bound = np.full(runs, np.inf)  # highest level that is allowed until it has recovered
        self.recovered_at = np.full(runs, np.inf)  # level from which the bound no longer holds
        self.ceiling = np.full(runs, np.inf)  # level that is not exceeded any more
        self.tries = np.zeros(runs)  # times that the level was lowered for a finite loss since it was free last
        self.exempt_below = np.full(runs, -np.inf)  # level up to which a finite loss is not the rate's doing
        self.target_level = np.full(runs, -np.inf)  # level that the training is led back to
        self.strikes = np.zeros(runs)  # times that the level `strike_level` was lowered for a finite loss
        self.strike_level = np.full(runs, np.inf)
        self.alarm_loss = np.full(runs, np.nan)  # the loss that raised an alarm last
        self.after_nonfinite = np.zeros(runs)  # 1 where the event before was a loss that was not finite
        self.rise_deferred = np.zeros(runs)  # 1 where a rise was refused because the loss had not fallen yet
        self._calm = True  # whether no level is bounded, and no event counted

    def check(
        self,
        answer: np.ndarray,
        *,
        level: np.ndarray,
        anchor: np.ndarray,
        losses: np.ndarray | None,
        earned: np.ndarray,
        most: np.ndarray,
        fallen: np.ndarray,
        probed: bool | np.ndarray = True,
        failed: bool = False,
    ) -> tuple[np.ndarray, list[str | None]]:
        """Return the actions (runs,) that may be applied, and each run's event.

        answer (runs,): what the policy said; level, anchor (runs,): the present ones; losses (n, runs): those of the
        steps since the decision before, oldest first, n = 0 where none was reported, nan for one that is left out, None
        at decision 0; earned (runs,): highest level that a rise may reach; most (runs,): highest level whatever the
        answer; fallen (runs,) bool: whose loss has clearly fallen; probed, () or (runs,): whether decision 0 has a
        probe behind it; failed: the policy raised, and `answer` means nothing.
        """
        equation, first = self.equation, losses is None
        events, cap, loud = dict[str, np.ndarray](), np.array(np.inf), False
        due = (self.rise_deferred > 0) & fallen
        with np.errstate(invalid="ignore", over="ignore"):
            sane = np.abs(answer) <= 1.0 + SLACK  # nan is not
            if losses is not None:
                events = self._watch(losses)
                loud = not self._calm or _any(events)
                if loud:
                    events = self._exempt(events, level)
                    loud = self._bounds() or _any(events)
                    cap = self._cap(events, level, anchor) if loud else cap
                    self._calm = not self._bounds()
            wish = equation.apply(level, anchor, answer, first)
            highest = np.clip(earned, level, most)
            unearned = wish > highest + 1e-9
        if sane.all() and not (loud or failed or unearned.any()):
            return answer, [None] * len(answer)
        held = ~sane | failed | events.get("loss_missing", False)
        tenth = anchor + np.where(probed, equation.below_blowup - 1.0, 0.0)
        safe = np.where(held, equation.invert(level, anchor, tenth if first else level, first), answer)
        unearned &= ~held
        early = unearned & (wish > level + 1e-9) & ~fallen
        if early.any():  # it may hold from now on, and gets what it asked for once the loss has fallen
            self.target_level = np.where(early, np.maximum(self.target_level, wish), self.target_level)
            self.rise_deferred, self._calm = np.where(early, 1.0, self.rise_deferred), False
        cap = np.minimum(cap, highest)
        over = equation.apply(level, anchor, safe, first) > cap + 1e-9  # what rounding adds is no wish to rise
        safe = np.where(over, equation.invert(level, anchor, cap, first), safe)
        reached = (~over | self.exempt) & (level >= self.target_level - 1e-9)
        self.target_level = np.where(reached, -np.inf, self.target_level)
        lowers = (answer < 0) & ~(self.exempt | held | over)
        self.target_level = np.where(lowers, -np.inf, self.target_level)
        back = (self.target_level > -np.inf) & ~over & ~held & (not first)
        way = equation.invert(level, anchor, np.minimum(self.target_level, cap), first)
        back &= way > safe
        safe = np.where(back, way, safe)
        self.target_level = np.where(due & np.isinf(self.bound), -np.inf, self.target_level)  # that was its chance
        self.rise_deferred = np.where(lowers | due, 0.0, self.rise_deferred)
        finite = np.isfinite(answer)
        events |= {
            "policy_failed": np.full(level.shape, failed),
            "action_nonfinite": ~finite,
            "action_out_of_bounds": finite & ~sane,
            "unearned": unearned & over,
            "recovery": over | (back & ~self.exempt),
        }
        return safe, [str(name) or None for name in np.select([*events.values()], [*events], "")]

    def _bounds(self) -> bool:
        """Whether any level is bounded, or any event counted."""
        bounded = min(self.bound.min(), self.ceiling.min()) < np.inf or self.target_level.max() > -np.inf
        return bool(bounded or self.tries.any() or self.streak.any())

    @property
    def exempt(self) -> np.ndarray:
        """(runs,) bool: whether the loss of a run rises for other reasons than the rate."""
        return self.exempt_below > -np.inf

    def _exempt(self, events: dict[str, np.ndarray], level: np.ndarray) -> dict[str, np.ndarray]:
        """Drop the events that a finite loss of an exempt training caused."""
        alarm = events["loss_runaway"] | events["loss_rise"]
        now = alarm & (self.tries >= TRIES) & (self.losses.middle > self.alarm_loss)
        if now.any():
            self.exempt_below = np.where(now, np.maximum(self.exempt_below, self.recovered_at), self.exempt_below)
            self.target_level = np.where(now, self.recovered_at, self.target_level)
            self.bound, self.tries = np.where(now, np.inf, self.bound), np.where(now, 0.0, self.tries)
            self.ceiling, self.strikes = np.where(now, np.inf, self.ceiling), np.where(now, 0.0, self.strikes)
        dropped = alarm & (level <= self.exempt_below + 1e-9)
        if not dropped.any():
            return events
        self.losses.accept(dropped)
        return events | {name: events[name] & ~dropped for name in ("loss_runaway", "loss_rise")}

    def begin_again(self, which: np.ndarray, level: np.ndarray) -> None:
        """Forget the trainings `which` (runs,) bool, and allow them no level above `level` (runs,) from now on."""
        self.losses.begin_again(which)
        for counts in (self.streak, self.tries, self.strikes, self.after_nonfinite, self.rise_deferred):
            counts[which] = 0.0
        self.bound[which] = self.recovered_at[which] = self.strike_level[which] = np.inf
        self.target_level[which] = self.exempt_below[which] = -np.inf
        self.ceiling, self._calm = np.where(which, np.minimum(self.ceiling, level), self.ceiling), False

    def lift(self, which: np.ndarray, level: np.ndarray) -> None:
        """Allow the trainings `which` (runs,) bool every level again, and lead them back to `level` (runs,)."""
        self.ceiling = np.where(which, np.inf, self.ceiling)
        self.target_level = np.where(which, level, self.target_level)

    def _watch(self, losses: np.ndarray) -> dict[str, np.ndarray]:
        """Say what the loss did: events in order of precedence, each (runs,) bool."""
        missing: np.ndarray = np.all(np.isnan(losses), axis=0)  # of none, all are
        lost = ~missing & ~np.isfinite(_last(losses)) if len(losses) else ~missing
        self.losses.add(losses)
        above, risen = self.losses.above_start(), self.losses.given_back(GIVEN_BACK)
        return {
            "loss_nonfinite": lost,
            "loss_missing": missing,
            "loss_runaway": above & ~lost,
            "loss_rise": risen & ~above & ~lost,
        }

    def _cap(self, events: dict[str, np.ndarray], level: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """Return the highest level (runs,) that is allowed now, inf for any; count events and move the bound."""
        missing, runaway, equation = events["loss_missing"], events["loss_runaway"], self.equation
        wild, alarm = events["loss_nonfinite"], runaway | events["loss_rise"]
        event = wild | alarm
        patient = self.streak < PATIENCE
        falling = runaway & (self.streak > 0) & (self.losses.middle < self.alarm_loss)
        lowered = event & patient & (wild | ~falling)
        floor = np.maximum(anchor - equation.span, equation.low)
        lower = np.maximum(level - np.where(wild | runaway, equation.fall, BACK_OFF), floor)
        self.alarm_loss = np.where(alarm, self.losses.middle, self.alarm_loss)
        self.losses.refer(alarm, runaway & ~patient)
        self.streak = np.where(event, self.streak + 1, np.where(missing, self.streak, 0.0))
        begun = lowered & np.isinf(self.bound)
        self.recovered_at = np.where(begun, level, self.recovered_at)
        self._strike(begun & alarm & ~self.exempt, level)
        again = self.recovered_at - np.where(wild | runaway, BACK_OFF, 0.0)
        self.target_level = np.where(lowered & ~self.exempt, again, self.target_level)
        free = np.isinf(self.bound) & ~event
        self.tries = np.where(free, 0.0, self.tries + (lowered & alarm))
        # A loss that was not finite, and is again at once, was none of the rate's doing.
        clear = (self.after_nonfinite > 0) & ~(event | missing)
        self.target_level = np.where(clear & (self.target_level > -np.inf), self.recovered_at, self.target_level)
        self.after_nonfinite = np.where(event | clear, wild.astype(float), self.after_nonfinite)
        risen = self.bound + np.where(event | missing, 0.0, RECOVER)
        self.bound = np.where(lowered, lower, np.where((risen < self.recovered_at) & ~clear, risen, np.inf))
        return np.minimum(np.where(event, np.minimum(self.bound, level), self.bound), self.ceiling)

    def _strike(self, which: np.ndarray, level: np.ndarray) -> None:
        """Count an alarm at the levels (runs,) of the trainings `which`; give up levels that had `STRIKES` alarms."""
        again = which & (level > self.strike_level - RECOVER)
        self.strikes = np.where(which, np.where(again, self.strikes + 1, 1.0), self.strikes)
        self.strike_level = np.where(which, level, self.strike_level)
        given_up = which & (self.strikes >= STRIKES)
        self.ceiling = np.where(given_up, np.minimum(self.ceiling, level - BACK_OFF), self.ceiling)

    def state_dict(self) -> dict[str, Any]:
        """The state's arrays as nested lists of floats, nan and inf among them."""
        arrays = {name: getattr(self, name).tolist() for name in STATE}
        return arrays | {"losses": self.losses.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name in STATE:
            setattr(self, name, np.array(state[name], np.float64).reshape(getattr(self, name).shape))
        self.losses.load_state_dict(state["losses"])
        self._calm = False


def _last(losses: np.ndarray) -> np.ndarray:
    """Return the latest loss (runs,) of each run that is not left out, of losses (n, runs)."""
    rows = np.where(np.isnan(losses), 0, np.arange(1, len(losses) + 1)[:, None]).max(axis=0) - 1
    return losses[rows, np.arange(losses.shape[1])]


def _any(events: dict[str, np.ndarray]) -> bool:
    """Whether any run has any event."""
    return any(event.any() for event in events.values())
