"""The framework-free pilot: `runs` trainings of equal length in lock-step; a user's training is a batch of one.

The caller owns weights and gradients. Per optimizer step it
    1. trains one step at `learning_rates()`,
    2. calls `advance(loss)`; where that returns True the run's probe has ended: roll the weights back, then `decide()`,
    3. opens, feeds and closes a `telemetry.Sketch` as `window_opens`, `in_window` and `due` say, and when `due`
       passes its fields to `see(...)`, then calls `decide()`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lrpilot import probe, telemetry
from lrpilot.actions import ActionEquation, envelope, reference
from lrpilot.cadence import Cadence, CadenceSpec
from lrpilot.features import NAMES
from lrpilot.guard import Guard, GuardError
from lrpilot.history import Decision, History
from lrpilot.observer import Observer
from lrpilot.restart import LOWER, Restart

Policy = Callable[[np.ndarray], np.ndarray]  # observations (runs, F) float32 -> actions (runs,) in [-1, 1]
LOG = logging.getLogger("lrpilot")
STATE = ("level", "anchor", "highest", "last_move", "probing", "probe_used", "probe_loss", "probe_grad")


@dataclass(frozen=True)
class Protocol:
    """The decision process a policy was trained in; a bundle's manifest carries it."""

    cadence: CadenceSpec = field(default_factory=CadenceSpec)
    action: ActionEquation = field(default_factory=ActionEquation)


