"""`PilotLR`: the pilot as a `torch.optim.lr_scheduler.LRScheduler`.

    scheduler = PilotLR(optimizer, total_steps=N)
    for x, y in batches:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)

Its clock is the optimizer's: hooks count the steps that were really made (a step that a GradScaler skips is
none) and sample gradients and weights around them. An optimizer step is completed (loss, probe, decision,
next rate) by the `scheduler.step()` that follows it, or else right before the next optimizer step. So
`scheduler.step()` may also be called once per micro-batch (the losses of one optimizer step are averaged), or
seldom (the pilot then sees fewer losses; after an interval without any it holds its level).

Most steps are quiet: nothing is asked of them but to be counted. All that is costly happens on the few steps of a
probe, of a telemetry window, and at decisions.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler
from torch.utils.hooks import RemovableHandle

from lrpilot import distributed, loader, losses
from lrpilot.bundle import Bundle, load_policy
from lrpilot.calls import called_by, uncompiled, user_level
from lrpilot.history import History
from lrpilot.meter import Meter
from lrpilot.pilot import Pilot
from lrpilot.rates import Rates, optimizer_kind, unwrapped
from lrpilot.rollback import Snapshot

LOG = logging.getLogger("lrpilot")
FALLBACKS = ("policy_failed", "action_nonfinite", "action_out_of_bounds")  # guard events that are the policy's fault

Log = Callable[[dict[str, float], int], Any]  # (figures, completed optimizer steps)

# What takes the hooks of an optimizer's PilotLR away: a new one takes over, even where the old one is kept to be read.
_DRIVERS: weakref.WeakKeyDictionary[Optimizer, weakref.finalize[..., Any]] = weakref.WeakKeyDictionary()


class PilotLR(LRScheduler):
    """Sets the learning rate of every param group, step by step, as a learned policy decides.

    The optimizer's own learning rates only matter relative to each other: group i gets the pilot's rate times
    initial_lr[i] / initial_lr[j], where j is the first group whose initial rate is not zero; tensor rates are
    filled in place. Rates are absolute: what other code writes to the groups is overwritten before the next step.

    Unless `probe=False` or the training is shorter than 64 steps, it begins with the probe: a short range
    test on the training's own batches, after which parameters, optimizer state and, with `model`, buffers are
    put back. The loss must be passed to `step()` meanwhile, else the probe is left out. A GradScaler's scale is
    not put back; it finds its own. Where nothing is learned in the first quarter, they are put back once more, and
    the training begins again at a tenth of its rate (see `lrpilot.restart`).

    In a distributed training every rank builds one and calls it alike; rank 0 decides.

    Args:
        optimizer: any torch optimizer; see `optimizer_kind`.
        total_steps: optimizer steps of the whole training, probe included. Beyond it the last rate is kept.
        policy: "default", the path of a bundle, models:/name@alias, or a loaded `Bundle`.
        model: whose buffers (batch norm) the probe's roll-back puts back.
        steps_per_epoch: optimizer steps per pass over the data; by default what the caller's DataLoader says, if one
            that shuffles is at hand and `total_steps` are whole passes over it (see `lrpilot.loader`).
        examples: of the training data; by default those of that DataLoader.
        probe: whether to begin with the probe; until the loss has fallen by some percent afterwards, a copy of the
            parameters lies in host memory.
        min_lr, max_lr: bounds of the pilot's rate.
        strict: raise where otherwise a guard acts or a fallback is taken with a warning.
        guards: whether guards have the last word on the policy's answers (docs/guards.md).
        log: called at every decision, on rank 0, with its figures and the completed steps; wandb.log is one.

    Raises:
        TypeError: `optimizer` is none, or `total_steps` no int.
        ValueError: `total_steps` below 1, no trainable parameter, or bounds that exclude each other.
        BundleError: `policy` is none that this version can use.
        GuardError, ValueError: with `strict`, while training.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        policy: str | os.PathLike[str] | Bundle = "default",
        *,
        model: nn.Module | None = None,
        steps_per_epoch: float | None = None,
        examples: int | None = None,
        probe: bool = True,
        min_lr: float | None = None,
        max_lr: float | None = None,
        strict: bool = False,
        guards: bool = True,
        log: Log | None = None,
    ) -> None:
        optimizer = unwrapped(optimizer)
        low, high = 0.0 if min_lr is None else min_lr, math.inf if max_lr is None else max_lr
        if not 0 <= low <= high:
            raise ValueError(f"min_lr, max_lr: {min_lr!r}, {max_lr!r}, want 0 <= min_lr <= max_lr")
        self.policy = policy if isinstance(policy, Bundle) else load_policy(policy)
        self._policy_hash = hashlib.sha256(self.policy.content).hexdigest()
        self.optimizer, self.model, self.strict, self.log = optimizer, model, strict, log
        self._options: dict[str, Any] = {
            "min_lr": low, "max_lr": high, "steps_per_epoch": steps_per_epoch, "examples": examples, "strict": strict,
            "guards": guards,
        }  # fmt: skip
        steps = _steps(total_steps)
        if steps_per_epoch is None and (found := loader.found(steps)) is not None:
            self._options |= {"steps_per_epoch": found[0], "examples": found[1] if examples is None else examples}
        self.pilot = self._new_pilot(steps, probe)
        self._meter, self._inbox = Meter(optimizer), losses.Inbox()
        self._snapshot: Snapshot | None = None  # where the probe began, until the training has learned something
        self._pending = False  # an optimizer step was made and is not completed
        self._rates = Rates(optimizer)
        self._told: list[str] = []  # warnings given
        self._untold = not self.pilot.in_probe  # whether decision 0 was taken at construction, and may be taken anew
        self._seconds = 0.0  # that the probe's copy took
        if self.pilot.in_probe:
            self._take_snapshot()
        else:
            self.pilot.decide(self.policy)
        hooks = (
            optimizer.register_step_pre_hook(_weak(self, PilotLR._before_step)),
            optimizer.register_step_post_hook(_weak(self, PilotLR._after_step)),
        )
        if (retire := _DRIVERS.get(optimizer)) is not None:
            retire()
        _DRIVERS[optimizer] = weakref.finalize(self, lambda: [hook.remove() for hook in hooks])
        self._placed = False
        super().__init__(optimizer)

    # What a loop calls

    @uncompiled
    def step(self, loss: Any = None, *, metrics: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Report the batch loss, a number or 0-d tensor, of the step just made, and set the next rate.

        `metrics` is a validation loss, as ReduceLROnPlateau takes it: the same as `observe(val_loss=metrics)`.
        """
        self._step_count += 1
        if metrics is not None:
            self.observe(val_loss=metrics)
        if loss is not None:
            self._inbox.report(loss, self.pilot.wants_loss, again=not self._pending)
        elif called_by(ChainedScheduler.step):
            raise TypeError("PilotLR in a ChainedScheduler: it sets rates, it scales none; use it alone")
        elif self._pending and not self._inbox.heard and distributed.leads():
            self._complain("loss", "step() got no loss, and without one the pilot holds its level; call step(loss)")
        if self._pending:
            self._complete()
        elif self.pilot.in_probe:
            # A GradScaler skips the step of a loss that is not finite, as it will all later ones.
            last = self._inbox.last
            (last,) = distributed.first([0.0 if last is None else float(last)], self._meter.device)
            if not math.isfinite(last):
                self._inbox.take()
                self._probe_step(math.nan, math.nan)
                self._write()

    @uncompiled
    def observe(self, val_loss: Any = None, grad_norm: Any = None, *, loss: Any = None) -> None:
        """Note what `step()` is not told, numbers or 0-d tensors.

        A validation loss belongs to the coming decision (before training: to the first); while the probe runs it is
        none, for those weights are put back. The gradient norm is that
        of the optimizer step just made or about to be made, and so is the training loss, which counts where the
        `step()` that follows gets none.
        """
        if loss is not None:
            self._inbox.observe(loss, self.pilot.wants_loss)
        if grad_norm is not None:
            self._meter.note(grad_norm)
        if val_loss is not None and not (self.pilot.in_probe and (self.pilot.step or self._pending)):
            self.pilot.observe(float(val_loss))
            if distributed.alone() and not self._pending:
                self._decide_anew()

    def watch(self, module: nn.Module) -> RemovableHandle:
        """Observe the training loss that a module puts out: a 0-d tensor, or an output's `loss`.

        For loops that pass no loss on, such as Trainer's. Counts while the module trains and gradients are on.
        """
        held = weakref.ref(self)

        def hook(module: nn.Module, _: Any, output: Any) -> None:
            scheduler = held()
            if scheduler is None or not module.training or not torch.is_grad_enabled():
                return
            found = losses.inside(output)
            if found is not None:
                scheduler.observe(loss=found)
            else:
                scheduler._complain("watch", f"{type(module).__name__} puts out no loss; watch a module that does")

        return module.register_forward_hook(uncompiled(hook))

    def extend(self, total_steps: int) -> None:
        """Change the training's length, to more or fewer steps; the rate follows the new decay to zero.

        Raises TypeError for no int, ValueError where none of the steps would be left.
        """
        self.pilot.extend(_steps(total_steps))
        self._told = [topic for topic in self._told if topic != "total"]
        self._write()

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimizer steps per pass over the data; None: not known."""
        return self._options["steps_per_epoch"]

    @property
    def examples(self) -> int | None:
        """Examples of the training data; None: not known."""
        return self._options["examples"]

    def tell(self, steps_per_epoch: float, examples: int | None) -> None:
        """Say how many data there are, where that was not known yet at construction."""
        self._options |= {"steps_per_epoch": steps_per_epoch, "examples": examples}
        self.pilot.observer.steps_per_epoch, self.pilot.observer.examples = steps_per_epoch, examples

    @property
    def history(self) -> History:
        """Every decision so far: what was seen, answered and done."""
        return self.pilot.history

    def plot(self, ax: Any = None) -> Any:
        """Draw rates, losses and guard events so far on matplotlib axes, new ones by default; returns them."""
        from lrpilot.plot import draw

        return draw(self.history, self.pilot.total_steps, ax)

    def get_lr(self) -> list[float | Tensor]:
        """Rates (groups,) of the coming optimizer step; absolute."""
        return [*self._rates.of(self.pilot.learning_rate())]

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values and, while there is one, the tensors of the copy: `weights_only=True` loads it.

        In a distributed training rank 0's is the state of all; but while there is a copy of sharded parameters, each
        rank's is of its own shards, so each rank must save and load its own.
        """
        return {
            "pilot": self.pilot.state_dict(),
            "policy": self._policy_hash,
            "meter": self._meter.state_dict(),
            "inbox": self._inbox.state_dict(),
            "snapshot": None if self._snapshot is None else dict(vars(self._snapshot)),
            "shard": list(self._meter.sampler.shard),
            "pending": self._pending,
            "told": list(self._told),
            "initial_lrs": self._rates.initial(),
            "steps_per_epoch": self._options["steps_per_epoch"],
            "examples": self._options["examples"],
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; the rates are written to the optimizer.

        Whether the training was probed is the saved state's to say, and so is its length where `extend` changed it.
        Another total_steps than it was saved under extends the training, with a warning. Raises ValueError for
        another optimizer kind, protocol, number of groups, a total_steps that lies behind or,
        with a sharded probe under way, by another rank. Another policy than the saved state's is warned of.
        """
        groups, initial = self.optimizer.param_groups, state_dict["initial_lrs"]
        if len(initial) != len(groups):
            raise ValueError(
                f"param_groups: the saved state has {len(initial)}, the optimizer {len(groups)}; "
                "load into an optimizer with the same groups"
            )
        if state_dict["policy"] != self._policy_hash:
            self._complain("policy_file", "the saved training was driven by another policy file; this one takes over")
        self._meter.follow()
        shard = self._meter.sampler.shard
        if state_dict["snapshot"] is not None and state_dict["shard"] != shard:
            raise ValueError(
                f"shard: the saved state holds the copy of rank, ranks {state_dict['shard']}, this is {shard}; "
                "while there is one each rank must save and load its own state: one file per rank, or save later"
            )
        self._meter.load_state_dict(state_dict["meter"])
        total, planned = self.pilot.planned[0], state_dict["pilot"]["planned"]
        self._options |= {name: state_dict[name] for name in ("steps_per_epoch", "examples")}
        pilot = self._new_pilot(planned[-1], bool(state_dict["pilot"]["probed"]))
        pilot.load_state_dict(state_dict["pilot"])
        if total not in planned:
            message = f"total_steps: the saved training had {planned[-1]}, this one has {total} and goes on with that"
            self._complain("length", message)
            pilot.extend(total)
        pilot.kept = [float(row[0]) for row in pilot.kept]
        self.pilot = pilot
        self._inbox.load_state_dict(state_dict["inbox"])
        self._snapshot = None if state_dict["snapshot"] is None else Snapshot(**state_dict["snapshot"])
        self._pending = state_dict["pending"]
        self._told = list(dict.fromkeys([*state_dict["told"], *self._told]))
        self._rates.set_initial(initial)
        self._step_count = state_dict["_step_count"]
        self._write()

    # What the base class and other schedulers reach for

    @property
    def last_epoch(self) -> int:
        """Completed optimizer steps."""
        return self.pilot.step

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        if self._placed:  # SequentialLR takes back the steps of schedulers that it will start later
            raise TypeError("PilotLR in a SequentialLR: it plans a whole training, warm-up included; use it alone")

    def _initial_step(self) -> None:
        """Replaces the `step()` of the base class's constructor: no optimizer step was made yet."""
        self._placed = True
        self._step_count = 1
        self._write()

    # What happens to an optimizer step

    def _before_step(self) -> None:
        if self._pending:
            self._complete()
        pilot = self.pilot
        if pilot.step == 0:
            self._before_first_step()
        elif self._rates.differ():
            if self._rates.disturbed():
                self._complain("rates", "other code changed the groups' rates; PilotLR's are absolute, and put back")
            self._write()
        if pilot.window_opens:
            self._meter.open_window()

    def _before_first_step(self) -> None:
        """What was done at construction may no longer hold: weights may have been loaded, sharded, or validated."""
        self._meter.follow()
        if self._snapshot is not None and not self._snapshot.matches(self.optimizer):
            self._take_snapshot()  # buffers have seen one batch by now
        self._decide_anew()
        if self._untold:
            self._tell()
        self._write()

    def _decide_anew(self) -> None:
        """Without a probe decision 0 was taken at construction: take it again, knowing a validation loss or rank 0."""
        pilot, known = self.pilot, not math.isnan(_number(self.pilot.pending_validation))
        if pilot.step == 0 and pilot.decision and (known or not distributed.alone()):
            self.pilot = self._new_pilot(pilot.total_steps, pilot.cadence.probe)
            self.pilot.observe(pilot.pending_validation)
            self._ask()
            self._write()

    def _after_step(self) -> None:
        skipped = getattr(self.optimizer, "found_inf", None)  # there while a GradScaler steps a fused optimizer
        if skipped is not None and bool(skipped):
            return
        self._pending = True
        if self.pilot.step >= self.pilot.quiet_until and self.pilot.wants_gradient:
            self._meter.see_gradient()

    def _complete(self) -> None:
        """Finish the optimizer step made last, in the order that `lrpilot.pilot` gives."""
        pilot, loss, self._pending = self.pilot, self._inbox.take(), False
        if pilot.step < pilot.quiet_until:
            pilot.advance(loss)
            self._meter.drop()
        else:
            self._complete_loud(loss)
        self._write()

    def _complete_loud(self, loss: Any) -> None:
        if self.pilot.in_probe:
            self._complete_probing(loss)
        else:
            self.pilot.advance(loss)
        pilot = self.pilot
        if pilot.in_window:
            self._meter.record_gradient()
        self._meter.drop()
        if pilot.due:
            self._close_interval()
        if pilot.step > pilot.total_steps:
            steps = pilot.total_steps
            self._complain("total", f"more than total_steps={steps} steps were made; the last rate is kept: extend()")

    def _complete_probing(self, loss: Any) -> None:
        told = [loss is not None, math.nan if loss is None else float(loss), self._meter.gradient_norm()]
        known, value, norm = distributed.first(told, self._meter.device)
        if not known and self.pilot.step == 0:
            self._leave_out_probe()
            return
        if not known:
            value = float(self.pilot.probe_loss[0, self.pilot.step - 1])
        self._probe_step(value, norm)

    def _probe_step(self, loss: float, grad_norm: float) -> None:
        if self.pilot.advance(loss, grad_norm)[0]:
            self._roll_back()
            self._decide()

    def _leave_out_probe(self) -> None:
        """Put the weights back, and go on as if without a probe; the first step, already made, counts."""
        self._complain("probe", "step() got no loss, so the probe is left out; call step(loss) or pass probe=False")
        self._roll_back()
        pilot = self._new_pilot(self.pilot.total_steps, False)
        pilot.observe(self.pilot.pending_validation)
        self.pilot = pilot
        self._decide()
        if pilot.window_opens:
            self._meter.open_window()
        pilot.advance(None)

    def _close_interval(self) -> None:
        pilot = self.pilot
        names, fields = self._meter.close_window()
        kept, values = losses.fetch(pilot.kept, fields)
        if not distributed.alone():
            told = [len(kept), _number(pilot.pending_validation), *values]
            count, pilot.pending_validation, *values = distributed.first(told, self._meter.device)
            told = [*kept[:, 0].tolist(), *[0.0] * int(count)][: int(count)]  # other ranks may have kept more or fewer
            kept = np.array(distributed.first(told, self._meter.device)).reshape(-1, 1)
        pilot.see(dict(zip(names, values, strict=True)), kept)
        if pilot.step < pilot.total_steps:
            self._decide()

    def _decide(self) -> None:
        self._ask()
        if self._snapshot is not None and self.pilot.restarts[0]:
            self._snapshot.restore(self.optimizer, self.model)
        if not self.pilot.restart.waiting[0]:
            self._snapshot = None
        self._tell()

    def _ask(self) -> None:
        pilot = self.pilot
        if pilot.interval is None:  # later, a validation loss is agreed on along with the interval's telemetry
            (seen,) = distributed.first([_number(pilot.pending_validation)], self._meter.device)
            pilot.observe(seen)
        pilot.decide(self.policy if distributed.alone() else self._agreed_answer)

    def _tell(self) -> None:
        """Tell the user of the last decision."""
        decision, self._untold = self.pilot.history[-1], False
        if decision.event in FALLBACKS:
            self._complain("fallback", f"{decision.event}: the built-in schedule takes the policy's place meanwhile")
        if self.log is None or not distributed.leads():
            return
        try:
            self.log(decision.metrics(), decision.step)
        except Exception as error:
            self._complain("log", f"log: {type(error).__name__}: {error}; the training goes on without")

    def _agreed_answer(self, seen: np.ndarray) -> np.ndarray:
        """Rank 0's answer; raises where rank 0's policy did."""
        failure, answer = None, math.nan
        if distributed.leads():
            try:
                answer = float(np.asarray(self.policy(seen)).reshape(-1)[0])
            except Exception as error:
                failure = error
        failed, answer = distributed.first([failure is not None, answer], self._meter.device)
        if failed:
            raise failure or RuntimeError("the policy failed on rank 0")
        return np.array([answer])

    def _new_pilot(self, total_steps: int, probed: bool) -> Pilot:
        return Pilot(
            self.policy.protocol, total_steps, optimizer_kind(self.optimizer), probed=probed,
            tells=distributed.leads(), fetch=lambda kept: losses.fetch(kept)[0], **self._options,
        )  # fmt: skip

    def _take_snapshot(self) -> None:
        begin = time.perf_counter()
        self._snapshot = Snapshot.take(self.optimizer, self.model)
        self._seconds = time.perf_counter() - begin

    def _roll_back(self) -> None:
        if self._snapshot is None:
            return
        begin = time.perf_counter()
        self._snapshot.restore(self.optimizer, self.model)
        took = time.perf_counter() - begin
        LOG.info(
            "probe: %d steps, rolled back; the copy took %.3f s to make and %.3f s to put back",
            self.pilot.step, self._seconds, took,
        )  # fmt: skip

    def _write(self) -> None:
        """Give every group its rate of the coming step."""
        self._rates.write(self.pilot.learning_rate())
        self._last_lr: list[float | Tensor] = [*self._rates.written]

    def _complain(self, topic: str, message: str) -> None:
        if self.strict:
            raise ValueError(f"PilotLR: {message}")
        if topic not in self._told:
            self._told.append(topic)
            if distributed.leads():
                warnings.warn(f"PilotLR: {message}", stacklevel=user_level())


def _steps(total_steps: Any) -> int:
    if isinstance(total_steps, bool) or not isinstance(total_steps, int | np.integer):
        raise TypeError(f"total_steps: {total_steps!r}, want an int, the number of optimizer steps")
    return int(cast(int, total_steps))


def _number(value: Any) -> float:
    return float(np.asarray(value, np.float64).reshape(-1)[0])


def _weak(scheduler: PilotLR, method: Callable[[PilotLR], None]) -> Callable[..., None]:
    """An optimizer hook that does not keep its scheduler alive: a dropped one must not write rates."""
    held = weakref.ref(scheduler)

    def hook(*_: Any) -> None:
        alive = held()
        if alive is not None:
            method(alive)

    return uncompiled(hook)
