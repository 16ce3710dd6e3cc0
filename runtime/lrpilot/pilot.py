"""The framework-free pilot: `runs` trainings of equal length in lock-step; a user's training is a batch of one.

The caller owns weights, gradients and losses. Per optimizer step it
    1. trains one step at `learning_rates()`, and keeps its loss if `wants_loss`,
    2. counts the step: with `advance_probe(...)` while `in_probe`, else with `advance()`. The former returns the runs
       whose probe has ended: roll their weights back, then `decide()`. It also sets `put_back`, the runs whose probe
       goes on, but from its start: roll their weights back, too,
    3. opens, feeds and closes a `telemetry.Sketch` as `window_opens`, `in_window` and `due` say. When `due`, it passes
       the interval's losses and the sketch's fields to `close_interval(...)`, then calls `decide()`.
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from lrpilot.decisions import telemetry
from lrpilot.decisions.actions import reference
from lrpilot.decisions.cadence import Cadence
from lrpilot.decisions.features import NAMES
from lrpilot.decisions.guard import GuardError
from lrpilot.decisions.network_size import NetworkSize
from lrpilot.decisions.observer import Observer
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from lrpilot.decisions.protocol import Policy, Protocol
from lrpilot.decisions.safety import Safety, Situation
from lrpilot.decisions.warm_up import WarmUp
from lrpilot.probing.probe import Probes
from lrpilot.reports.explain import is_alarm
from lrpilot.reports.history import Decision, History

LOG = logging.getLogger("lrpilot")
STATE = ("level", "anchor", "highest", "last_move")


class Pilot:
    """Drives the learning rate of `runs` trainings of `total_steps` optimizer steps each. It needs no torch.

    Its attributes are for reading. `step` and `decision` count completed steps and decisions. `level`, `anchor` and
    `highest` (runs,) are decades. `probes` has the probes' curves. `interval` is the telemetry of the last interval
    (None before). `events` says per run what the guards did at the last decision. A training without a probe has the
    level and the anchor of one whose probe ended without evidence.

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
        guess: float | np.ndarray | None = None,
        min_lr: float = 0.0,
        max_lr: float = np.inf,
        strict: bool = False,
        guards: bool = True,
        logs: bool = True,
    ) -> None:
        """`guess`, scalar or (runs,), is a first guess of the rate, nan for none. With `strict` a decision that the
        guard would change raises GuardError. Without `guards` an answer counts as it is, were it nan, and a policy's
        own error passes. `logs`: whether what the guard does goes to the logger.
        """
        self.protocol, self.total_steps, self.optimizer, self.runs = protocol, total_steps, optimizer, runs
        self.reference = reference(optimizer)
        self._envelope = protocol.action.envelope
        self.cadence = Cadence(protocol.cadence, total_steps, probed)
        self.limits = (min_lr, max_lr)
        with np.errstate(divide="ignore"):
            self._levels = np.log10(self.limits) - self.reference  # lowest and highest
        self.strict, self.guarded, self.logs = strict, guards, logs
        self.observer = Observer(runs, total_steps, OPTIMIZERS[optimizer].is_sgd, steps_per_epoch, examples)
        self._guess = np.log10(np.full(runs, np.nan if guess is None else guess)) - self.reference  # (runs,) levels
        self.safety = Safety(runs, protocol.action, probed and guards and self.cadence.probe_steps > 0)
        self.step = self.decision = 0  # the coming decision of the common grid; 0 until every probe has ended
        self.anchor = np.full(runs, protocol.action.anchor)
        self.level = self._bounded(self.anchor)
        self.planned = [total_steps]  # totals so far, the present one last
        self.highest, self.last_move = np.full(runs, -np.inf), np.zeros(runs)
        self.probes = Probes(runs, self.cadence.probe_steps, self._levels[1])
        self.interval: dict[str, np.ndarray] | None = None
        self.history = History()
        self.events: list[str | None] = [None] * runs
        self._losses = np.empty((0, runs))  # of the interval that ended last
        self.observe(np.nan)
        self._warm_up = WarmUp(runs, protocol.action.warm_up, total_steps)
        self._place()

    def _place(self) -> None:
        """Work out, once per decision, what every step asks for."""
        cadence, i = self.cadence, max(self.decision - 1, 0)
        self.in_probe = bool(self.probes.running.any())
        self._in_grid = not self.in_probe and self.decision > 0
        self._begin, self._end = cadence.interval(i)
        self._stride = cadence.stride(i)
        self._window_start = cadence.window_start(i) if self._in_grid else sys.maxsize
        with np.errstate(over="ignore"):
            self._peak = 10.0 ** (self.reference + self.level)  # (runs,) rates before the envelope
        self._first_peak = float(self._peak[0])
        # Completed steps below which the coming step asks for nothing but to be counted and, perhaps, its loss.
        self.quiet_until = self._window_start if self._in_grid else 0

    def learning_rates(self) -> np.ndarray:
        """(runs,) learning rate of the step that follows `step` completed ones."""
        envelope, (low, high) = self._envelope(self.step, self.total_steps), self.limits  # levels are within them
        rates = self._peak * envelope * self._warm_up.factors(self.step)
        if self.step < self.cadence.probe_steps:
            with np.errstate(over="ignore"):
                rates = np.where(self.probes.running, 10.0 ** (self.reference + self.probes.levels(self.step)), rates)
        return np.minimum(np.maximum(rates, low), high)

    def learning_rate(self, warm_up: bool = True) -> float:
        """The first run's rate, to the last bit, without numpy; without `warm_up` it is the rate of its level."""
        low, high = self.limits
        if self.in_probe and self.probes.running[0]:
            lr = 10.0 ** (self.reference + self.probes.levels(self.step).item(0))
        else:
            lr = self._first_peak * self._envelope(self.step, self.total_steps)
            lr = lr * self._warm_up.factor(self.step) if warm_up else lr
        return low if lr < low else high if lr > high else lr

    @property
    def wants_loss(self) -> bool:
        """Whether the loss of the coming step counts: at most `CadenceSpec.losses` per interval do."""
        step = self.step + 1
        return self.in_probe or (self._begin < step <= self._end and (self._end - step) % self._stride == 0)

    def advance(self) -> None:
        """Count one completed step after the probes."""
        self.step += 1

    def advance_probe(self, loss: Any, grad_norm: Any) -> np.ndarray:
        """Count one completed step of the probes. Returns which probes (runs,) bool ended with it.

        Its `loss` and `grad_norm` are (runs,) or scalar. A loss of None, after the first step: that of the step before.
        """
        ended = self.probes.record(self.step, loss, grad_norm)
        self.step += 1
        self._end_probes(ended)
        return ended

    def miss_probe_step(self) -> np.ndarray:
        """Note a loss that was not finite, and of which the loop made no step; returns what `advance_probe` does."""
        ended = self.probes.miss(self.step)
        self._end_probes(ended)
        return ended

    def end_probe(self) -> None:
        """End the probes under way without any evidence; roll the weights back, and `decide` cautiously."""
        ended, self.probes = self.probes.running, Probes(self.runs, self.cadence.probe_steps, self._levels[1])
        self.probes.running = np.zeros(self.runs, bool)
        self._warm_up.start(ended, self.step, self.total_steps)
        self._place()

    @property
    def restarts(self) -> np.ndarray:
        """(runs,) bool: whether the last decision sends the weights of a run back to their copy."""
        return self.safety.restarts

    @property
    def rises(self) -> np.ndarray:
        """(runs,) bool: whether the last decision asks for a copy of the weights of a run."""
        return self.safety.rises

    @property
    def put_back(self) -> np.ndarray:
        """(runs,) bool: whether the latest step sends a run's weights back to the start, for its probe to go on."""
        return self.probes.back

    def _end_probes(self, ended: np.ndarray) -> None:
        if not ended.any():
            return
        self._warm_up.start(ended, self.step, self.total_steps)
        evident = ended & (self.probes.steps > 0)
        self.safety.begin(evident, self.probes)
        marks = self.probes.landmarks()
        edge = self.protocol.action.edge(marks)
        self.observer.add_probe(marks, self.probes.grad_norm, edge, evident)
        self.anchor = np.where(evident, edge - self.protocol.action.below_blowup, self.anchor)
        self._place()
        message = self.probes.broken_losses.message(bool(evident[0])) if ended[0] else ""
        if message and self.strict and not evident[0]:
            raise GuardError(message)
        if message and self.logs:
            LOG.warning(message)

    @property
    def due(self) -> bool:
        """Whether an interval of the common grid ends at this step (the last one ends at N, with no decision)."""
        return self._in_grid and self.step == self._end

    @property
    def window_opens(self) -> bool:
        """Whether parameter telemetry starts from the present weights."""
        return self.step == self._window_start

    @property
    def in_window(self) -> bool:
        """Whether the gradient of the step just completed belongs to a window."""
        return self._window_start < self.step <= self._end

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradient of the step that comes next is asked for, by a probe or by a window."""
        return self.in_probe or self._window_start <= self.step < self._end

    @property
    def keeps_copy(self) -> np.ndarray:
        """(runs,) bool: whether a later decision may send a run back to its copy, which is then to be kept."""
        return self.safety.restart.keeps_copy

    def observe(self, val_loss: Any) -> None:
        """Note a validation loss, () or (runs,), for the coming decision; nan: there is none."""
        self.pending_validation = np.full(self.runs, val_loss, np.float64)

    def set_data_size(self, steps_per_epoch: float, examples: int | None) -> None:
        """Say how many data there are, where that was not known at construction."""
        self.observer.steps_per_epoch, self.observer.examples = steps_per_epoch, examples

    def set_network_size(self, size: NetworkSize) -> None:
        """Say how large the networks are; before the first decision."""
        self.observer.set_size(size)

    def extend(self, total_steps: int) -> None:
        """Change the length of the training: what was decided stands, later decisions and the envelope move.

        Raises ValueError unless `total_steps` lies beyond the steps made.
        """
        self.cadence = self.cadence.changed(total_steps, self.step, self.decision)
        self.planned.append(total_steps)
        self.total_steps = self.observer.total_steps = total_steps
        self._place()

    def close_interval(self, losses: np.ndarray, sketch: dict[str, Any]) -> dict[str, np.ndarray]:
        """End the interval with this step; returns all its telemetry, each field of `telemetry.INTERVAL` (runs,).

        losses (n, runs): of the steps at which `wants_loss`, those that are known; sketch: the fields that
        `telemetry.Sketch.close` gave, each () or (runs,).
        """
        losses = telemetry.left_out(losses, np.isfinite(np.asarray(sketch["weight_norm"], np.float64)))
        self._losses = losses
        fields = telemetry.summarise_losses(losses) | sketch | {"val_loss": self.pending_validation}
        values = np.empty((len(telemetry.INTERVAL), self.runs))
        for i, name in enumerate(telemetry.INTERVAL):
            values[i] = fields[name]
        self.interval = dict(zip(telemetry.INTERVAL, values, strict=True))
        self.observer.add_interval(self.interval)
        self.observe(np.nan)
        return self.interval

    def observation(self) -> np.ndarray:
        """(runs, F) float32 observation for the coming decision."""
        if self.interval is None:
            self.observer.add_validation(self.pending_validation)
            self.observe(np.nan)
        length = 1 if self.interval is None else self._end - self._begin
        return self.observer.observation(
            self.step, self.level, self.anchor, self.highest, self.last_move, self.interval, length
        )

    def act(self, action: np.ndarray, which: np.ndarray | None = None) -> None:
        """Apply actions (runs,) to the runs `which` (runs,) bool, all by default, and go on to the next decision."""
        first = self.interval is None
        new = self._bounded(self.protocol.action.apply(self.level, self.anchor, action, first))
        move = np.zeros(self.runs) if first else new - self.level
        highest = np.maximum(self.highest, new)
        if which is not None and not which.all():
            new, move = np.where(which, new, self.level), np.where(which, move, self.last_move)
            highest = np.where(which, highest, self.highest)
        self.level, self.last_move, self.highest = new, move, highest
        if first:
            self.safety.caution.first = self.level.copy()
        if not self.in_probe:
            self.decision += 1
        self._place()

    def _bounded(self, level: np.ndarray) -> np.ndarray:
        """Levels (runs,) within the limits."""
        return np.clip(level, *self._levels)

    def decide(self, policy: Policy, which: np.ndarray | None = None, *, cautiously: bool = False) -> None:
        """Observe, ask the policy (nan if it fails), guard the answer and act on it, or on the cautious form of it."""
        observation = self.observation()
        answer, failed = self._ask(policy, observation)
        action, events = answer, list[str | None]([None] * self.runs)
        if self.interval is None:
            action = self._first_action(answer)
        if self.guarded:
            action, events = self.safety.check(action, self._situation(), np.isfinite(self.observer.loss0), failed)
            if (back := self.restarts).any():
                self._warm_up.start(back, self.step, self.total_steps)
                self.observer.begin_again(back)
        self.events = events
        action = self.protocol.action.cautious(action, answer, self.anchor) if cautiously else action
        if self.strict and (event := next(filter(None, events), None)):
            raise GuardError(f"step {self.step}: {event}; strict=False lets the guard act")
        before, level = self.learning_rate(warm_up=False), self.level
        self.act(action, which)
        self.safety.note(level, self.level)
        if which is None or which[0]:
            self._record(observation, answer, action, events[0], before)

    def _first_action(self, answer: np.ndarray) -> np.ndarray:
        """First actions (runs,) of a policy's answers, after caution and first guesses; what is no action stays."""
        blown, equation, anchor = self.observer.blown, self.protocol.action, self.anchor
        if self.guarded:
            answer = self.safety.first_actions(answer, anchor, blown, self.probes.warning_level)
        sure = blown & ~(self.safety.caution.confidence < 1)
        return self.protocol.guess.revised(answer, equation, anchor, self._guess, sure)

    def _situation(self) -> Situation:
        return Situation(
            self.step, self.total_steps, self.level, self.anchor, self.highest, self._warm_up, self._losses,
            self.interval,
        )  # fmt: skip

    def _ask(self, policy: Policy, observation: np.ndarray) -> tuple[np.ndarray, bool]:
        """The policy's answers (runs,), and whether it failed to give any."""
        try:
            answer = np.asarray(policy(observation), np.float64)
            return answer.reshape(self.runs), False  # another shape is a failure, too
        except Exception as error:  # a training must outlive whatever a policy file does
            if self.strict or not self.guarded:
                raise
            LOG.warning("step %d: the policy failed: %s", self.step, error)
            return np.full(self.runs, np.nan), True

    def _record(
        self, observation: np.ndarray, answer: np.ndarray, action: np.ndarray, event: str | None, before: float
    ) -> None:
        features = dict(zip(NAMES, observation[0].tolist(), strict=True))
        interval = {} if self.interval is None else {name: float(v[0]) for name, v in self.interval.items()}
        lr = self.learning_rate(warm_up=False)
        given, applied, level = (float(values[0]) for values in (answer, action, self.level))
        # A loop that reports no losses is told so once, not at each decision.
        repeated = event == "loss_missing" and any(past.event == event for past in self.history)
        sure = float(self.safety.caution.confidence[0]) if self.interval is None else math.nan
        self.history.append(Decision(self.step, before, lr, given, applied, level, sure, event, features, interval))
        if event is not None and self.logs and not repeated:
            weight = logging.WARNING if is_alarm(event) else logging.DEBUG
            LOG.log(weight, "step %d: %s; the learning rate goes from %.3g to %.3g", self.step, event, before, lr)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain Python numbers, texts, lists and dicts (nan and inf among them).

        The losses of the interval under way are the caller's to save.
        """
        return self._identity() | {
            "step": self.step, "planned": self.planned, "probed": self.cadence.probe, "decision": self.decision,
            "passed": [*self.cadence.passed], "changed_at": self.cadence.changed_at,
            "arrays": {name: getattr(self, name).tolist() for name in STATE},
            "warm_up": self._warm_up.state_dict(), "probes": self.probes.state_dict(),
            "observer": self.observer.state_dict(),
            "interval": None if self.interval is None else {k: v.tolist() for k, v in self.interval.items()},
            "losses": self._losses.tolist(), "validation": self.pending_validation.tolist(),
            "safety": self.safety.state_dict(), "history": self.history.state(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; ValueError if under another total, optimizer kind, protocol or batch."""
        for name, mine in self._identity().items():
            if (theirs := state.get(name)) != mine:
                raise ValueError(f"{name}: the saved state has {theirs!r}, this one {mine!r}; make them equal")
        if self.total_steps not in state["planned"]:
            raise ValueError(
                f"total_steps: the saved state has {state['planned'][-1]!r}, this one {self.total_steps!r}; "
                "make them equal, and call extend() afterwards to change it"
            )
        self.planned = [*state["planned"]]
        self.total_steps = self.observer.total_steps = self.planned[-1]
        self.cadence = Cadence(
            self.protocol.cadence, self.total_steps, state["probed"], tuple(state["passed"]), state["changed_at"]
        )  # fmt: skip
        for name, values in state["arrays"].items():
            setattr(self, name, np.array(values, np.float64))
        self._warm_up.load_state_dict(state["warm_up"])
        self.probes.load_state_dict(state["probes"])
        self.observer.load_state_dict(state["observer"])
        self.step, self.decision = state["step"], state["decision"]
        self._losses = np.array(state["losses"], np.float64).reshape(-1, self.runs)
        interval = state["interval"]
        self.interval = None if interval is None else {k: np.array(v, np.float64) for k, v in interval.items()}
        self.observe(state["validation"])
        self.safety.load_state_dict(state["safety"])
        self.history = History.from_state(state["history"])
        self._place()

    def _identity(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "runs": self.runs, "protocol": asdict(self.protocol)}