class Pilot:
    """Drives the learning rate of `runs` trainings of `total_steps` optimizer steps each.

    Raises ValueError for an unknown optimizer kind or a total below 1.
    """

    def __init__(
        self,
        protocol: Protocol,
        total_steps: int,
        optimizer: str,
        *,
        runs: int = 1,
        probed: bool = True,
        steps_per_epoch: float | np.ndarray | None = None,
        examples: int | np.ndarray | None = None,
        min_lr: float = 0.0,
        max_lr: float = np.inf,
        strict: bool = False,
        guards: bool = True,
        tells: bool = True,
        fetch: Callable[[Sequence[Any]], np.ndarray] = np.asarray,
    ) -> None:
        """`fetch` turns a list of losses as reported, each () or (runs,), into one array (kept, runs).

        With `strict` a decision that the guard would change raises GuardError. Without `guards` an answer counts as
        it is, were it nan, and a policy's own error passes. `tells`: log what the guard does.
        """
        self.protocol, self.total_steps, self.optimizer, self.runs = protocol, total_steps, optimizer, runs
        self.reference = reference(optimizer)
        self.cadence = Cadence(protocol.cadence, total_steps, probed)
        self.limits = (min_lr, max_lr)
        self.strict, self.guarded, self.tells = strict, guards, tells
        self._fetch = fetch
        self.observer = Observer(runs, total_steps, optimizer == "sgd", steps_per_epoch, examples)
        self.guard = Guard(runs, protocol.action)
        self.restart = Restart(runs, probed and guards and self.cadence.probe_steps > 0)
        self.restarts = np.zeros(runs, bool)  # whose weights are to go back, by the last decision, to where they began
        self.step = 0
        self.decision = 0  # the coming decision of the common grid; 0 until every probe has ended
        self.level = np.full(runs, self.protocol.action.anchor)
        self.planned = [total_steps]  # totals so far, the present one last
        self.anchor = np.full(runs, self.protocol.action.anchor)
        self.highest = np.full(runs, -np.inf)
        self.last_move = np.zeros(runs)
        self.probing = np.full(runs, self.cadence.probe_steps > 0)
        self.probe_used = np.zeros(runs, np.int64)  # steps
        self.probe_loss = np.full((runs, self.cadence.probe_steps), np.nan)
        self.probe_grad = np.full((runs, self.cadence.probe_steps), np.nan)
        self.interval: dict[str, np.ndarray] | None = None  # telemetry of the interval that ended last
        self.history = History()
        self.kept: list[Any] = []
        self._none = np.zeros(runs, bool)
        self._missing = False  # no loss was reported in the interval that ended last
        self.pending_validation: Any = np.nan  # () or (runs,), for the coming decision
        self._place()

    def _place(self) -> None:
        """Work out, once per decision, what every step asks for."""
        cadence, i = self.cadence, max(self.decision - 1, 0)
        self.in_probe = bool(self.probing.any())
        self.in_grid = not self.in_probe and self.decision > 0
        self._begin, self._end = cadence.interval(i)
        self._stride = cadence.stride(i)
        self.window_start = cadence.window_start(i) if self.in_grid else sys.maxsize
        with np.errstate(over="ignore"):
            self._peak = 10.0 ** (self.reference + self.level)  # (runs,) rates before the envelope
        self._first_peak = float(self._peak[0])
        # Completed steps below which the coming step asks for nothing but to be counted and, perhaps, its loss.
        self.quiet_until = self.window_start if self.in_grid else 0

    def learning_rates(self) -> np.ndarray:
        """(runs,) learning rate of the step that follows `step` completed ones."""
        rates, (low, high) = self._peak * envelope(self.step, self.total_steps), self.limits
        if self.step < self.cadence.probe_steps:
            z = probe.levels(self.cadence.probe_steps)[self.step]
            with np.errstate(over="ignore"):
                rates = np.where(self.probing, 10.0 ** (self.reference + z), rates)
        return np.minimum(np.maximum(rates, low), high)

    def learning_rate(self) -> float:
        """The first run's learning rate, bit for bit that of `learning_rates()`; no numpy, so that steps stay cheap."""
        if self.in_probe:
            return float(self.learning_rates()[0])
        lr, (low, high) = self._first_peak * envelope(self.step, self.total_steps), self.limits
        return low if lr < low else high if lr > high else lr

    @property
    def wants_loss(self) -> bool:
        """Whether the loss of the coming step is kept: at most `CadenceSpec.losses` per interval are."""
        step = self.step + 1
        return self.in_probe or (self._begin < step <= self._end and (self._end - step) % self._stride == 0)

    def advance(self, loss: Any, grad_norm: Any = np.nan) -> np.ndarray:
        """Count one completed step and its batch loss; (runs,) bool: whose probe ended with it.

        While a probe runs, `loss` and `grad_norm` are (runs,) or scalar numbers; afterwards `loss` is whatever
        `fetch` understands, and None where there is none.
        """
        if self.in_probe:
            self.step += 1
            return self._advance_probe(loss, grad_norm)
        self.step = step = self.step + 1
        if loss is not None and self._begin < step <= self._end and (self._end - step) % self._stride == 0:
            self.kept.append(loss)
        return self._none

    def _advance_probe(self, loss: Any, grad_norm: Any) -> np.ndarray:
        self.probe_loss[self.probing, self.step - 1] = np.broadcast_to(loss, self.runs)[self.probing]
        self.probe_grad[self.probing, self.step - 1] = np.broadcast_to(grad_norm, self.runs)[self.probing]
        ended = self.probing & probe.has_ended(self.probe_loss, self.step)
        self.probe_used[self.probing] = self.step
        if ended.any():
            marks = probe.landmarks(self.probe_loss, self.probe_used)
            self.observer.add_probe(marks, self.probe_grad, ended)
            self.anchor = np.where(ended, marks.blowup - self.protocol.action.below_blowup, self.anchor)
            self.probing &= ~ended
            self._place()
        return ended

    @property
    def due(self) -> bool:
        """Whether an interval of the common grid ends at this step (the last one ends at N, with no decision)."""
        return self.in_grid and self.step == self._end

    @property
    def window_opens(self) -> bool:
        """Whether parameter telemetry starts from the present weights."""
        return self.step == self.window_start

    @property
    def in_window(self) -> bool:
        """Whether the gradient of the step just completed belongs to a window."""
        return self.window_start < self.step <= self._end

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradient of the step that comes next is asked for, by a probe or by a window."""
        return self.in_probe or self.window_start <= self.step < self._end

    def observe(self, val_loss: Any) -> None:
        """Note a validation loss, () or (runs,), for the coming decision."""
        self.pending_validation = val_loss

    def extend(self, total_steps: int) -> None:
        """Change the length of the training: what was decided stands, later decisions and the envelope move.

        Raises ValueError unless `total_steps` lies beyond the steps made.
        """
        self.cadence = self.cadence.changed(total_steps, self.step, self.decision)
        self.planned.append(total_steps)
        self.total_steps = self.observer.total_steps = total_steps
        self._place()

    def kept_losses(self) -> np.ndarray:
        """(kept, runs) losses of the present interval so far."""
        if not self.kept:
            return np.empty((0, self.runs))
        return np.asarray(self._fetch(self.kept), np.float64).reshape(len(self.kept), self.runs)

    def see(self, sketch: dict[str, Any], losses: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Close the interval that ends now: parameter fields of the sketch, each () or (runs,) -> all its telemetry.

        `losses` (kept, runs) take the place of those that `advance` was given.
        """
        losses = self.kept_losses() if losses is None else losses
        self._missing = not len(losses)
        fields = telemetry.summarise_losses(losses) | sketch | {"val_loss": self.pending_validation}
        self.interval = {name: np.full(self.runs, fields[name], np.float64) for name in telemetry.INTERVAL}
        self.observer.add_interval(self.interval)
        self.kept, self.pending_validation = [], np.nan
        return self.interval

    def observation(self) -> np.ndarray:
        """(runs, F) float32 observation for the coming decision."""
        if self.interval is None:
            self.observer.add_validation(self.pending_validation)
            self.pending_validation = np.nan
            return self.observer.observation(
                self.step, self.level, self.anchor, self.highest, self.last_move, interval=None
            )
        length = self._end - self._begin
        return self.observer.observation(
            self.step, self.level, self.anchor, self.highest, self.last_move, self.interval, length
        )

    def act(self, action: np.ndarray, which: np.ndarray | None = None) -> None:
        """Apply actions (runs,) to the runs `which` (runs,) bool, all by default, and go on to the next decision."""
        first = self.interval is None
        new = self.protocol.action.apply(self.level, self.anchor, action, first)
        move = np.zeros(self.runs) if first else new - self.level
        highest = np.maximum(self.highest, new)
        if which is not None and not which.all():
            new, move = np.where(which, new, self.level), np.where(which, move, self.last_move)
            highest = np.where(which, highest, self.highest)
        self.level, self.last_move, self.highest = new, move, highest
        if not self.in_probe:
            self.decision += 1
        self._place()

    def decide(self, policy: Policy, which: np.ndarray | None = None) -> None:
        """Observe, ask the policy, guard its answer and act on it; a policy that fails counts as a nan answer."""
        seen = self.observation()
        answer, failed = self._ask(policy, seen)
        action, events = answer, [None] * self.runs
        if self.guarded:
            action, events = self.guard.check(
                answer, level=self.level, anchor=self.anchor, interval=self.interval, loss0=self.observer.loss0,
                missing=self._missing, failed=failed,
            )  # fmt: skip
            action, events = self._second_chance(action, events)
        if self.strict and (event := next(filter(None, events), None)):
            raise GuardError(f"step {self.step}: {event}; strict=False lets the guard act")
        before = self.learning_rate()
        self.act(action, which)
        if which is None or which[0]:
            self._record(seen, answer, action, events[0], before)

    def _second_chance(self, action: np.ndarray, events: list[str | None]) -> tuple[np.ndarray, list[str | None]]:
        """Send trainings back to their start that have learned nothing: sets `restarts`, which the caller sees to."""
        seen = self.observer
        self.restarts = self.restart.judge(
            self.step / self.total_steps, seen.losses, seen.loss0, self.level, self.highest, self.anchor
        )
        if not self.restarts.any():
            return action, events
        wanted = np.where(self.restarts, self.highest - LOWER, np.inf)
        self.guard.keep_below(wanted)
        lower = self.protocol.action.invert(self.level, self.anchor, wanted, False)
        told = ["no_progress" if back else event for back, event in zip(self.restarts, events, strict=True)]
        return np.where(self.restarts, lower, action), told

    def _ask(self, policy: Policy, seen: np.ndarray) -> tuple[np.ndarray, bool]:
        """The policy's answers (runs,), and whether it failed to give any."""
        try:
            return np.asarray(policy(seen), np.float64).reshape(self.runs), False  # another shape is a failure, too
        except Exception as error:  # a training must outlive whatever a policy file does
            if self.strict or not self.guarded:
                raise
            LOG.warning("step %d: the policy failed: %s", self.step, error)
            return np.full(self.runs, np.nan), True

    def _record(
        self, seen: np.ndarray, answer: np.ndarray, action: np.ndarray, event: str | None, before: float
    ) -> None:
        told = {} if self.interval is None else {name: float(v[0]) for name, v in self.interval.items()}
        observation = dict(zip(NAMES, seen[0].tolist(), strict=True))
        lr = self.learning_rate()
        self.history.append(
            Decision(
                self.step, before, lr, float(answer[0]), float(action[0]), float(self.level[0]), event, observation,
                told,
            )
        )  # fmt: skip
        if event is not None and self.tells:
            weight = logging.INFO if event == "recovery" else logging.WARNING
            LOG.log(weight, "step %d: %s; the learning rate goes from %.3g to %.3g", self.step, event, before, lr)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain Python numbers, texts, lists and dicts (nan and inf among them)."""
        return self._identity() | {
            "step": self.step,
            "planned": self.planned,
            "probed": self.cadence.probe,
            "passed": [*self.cadence.passed],
            "changed_at": self.cadence.changed_at,
            "decision": self.decision,
            "arrays": {name: getattr(self, name).tolist() for name in STATE},
            "observer": self.observer.state_dict(),
            "interval": None if self.interval is None else {k: v.tolist() for k, v in self.interval.items()},
            "losses": self.kept_losses().tolist(),
            "missing": self._missing,
            "val": np.broadcast_to(np.asarray(self.pending_validation, np.float64), self.runs).tolist(),
            "guard": self.guard.state_dict(),
            "restart": self.restart.state_dict(),
            "history": self.history.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called.

        Raises ValueError if it was saved under another total, optimizer kind, protocol or batch.
        """
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                theirs = state.get(name)
                raise ValueError(f"{name}: the saved state has {theirs!r}, this one {mine!r}; make them equal")
        if self.total_steps not in state["planned"]:
            raise ValueError(
                f"total_steps: the saved state has {state['planned'][-1]!r}, this one {self.total_steps!r}; "
                "make them equal, and call extend() afterwards to change it"
            )
        self.planned = list(state["planned"])
        self.total_steps = self.observer.total_steps = self.planned[-1]
        self.cadence = Cadence(
            self.protocol.cadence, self.total_steps, state["probed"], tuple(state["passed"]), state["changed_at"]
        )  # fmt: skip
        for name, values in state["arrays"].items():
            setattr(self, name, np.array(values, getattr(self, name).dtype))
        self.observer.load_state_dict(state["observer"])
        self.step, self.decision, self._missing = state["step"], state["decision"], state["missing"]
        told = state["interval"]
        self.interval = None if told is None else {k: np.array(v, np.float64) for k, v in told.items()}
        self.kept = [np.array(row, np.float64) for row in state["losses"]]
        self.pending_validation = np.array(state["val"], np.float64)
        self.guard.load_state_dict(state["guard"])
        self.restart.load_state_dict(state["restart"])
        self.history = History.from_state(state["history"])
        self._place()

    def _identity(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer,
            "runs": self.runs,
            "protocol": asdict(self.protocol),
        }
