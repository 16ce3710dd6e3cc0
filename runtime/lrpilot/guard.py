"""What happens when a training or a policy misbehaves: the last word on an action.

Guards act at decisions only, on the telemetry of the interval that ended, so they never make a step wait for the
device. Each decision of each run has at most one event; where several fit, the first of this list:

    collapsed             the weights are lost before anything was learned: back to the start, lower
    no_progress           nothing was learned so far: the same
    rise_undone           the weights are lost after a rise: back to before it (`lrpilot.restart` judges these three)
    loss_nonfinite        the interval's mean loss is nan or inf: cut the level as far as one decision can;
                          where its last losses are finite again: back off
    gradient_nonfinite    the gradient norm is nan or inf: cut
    loss_missing          no loss was reported in the interval: hold the level
    loss_runaway          the mean loss is above `RUNAWAY` times the loss before training: cut; while it falls: hold
    spike                 the last losses lie far above the median of the intervals before: back off
    drift                 the mean loss rose over the whole memory: back off
    policy_failed         the policy raised: the built-in schedule
    action_nonfinite      the policy answered nan or inf: the same
    action_out_of_bounds  the policy answered outside [-1, 1]: the same
    recovery              the policy asks for more than a back-off or a restart still allows, or holds: as much as that

To back off is to go `BACK_OFF` decades below the present level, or lower if the policy says so. The built-in schedule
holds the level under the envelope; at decision 0 there is none to hold, and the range test's classical rule
takes its place, a tenth of the probe's blow-up (after Smith 2017, arXiv:1506.01186), or the anchor without a probe.
After a cut or a back-off the level may climb by `RECOVER` decades per decision until it is where it was: additive
increase after a multiplicative decrease, as Chiu & Jain 1989 have it for congestion in networks. A policy that holds,
by an answer of 0, holds the level that it decided on, not the one that it was brought down to: it is led back as fast,
to where it was after a back-off, and to `BACK_OFF` below that after a cut. A move of its own ends that.

A loss that climbs further and further although the level was lowered for it does not climb because of the rate: one of
two networks that are trained against each other has such a loss. After `TRIES` lowerings in vain the training is
exempt: up to the level it had before, runaway, spike and drift lower it no more, and it is led back there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpilot.actions import ActionEquation

RUNAWAY = 3.0  # times the loss before training
MEMORY = 4  # intervals; neither spike nor drift is judged before there are as many
SPIKE = 4.0  # deviations of a batch loss by which a spike exceeds the reference
DRIFT = 0.5  # deviations of a batch loss by which a drift exceeds the lowest interval
SHARE = 0.1  # of what training has gained, which either gives back at least
ROOM = 0.01  # of the loss before training: what counts as gained at least, lest rounding errors decide
BACK_OFF = 0.5  # decades
RECOVER = 0.25  # decades per decision
PATIENCE = 4  # consecutive events of the loss after which the learning rate is not their cause
TRIES = 3  # times that the level is lowered for a loss that goes on climbing
SLACK = 1e-3  # by which an action may miss [-1, 1]: rounding

STATE = ("past", "scale", "streak", "lid", "release", "ceiling", "tries", "exempt_below", "restore_to")


class GuardError(RuntimeError):
    """With `strict=True`: a guard would have acted. The message names the step and the event."""


class Guard:
    """Watches `runs` trainings, each on its own; the state is a fixed set of (runs,) and (MEMORY, runs) arrays."""

    def __init__(self, runs: int, equation: ActionEquation) -> None:
        self.equation = equation
        self.past = np.full((2, MEMORY, runs), np.nan)  # mean loss and noise of finite intervals, latest first
        self.scale = np.full(runs, np.nan)  # loss before training, or what took its place
        self.streak = np.zeros(runs)  # consecutive decisions at which the loss or the gradient had an event
        self.lid = np.full(runs, np.inf)  # highest level that is allowed
        self.release = np.full(runs, np.inf)  # level at which the lid is taken off
        self.ceiling = np.full(runs, np.inf)  # level that is not exceeded any more
        self.tries = np.zeros(runs)  # times that the level was lowered for a finite loss since it was free last
        self.exempt_below = np.full(runs, -np.inf)  # level up to which a finite loss is not the rate's doing
        self.restore_to = np.full(runs, -np.inf)  # level that the training is led back to
        self._calm = True  # whether no level is bounded, and no event counted

    def check(
        self,
        answer: np.ndarray,
        *,
        level: np.ndarray,
        anchor: np.ndarray,
        interval: dict[str, np.ndarray] | None,
        loss0: np.ndarray,
        missing: bool | np.ndarray,
        failed: bool = False,
    ) -> tuple[np.ndarray, list[str | None]]:
        """Actions (runs,) that may be applied, and each run's event.

        answer (runs,): what the policy said; level, anchor (runs,): the present ones; interval: the fields of
        `telemetry.INTERVAL`, each (runs,), None at decision 0; loss0 (runs,): loss before training, nan where it is
        not known (at decision 0: where there was no probe); missing, () or (runs,): no loss was reported in the
        interval, nan stands for it; failed: the policy raised, and `answer` means nothing.
        """
        equation, first = self.equation, interval is None
        events, cap, loud = dict[str, np.ndarray](), np.array(np.inf), False
        with np.errstate(invalid="ignore", over="ignore"):
            sane = np.abs(answer) <= 1.0 + SLACK  # nan is not
            if interval is not None:
                events = self._watch(interval, loss0, np.zeros(level.shape, bool) | missing)
                loud = not self._calm or _any(events)
                if loud:
                    events = self._exempt(interval, events, level)
                    loud = self._bounds() or _any(events)
                    cap = self._cap(interval, events, level, anchor) if loud else cap
                    self._calm = not self._bounds()
                self._memorise(interval, events, loud)
        if sane.all() and not (loud or failed):
            return answer, [None] * len(answer)
        held = ~sane | failed | events.get("loss_missing", False)
        tenth = anchor + np.where(np.isnan(loss0), 0.0, equation.below_blowup - 1.0)
        safe = np.where(held, equation.invert(level, anchor, tenth if first else level, first), answer)
        over = equation.apply(level, anchor, safe, first) > cap + 1e-9  # what rounding adds is no wish to climb
        safe = np.where(over, equation.invert(level, anchor, cap, first), safe)
        self.restore_to = np.where((~over | self.exempt) & (level >= self.restore_to - 1e-9), -np.inf, self.restore_to)
        holds = answer == 0
        self.restore_to = np.where(self.exempt | holds | held | over, self.restore_to, -np.inf)
        back = (self.restore_to > -np.inf) & ~over & ~held & (not first)
        wanted = np.minimum(self.restore_to, cap)
        safe = np.where(back, np.maximum(safe, equation.invert(level, anchor, wanted, first)), safe)
        finite = np.isfinite(answer)
        events |= {
            "policy_failed": np.full(level.shape, failed),
            "action_nonfinite": ~finite,
            "action_out_of_bounds": finite & ~sane,
            "recovery": over | (back & ~self.exempt & (wanted > level)),
        }
        return safe, [str(name) or None for name in np.select([*events.values()], [*events], "")]

    def _bounds(self) -> bool:
        """Whether any level is bounded, or any event counted."""
        bounded = min(self.lid.min(), self.ceiling.min()) < np.inf or self.restore_to.max() > -np.inf
        return bool(bounded or self.tries.any() or self.streak.any())

    @property
    def exempt(self) -> np.ndarray:
        """(runs,) bool: whose loss climbs for other reasons than the rate."""
        return self.exempt_below > -np.inf

    def _exempt(
        self, interval: dict[str, np.ndarray], events: dict[str, np.ndarray], level: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The events, less those of a finite loss of exempt trainings."""
        sound = ~(events["loss_nonfinite"] | events["gradient_nonfinite"])
        alarm = sound & (events["loss_runaway"] | events["spike"] | events["drift"])
        now = alarm & (self.tries >= TRIES) & (interval["loss_mean"] > self.past[0, 0])
        if now.any():
            self.exempt_below = np.where(now, np.maximum(self.exempt_below, self.release), self.exempt_below)
            self.restore_to = np.where(now, self.release, self.restore_to)
            self.lid, self.tries = np.where(now, np.inf, self.lid), np.where(now, 0.0, self.tries)
        dropped = alarm & (level <= self.exempt_below + 1e-9)
        if not dropped.any():
            return events
        self.scale = np.where(dropped & events["loss_runaway"], interval["loss_mean"], self.scale)
        return events | {name: events[name] & ~dropped for name in ("loss_runaway", "spike", "drift")}

    def begin_again(self, which: np.ndarray, level: np.ndarray) -> None:
        """Forget the trainings `which` (runs,) bool, and allow them no level above `level` (runs,) from now on."""
        self.past[..., which] = np.nan
        self.streak[which] = self.tries[which] = 0.0
        self.lid[which] = self.release[which] = np.inf
        self.restore_to[which] = self.exempt_below[which] = -np.inf
        self.ceiling, self._calm = np.where(which, np.minimum(self.ceiling, level), self.ceiling), False

    def _watch(self, interval: dict[str, np.ndarray], loss0: np.ndarray, missing: np.ndarray) -> dict[str, np.ndarray]:
        """What the loss and the gradient did: events in order of precedence, each (runs,) bool."""
        mean, last, means = interval["loss_mean"], interval["loss_last"], self.past[0]
        unknown = np.isnan(self.scale)
        if np.count_nonzero(unknown):
            self.scale = np.where(unknown & np.isfinite(loss0), loss0, self.scale)
        finite = np.isfinite(mean)
        ordered = self.past.copy()
        ordered.sort(axis=1)
        # Medians, which one wild interval does not move far; an even memory has two middles.
        reference, deviation = (ordered[:, (MEMORY - 1) // 2] + ordered[:, MEMORY // 2]) * 0.5
        least = np.fmax(self.scale - reference, ROOM * np.abs(self.scale)) * SHARE
        judged = finite & ~np.isnan(means[-1])
        rising = judged & (mean > means[0])
        if np.count_nonzero(rising):
            rising &= (means[:-1] > means[1:]).all(axis=0)
            rising &= mean - means[-1] > np.fmax(DRIFT * deviation, least)
        return {
            "loss_nonfinite": ~finite & ~missing,
            "gradient_nonfinite": ~np.isfinite(interval["grad_norm"]),
            "loss_missing": missing,
            "loss_runaway": finite & (self.scale > 0) & (mean > RUNAWAY * self.scale),
            "spike": judged & (last - reference > np.fmax(SPIKE * deviation, least)),
            "drift": rising,
        }

    def _cap(
        self, interval: dict[str, np.ndarray], events: dict[str, np.ndarray], level: np.ndarray, anchor: np.ndarray
    ) -> np.ndarray:
        """Highest level (runs,) allowed at this decision, inf where any is; counts events and moves the lid."""
        missing, runaway, equation = events["loss_missing"], events["loss_runaway"], self.equation
        wild = events["loss_nonfinite"] & ~np.isfinite(interval["loss_last"]) | events["gradient_nonfinite"]
        event = events["loss_nonfinite"] | wild | runaway | events["spike"] | events["drift"]
        patient = self.streak < PATIENCE
        falling = runaway & (self.streak > 0) & (interval["loss_mean"] < self.past[0, 0])
        lowered = event & patient & (wild | ~falling)
        floor = np.maximum(anchor - equation.span, equation.low)
        lower = np.maximum(level - np.where(wild | runaway, equation.fall, BACK_OFF), floor)
        self.scale = np.where(runaway & ~patient, interval["loss_mean"], self.scale)
        self.streak = np.where(event, self.streak + 1, np.where(missing, self.streak, 0.0))
        self.release = np.where(lowered & np.isinf(self.lid), level, self.release)
        again = self.release - np.where(wild | runaway, BACK_OFF, 0.0)
        self.restore_to = np.where(lowered & ~self.exempt, again, self.restore_to)
        free = np.isinf(self.lid) & ~event
        self.tries = np.where(free, 0.0, self.tries + (lowered & ~wild & ~events["loss_nonfinite"]))
        risen = self.lid + np.where(event | missing, 0.0, RECOVER)
        self.lid = np.where(lowered, lower, np.where(risen < self.release, risen, np.inf))
        return np.minimum(np.where(event, np.minimum(self.lid, level), self.lid), self.ceiling)

    def _memorise(self, interval: dict[str, np.ndarray], events: dict[str, np.ndarray], loud: bool) -> None:
        mean, last, noise = (interval[name] for name in ("loss_mean", "loss_last", "loss_noise"))
        before = self.past.copy()
        self.past[:, 1:] = before[:, :-1]
        self.past[0, 0], self.past[1, 0] = mean, noise
        if not loud:
            return
        lost = ~np.isfinite(mean)
        self.past[..., lost] = before[..., lost]
        # A loss that raised an alarm is the new reference: only what climbs above it raises the next.
        alarm = events["loss_runaway"] | events["spike"] | events["drift"]
        self.past[0, :, alarm] = np.fmax(mean, last)[alarm, None]

    def state_dict(self) -> dict[str, Any]:
        """The state's arrays as nested lists of floats, nan and inf among them."""
        return {name: getattr(self, name).tolist() for name in STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name in STATE:
            setattr(self, name, np.array(state[name], np.float64).reshape(getattr(self, name).shape))
        self._calm = False


def _any(events: dict[str, np.ndarray]) -> bool:
    """Whether any run has any event."""
    return bool(np.count_nonzero(np.concatenate([*events.values()])))
