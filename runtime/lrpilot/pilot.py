"""The framework-free pilot: `runs` trainings of equal length in lock-step; a user's training is a batch of one.

The caller owns weights and gradients. Per optimizer step it
    1. trains one step at `learning_rates()`,
    2. calls `advance(loss)`; where that returns True the run's probe has ended: roll the weights back, then `decide()`,
    3. opens, feeds and closes a `telemetry.Sketch` as `window_opens`, `in_window` and `due` say, and when `due`
       passes its fields to `see(...)`, then calls `decide()`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lrpilot import probe, telemetry
from lrpilot.actions import ActionEquation, envelope, reference
from lrpilot.cadence import Cadence, CadenceSpec
from lrpilot.features import NAMES, Observer
from lrpilot.guard import GuardError, guard

Policy = Callable[[np.ndarray], np.ndarray]  # observations (runs, F) float32 -> actions (runs,) in [-1, 1]
STATE = ("level", "anchor", "highest", "last_move", "probing", "probe_used", "probe_loss", "probe_grad")


@dataclass(frozen=True)
class Protocol:
    """The decision process a policy was trained in; a bundle's manifest carries it."""

    cadence: CadenceSpec = field(default_factory=CadenceSpec)
    action: ActionEquation = field(default_factory=ActionEquation)


@dataclass(frozen=True)
class Decision:
    """One decision of the first run, for people: what was seen, answered and done."""

    step: int  # completed optimizer steps
    lr: float  # of the step that follows
    action: float
    level: float  # decades over the reference
    event: str | None  # of the guard
    observation: dict[str, float]
    telemetry: dict[str, float]


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
        steps_per_epoch: float | None = None,
        min_lr: float = 0.0,
        max_lr: float = np.inf,
        strict: bool = False,
        fetch: Callable[[Sequence[Any]], np.ndarray] = np.asarray,
    ) -> None:
        """`fetch` turns a list of losses as reported, each () or (runs,), into one array (kept, runs).

        With `strict` a decision that the guard would change raises GuardError; a policy's own error passes.
        """
        self.protocol, self.total_steps, self.optimizer, self.runs = protocol, total_steps, optimizer, runs
        self.reference = reference(optimizer)
        self.cadence = Cadence(protocol.cadence, total_steps, probed)
        self.limits = (min_lr, max_lr)
        self.strict = strict
        self._fetch = fetch
        self.observer = Observer(runs, total_steps, optimizer == "sgd", steps_per_epoch)
        self.step = 0
        self.decision = 0  # the coming decision of the common grid; 0 until every probe has ended
        self.level = np.full(runs, self.protocol.action.anchor)
        self.anchor = np.full(runs, self.protocol.action.anchor)
        self.highest = np.full(runs, -np.inf)
        self.last_move = np.zeros(runs)
        self.probing = np.full(runs, self.cadence.probe_steps > 0)
        self.probe_used = np.zeros(runs, np.int64)  # steps
        self.probe_loss = np.full((runs, self.cadence.probe_steps), np.nan)
        self.probe_grad = np.full((runs, self.cadence.probe_steps), np.nan)
        self.interval: dict[str, np.ndarray] | None = None  # telemetry of the interval that ended last
        self.history: list[Decision] = []
        self._losses: list[Any] = []
        self._missing = False  # no loss was reported in the interval that ended last
        self.pending_validation: Any = np.nan  # () or (runs,), for the coming decision

    def learning_rates(self) -> np.ndarray:
        """(runs,) learning rate of the step that follows `step` completed ones."""
        factor = envelope(self.step, self.total_steps)
        with np.errstate(over="ignore"):
            rates = 10.0 ** (self.reference + self.level) * factor
            if self.step < self.cadence.probe_steps:
                z = probe.levels(self.cadence.probe_steps)[self.step]
                rates = np.where(self.probing, 10.0 ** (self.reference + z), rates)
        return np.clip(rates, *self.limits)

    def advance(self, loss: Any, grad_norm: Any = np.nan) -> np.ndarray:
        """Count one completed step and its batch loss; (runs,) bool: whose probe ended with it.

        While a probe runs, `loss` and `grad_norm` are (runs,) or scalar numbers; afterwards `loss` is whatever
        `fetch` understands, and None where there is none.
        """
        self.step += 1
        if self.probing.any():
            return self._advance_probe(loss, grad_norm)
        past = self.step > self.total_steps
        if loss is not None and not past and self.cadence.keeps_loss(max(self.decision - 1, 0), self.step):
            self._losses.append(loss)
        return np.zeros(self.runs, bool)

    def _advance_probe(self, loss: Any, grad_norm: Any) -> np.ndarray:
        self.probe_loss[self.probing, self.step - 1] = np.broadcast_to(loss, self.runs)[self.probing]
        self.probe_grad[self.probing, self.step - 1] = np.broadcast_to(grad_norm, self.runs)[self.probing]
        ended = self.probing & probe.has_ended(self.probe_loss, self.step)
        self.probe_used[self.probing] = self.step
        if ended.any():
            marks = probe.landmarks(self.probe_loss, self.probe_used)
            self.observer.see_probe(marks, self.probe_grad, ended)
            self.anchor = np.where(ended, marks.blowup - self.protocol.action.below_blowup, self.anchor)
            self.probing &= ~ended
        return ended

    @property
    def due(self) -> bool:
        """Whether an interval of the common grid ends at this step (the last one ends at N, with no decision)."""
        return 0 < self.decision < len(self.cadence.bounds) and self.step == self.cadence.bounds[self.decision]

    @property
    def window_opens(self) -> bool:
        """Whether parameter telemetry starts from the present weights."""
        return self._in_grid and self.step == self.window_start

    @property
    def in_window(self) -> bool:
        """Whether the gradient of the step just completed belongs to a window."""
        return self._in_grid and self.step > self.window_start

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradient of the step that comes next is asked for, by a probe or by a window."""
        if self.probing.any():
            return True
        return self._in_grid and self.window_start <= self.step < self.total_steps

    @property
    def window_start(self) -> int:
        return self.cadence.window_start(self.decision - 1)

    @property
    def _in_grid(self) -> bool:
        placed = 0 < self.decision < len(self.cadence.bounds)
        return placed and self.cadence.probe_steps <= self.step <= self.total_steps

    def observe(self, val_loss: Any) -> None:
        """Note a validation loss, () or (runs,), for the coming decision."""
        self.pending_validation = val_loss

    def see(self, sketch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Close the interval that ends now: parameter fields of the sketch, each () or (runs,) -> all its telemetry."""
        self._missing = not self._losses
        if self._losses:
            losses = np.asarray(self._fetch(self._losses), np.float64).reshape(len(self._losses), self.runs)
            fields = telemetry.summarise_losses(losses)
        else:
            fields = dict.fromkeys(("loss_mean", "loss_last", "loss_noise"), np.full(self.runs, np.nan))
        fields |= sketch | {"val_loss": self.pending_validation}
        self.interval = {k: np.broadcast_to(np.asarray(fields[k], np.float64), self.runs) for k in telemetry.INTERVAL}
        self.observer.see_interval(self.interval)
        self._losses, self.pending_validation = [], np.nan
        return self.interval

    def observation(self) -> np.ndarray:
        """(runs, F) float32 observation for the coming decision."""
        if self.interval is None:
            self.observer.see_validation(self.pending_validation)
            self.pending_validation = np.nan
            return self.observer.observation(
                self.step, self.level, self.anchor, self.highest, self.last_move, interval=None
            )
        length = int(np.diff(self.cadence.bounds)[self.decision - 1])
        return self.observer.observation(
            self.step, self.level, self.anchor, self.highest, self.last_move, self.interval, length
        )

    def act(self, action: np.ndarray, which: np.ndarray | None = None) -> None:
        """Apply actions (runs,) to the runs `which` (runs,) bool, all by default, and go on to the next decision."""
        first = self.interval is None
        which = np.ones(self.runs, bool) if which is None else which
        new = self.protocol.action.apply(self.level, self.anchor, action, first)
        self.last_move = np.where(which, 0.0 if first else new - self.level, self.last_move)
        self.level = np.where(which, new, self.level)
        self.highest = np.where(which, np.maximum(self.highest, new), self.highest)
        if not self.probing.any():
            self.decision += 1

    def decide(self, policy: Policy, which: np.ndarray | None = None) -> None:
        """Observe, ask the policy, guard its answer and act on it; a policy that fails counts as a nan answer."""
        seen = self.observation()
        try:
            answer = np.asarray(policy(seen), np.float64)
        except Exception as error:  # a training must outlive whatever a policy file does
            if self.strict:
                raise
            warnings.warn(f"lrpilot: the policy failed ({error}); the learning rate level is held", stacklevel=2)
            answer = np.full(self.runs, np.nan)
        loss = None if self.interval is None else self.interval["loss_mean"]
        equation = self.protocol.action
        hold = equation.invert(self.anchor, self.level)
        cut = equation.invert(self.anchor, self.level - equation.fall)
        action, events = guard(answer, hold, cut, loss, self.observer.loss0, self._missing)
        if self.strict and any(events):
            event = next(filter(None, events))
            raise GuardError(f"step {self.step}: {event}; strict=False lets the guard act")
        self.act(action, which)
        if which is None or which[0]:
            self._record(seen, action, events)

    def _record(self, seen: np.ndarray, action: np.ndarray, events: list[str | None]) -> None:
        told = {} if self.interval is None else {k: float(v[0]) for k, v in self.interval.items()}
        observation = dict(zip(NAMES, map(float, seen[0]), strict=True))
        self.history.append(
            Decision(
                self.step, float(self.learning_rates()[0]), float(action[0]), float(self.level[0]), events[0],
                observation, told,
            )
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain Python numbers, texts, lists and dicts (nan and inf among them)."""
        losses = np.asarray(self._fetch(self._losses), np.float64) if self._losses else np.empty(0)
        return self._identity() | {
            "step": self.step,
            "decision": self.decision,
            "arrays": {name: getattr(self, name).tolist() for name in STATE},
            "observer": self.observer.state_dict(),
            "interval": None if self.interval is None else {k: v.tolist() for k, v in self.interval.items()},
            "losses": losses.reshape(len(self._losses), self.runs).tolist(),
            "missing": self._missing,
            "val": np.broadcast_to(np.asarray(self.pending_validation, np.float64), self.runs).tolist(),
            "history": [asdict(decision) for decision in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called.

        Raises ValueError if it was saved under another total, optimizer kind, probe, protocol or batch.
        """
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                theirs = state.get(name)
                raise ValueError(f"{name}: the saved state has {theirs!r}, this one {mine!r}; make them equal")
        for name, values in state["arrays"].items():
            present = getattr(self, name)
            setattr(self, name, np.array(values, present.dtype).reshape(present.shape))
        self.observer.load_state_dict(state["observer"])
        self.step, self.decision, self._missing = state["step"], state["decision"], state["missing"]
        told = state["interval"]
        self.interval = None if told is None else {k: np.array(v, np.float64) for k, v in told.items()}
        self._losses = [np.array(row, np.float64) for row in state["losses"]]
        self.pending_validation = np.array(state["val"], np.float64)
        self.history = [Decision(**decision) for decision in state["history"]]

    def _identity(self) -> dict[str, Any]:
        return {
            "total_steps": self.total_steps,
            "optimizer": self.optimizer,
            "runs": self.runs,
            "probe_steps": self.cadence.probe_steps,
            "protocol": asdict(self.protocol),
        }
