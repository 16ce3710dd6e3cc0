"""What lies between an optimizer and its pilot: hooks, loss, telemetry, roll-back, ranks. Needs torch.

The clock is the optimizer's: hooks count the steps that were really made (a step that a GradScaler skips is none) and
sample gradients and weights around them. An optimizer step is completed (loss, probe, decision, next rate) by the
loop's report that follows it, or else right before the next optimizer step. So a loop may report once per micro-batch
(the losses of one optimizer step are averaged), or seldom (the pilot then gets fewer losses; after an interval without
any it holds its level).

Most steps are quiet: nothing is asked of them but to be counted. All that is costly happens on the few steps of a
probe, of a telemetry window, and at decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lrpilot import digests
from lrpilot.decisions.guard import GuardError
from lrpilot.decisions.optimizer_kinds import known
from lrpilot.loop import distributed, loss_mistakes, losses, optimizers
from lrpilot.loop.announcer import Announcer, Log
from lrpilot.loop.arguments import OPTIMIZER
from lrpilot.loop.calls import attach
from lrpilot.loop.losses import LossBuffer
from lrpilot.loop.meter import Meter
from lrpilot.loop.micro_batches import MicroBatches
from lrpilot.loop.plan import Plan
from lrpilot.loop.rates import Rates
from lrpilot.loop.rehearsal import fill_caches
from lrpilot.loop.rollback import RollBack, parameters
from lrpilot.loop.start_line import sentences
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle


class OptimizerAdapter:
    """Sets an optimizer's rates as a pilot decides, while somebody holds it; `PilotLR` explains the arguments."""

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Bundle,
        plan: Plan,
        *,
        kind: str | None,
        model: nn.Module | None,
        guess: float | str | None,
        probe: bool,
        min_lr: float,
        max_lr: float,
        strict: bool,
        guards: bool,
        log: Log | None,
    ) -> None:
        self._optimizer, self._policy, self.plan = optimizer, policy, plan
        self._policy_hash = digests.of_bytes(policy.content)
        self._kind = optimizers.kind_of(optimizer) if kind is None else kind
        self._rates, self._guess = Rates(optimizer), guess
        rate = self._rates.reference if guess == OPTIMIZER else guess
        self._options = dict[str, Any](guess=rate, min_lr=min_lr, max_lr=max_lr, strict=strict, guards=guards)
        self._probe = probe
        fill_caches(policy.protocol, self._kind)
        self.pilot = self._new_pilot(plan.total_steps, probe)
        self._announcer = Announcer(log, strict)
        self._meter, self._losses = Meter(optimizer), LossBuffer()
        self._accuracy = loss_mistakes.AccuracyWatch()
        self._micro = MicroBatches(parameters(optimizer))
        self._rollback = RollBack(optimizer, model)  # to before the probe, or before a rise; see restart.py
        self._pending = False  # an optimizer step was made and is not completed
        if kind is None and optimizers.is_foreign(optimizer):
            taken = f"{type(optimizer).__name__} is taken for Adam"
            self._announcer.warn("kind", f"{taken}; policies know {known('and')}; pass kind=")
        self._begin()
        attach(optimizer, self, OptimizerAdapter._before_step, OptimizerAdapter._after_step)

    def _begin(self) -> None:
        """Prepare the probe, or take decision 0, with a pilot that has made no step."""
        self._unannounced = not self.pilot.in_probe  # decision 0 was taken at construction, and may be taken anew
        if self.pilot.in_probe:
            self._rollback.prepare()
        else:
            self._rollback.forget()
            self.pilot.set_network_size(self._meter.network_size())
            self.pilot.decide(self._policy)

    # What a scheduler calls

    def step(self, loss: Any) -> None:
        """Take the loss of the step just made, None where the loop reports none, and set the next rate."""
        if loss_mistakes.is_epoch(loss):
            self._announcer.warn("epoch", f"step({loss}) got an int, as the number of an epoch is; call step(loss)")
            loss = None
        elif loss is not None:
            if not self._accuracy.differentiable:
                self._accuracy.note(loss)
            self._losses.report(loss, self.pilot.wants_loss, again=not self._pending)
            self._micro.reports += not self._pending
        elif self._pending and not self._losses.has_loss and distributed.leads():
            self._announcer.warn(
                "loss", "step() got no loss, and without one the pilot holds its level; call step(loss)"
            )
        if self._pending:
            self._complete()
        elif self.pilot.in_probe:
            # A GradScaler skips the step of a loss that is not finite; after a blow-up it will skip all later ones.
            latest = self._losses.latest
            (latest,) = distributed.first([0.0 if latest is None else float(latest)], self._meter.device)
            if not math.isfinite(latest):
                self._losses.take()
                self._after_probing(self.pilot.miss_probe_step)
                self.write()

    def observe(self, val_loss: Any = None, grad_norm: Any = None, loss: Any = None) -> None:
        """Take a validation loss, a gradient norm or a training loss, as `PilotLR.observe` has them."""
        if loss is not None:
            self._losses.observe(loss, self.pilot.wants_loss)
        if grad_norm is not None:
            self._meter.note(grad_norm)
        if val_loss is not None and not (self.pilot.in_probe and (self.pilot.step or self._pending)):
            self.pilot.observe(float(val_loss))
            if distributed.alone() and not self._pending:
                self._decide_anew()

    def watch(self, module: nn.Module) -> RemovableHandle:
        """Observe the training loss that a module puts out, as long as there is this adapter."""
        return losses.watch(module, self, OptimizerAdapter._take_output)

    def _take_output(self, module: nn.Module, loss: Any) -> None:
        if loss is not None:
            self.observe(loss=loss)
        else:
            self._announcer.warn("watch", f"{type(module).__name__} puts out no loss; watch a module that does")

    def extend(self, total_steps: int) -> None:
        """Change the training's length. Raises ValueError where none of the steps would be left."""
        self.pilot.extend(total_steps)
        self._announcer.forget("total")
        self.write()

    def set_data_size(self, steps_per_epoch: float, examples: int | None) -> None:
        """Say how many data there are, where that was not known yet at construction."""
        self.plan = replace(self.plan, steps_per_epoch=steps_per_epoch, examples=examples)
        self.pilot.set_data_size(steps_per_epoch, examples)
        if self.pilot.step == 0 and self.pilot.decision and not self._pending and distributed.alone():
            self._decide_first(self.pilot.observer.vals[0])

    def end_probe(self) -> bool:
        """Put everything back and end the probe, as `PilotLR.end_probe` says. Returns whether one was under way."""
        # No collective call: an exception may have come to this rank alone. So decision 0 waits for the next step.
        pilot = self.pilot
        if not pilot.in_probe or not (pilot.step or self._pending):
            return False
        self._rollback.end_probe(pilot.step + self._pending)
        pilot.end_probe()
        self.write()
        return True

    def summary(self) -> list[str]:
        """Say in sentences what is assumed about the training, and what is done to it."""
        pilot = self.pilot
        return sentences(
            self.plan, pilot.total_steps, pilot.cadence.probe_steps, not pilot.in_probe, self._rates.initial(),
            self._guess, self._rollback.has_model,
        )  # fmt: skip

    def learning_rates(self) -> list[float]:
        """Rates (groups,) of the coming optimizer step."""
        return self._rates.of(self.pilot.learning_rate())

    def written_rates(self) -> list[float]:
        """Rates (groups,) that the groups were given last."""
        return self._rates.written

    def write(self) -> None:
        """Give every group its rate of the coming step."""
        self._rates.write(self.pilot.learning_rate())

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values and, while there is a snapshot, its tensors; "probing" is for readers of a file."""
        return {
            "policy": self._policy_hash, "probing": self.pilot.in_probe,
            "total_steps": self.pilot.total_steps, "probe": self.pilot.cadence.probe,
            "steps_per_epoch": self.plan.steps_per_epoch, "examples": self.plan.examples,
            "accumulate": self.plan.accumulate,
            "pilot": self.pilot.state_dict(),
            "meter": self._meter.state_dict(),
            "losses": self._losses.state_dict(),
            "snapshot": self._rollback.state_dict(),
            "shard": list(self._meter.sampler.shard),
            "pending": self._pending,
            "warned": list(self._announcer.topics),
            "initial_lrs": self._rates.initial(), "reference": self._rates.reference,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; raises and warns as `PilotLR.load_state_dict` says."""
        groups, initial = self._optimizer.param_groups, state["initial_lrs"]
        if len(initial) != len(groups):
            raise ValueError(
                f"param_groups: the saved state has {len(initial)}, the optimizer {len(groups)}; "
                "load into an optimizer with the same groups"
            )
        if state["policy"] != self._policy_hash:
            message = "the saved training was driven by another policy file; this one takes over"
            self._announcer.warn("policy_file", message)
        self._meter.follow()
        shard = self._meter.sampler.shard
        if state["snapshot"] is not None and state["shard"] != shard:
            raise ValueError(
                f"shard: the saved state holds the copy of rank, ranks {state['shard']}, this is {shard}; "
                "while there is one each rank must save and load its own state: one file per rank, or save later"
            )
        self._meter.load_state_dict(state["meter"])
        self._micro.close()
        plan = self.plan.accumulated(state["accumulate"])
        self.plan = replace(plan, steps_per_epoch=state["steps_per_epoch"], examples=state["examples"])
        total, saved = self.plan.total_steps, state["total_steps"]
        pilot = self._new_pilot(saved, state["probe"])
        pilot.load_state_dict(state["pilot"])
        if total not in pilot.planned:
            message = f"total_steps: the saved training had {saved}, this one has {total} and goes on with that"
            self._announcer.warn("length", message)
            pilot.extend(total)
        self.pilot = pilot
        self._losses.load_state_dict(state["losses"])
        self._rollback.load_state_dict(state["snapshot"])
        self._pending = state["pending"]
        self._announcer.resume(state["warned"])
        self._rates.set_initial(initial, state["reference"])
        self.write()

    # What happens to an optimizer step

    def _before_step(self) -> None:
        if self._pending:
            self._complete()
        if self.pilot.step == 0 and not optimizers.is_skipped(self._optimizer):
            self._before_first_step()
        elif not (self.pilot.decision or self.pilot.in_probe):  # somebody has ended the probe
            self._decide(cautiously=True)
            self.write()
        elif self._rates.differ():
            if self._rates.disturbed():
                message = "other code changed the groups' rates; PilotLR's are absolute, and put back"
                self._announcer.warn("rates", message)
            self.write()
        if self.pilot.step >= self.pilot.quiet_until and self.pilot.window_opens:
            self._meter.open_window()

    def _before_first_step(self) -> None:
        """What was done at construction may no longer hold: weights may have been loaded, sharded, or validated."""
        self._meter.follow()
        if (plan := self._micro.settled(self.plan, self._announcer)) is not None:
            self.plan = plan
            self._replace_pilot(plan.total_steps, self._probe, self.pilot.pending_validation)
            self._begin()
        self._rollback.renew()  # buffers have met one batch by now
        self._decide_anew()
        self._announcer.start(self.summary())
        if self._unannounced:
            self._announce()
        self.write()

    def _decide_anew(self) -> None:
        """Decision 0 of no probe was taken at construction: take it again, by what was validated or loaded since."""
        pilot, validation = self.pilot, self.pilot.pending_validation
        if pilot.step == 0 and pilot.decision:
            same = np.array_equal(pilot.observer.size[:, 0], self._meter.network_size(), equal_nan=True)
            if not (same and math.isnan(validation[0]) and distributed.alone()):
                self._decide_first(validation)

    def _decide_first(self, validation: np.ndarray) -> None:
        """Take decision 0 again, from a validation loss (1,), nan where there is none."""
        self._replace_pilot(self.pilot.total_steps, self.pilot.cadence.probe, validation)
        self._ask()
        self.write()

    def _after_step(self) -> None:
        if optimizers.is_skipped(self._optimizer):
            return
        self._pending = True
        if self.pilot.step >= self.pilot.quiet_until and self.pilot.wants_gradient:
            self._meter.sample_gradient()

    def _complete(self) -> None:
        """Finish the optimizer step made last, in the order that `lrpilot.pilot` gives."""
        pilot, self._pending = self.pilot, False
        quiet = pilot.step < pilot.quiet_until
        if pilot.in_probe:
            self._complete_probing()
        else:
            self._losses.end_step(pilot.wants_loss)
            pilot.advance()
        if quiet:
            self._meter.drop()
        else:
            self._complete_loud()
        self.write()

    def _complete_loud(self) -> None:
        if self.pilot.in_window:
            self._meter.record_gradient()
        self._meter.drop()
        if self.pilot.due:
            self._close_interval()
        if self.pilot.step > (steps := self.pilot.total_steps):
            message = f"more than total_steps={steps} steps were made; the last rate is kept: extend()"
            self._announcer.warn("total", message)

    def _complete_probing(self) -> None:
        loss = self._losses.take()
        mine = [loss is not None, math.nan if loss is None else float(loss), self._meter.gradient_norm()]
        known, value, norm = distributed.first(mine, self._meter.device)
        if self._announcer.logs:
            self._announcer.announce_probe(self.pilot.step, self.pilot.learning_rate(), value)
        if known or self.pilot.step:
            self._after_probing(lambda: self.pilot.advance_probe(value if known else None, norm))
        else:
            self._leave_out_probe()

    def _after_probing(self, note: Callable[[], np.ndarray]) -> None:
        """`note` a step of the probe, and do what it asks for: end it, or put the weights back after a broken loss."""
        try:
            (ended,) = note()
        except GuardError:  # with `strict`, at the probe's end
            self._rollback.restore()
            raise
        if ended:
            self._rollback.end_probe(self.pilot.step)
            self._decide()
        elif self.pilot.put_back[0]:
            self._rollback.restore()

    def _leave_out_probe(self) -> None:
        """Put the weights back, and go on as if without a probe; the first step, already made, counts."""
        message = "step() got no loss, so the probe is left out; call step(loss) or pass probe=False"
        self._announcer.warn("probe", message)
        self._rollback.end_probe(self.pilot.step)
        self._replace_pilot(self.pilot.total_steps, False, self.pilot.pending_validation)
        self._decide()
        if self.pilot.window_opens:
            self._meter.open_window()
        self.pilot.advance()

    def _close_interval(self) -> None:
        """Pass losses and telemetry of the interval on to the pilot, rank 0's on every rank, and let it decide."""
        pilot, device = self.pilot, self._meter.device
        names, window = self._meter.close_window()
        mine, values = self._losses.close(window)
        count, validation, *values = distributed.first([len(mine), pilot.pending_validation[0], *values], device)
        theirs = distributed.first(mine, device, int(count))
        pilot.observe(validation)
        if self._accuracy.judge(theirs):
            message = "the losses rise, and are fractions from 0 to 1, as accuracies are; call step(loss)"
            self._announcer.warn("accuracy", message)
        pilot.close_interval(np.array(theirs, np.float64)[:, None], dict(zip(names, values, strict=True)))
        if pilot.step < pilot.total_steps:
            self._decide()

    # Decisions

    def _decide(self, cautiously: bool = False) -> None:
        self._ask(cautiously)
        pilot = self.pilot
        back, anew, keep = (bool(asked[0]) for asked in (pilot.restarts, pilot.rises, pilot.keeps_copy))
        self._rollback.follow(back=back, anew=anew, keep=keep)
        self._announce()

    def _ask(self, cautiously: bool = False) -> None:
        pilot, device = self.pilot, self._meter.device
        if pilot.decision == 0:  # later, a validation loss is agreed on along with the interval's telemetry
            pilot.observe(distributed.first([pilot.pending_validation[0]], device)[0])
            pilot.set_network_size(self._meter.network_size())
        policy = self._policy if distributed.alone() else distributed.FirstPolicy(self._policy, device)
        pilot.decide(policy, cautiously=cautiously)

    def _announce(self) -> None:
        """Tell the user of the last decision."""
        self._unannounced = False
        self._announcer.announce(self.pilot.history[-1])

    def _replace_pilot(self, total_steps: int, probed: bool, validation: np.ndarray) -> None:
        """Begin with another pilot, which knows a validation loss (1,), nan where there is none."""
        self.pilot = self._new_pilot(total_steps, probed)
        self.pilot.observe(validation)

    def _new_pilot(self, total_steps: int, probed: bool) -> Pilot:
        return Pilot(
            self._policy.protocol, total_steps, self._kind, probed=probed, logs=distributed.leads(),
            steps_per_epoch=self.plan.steps_per_epoch, examples=self.plan.examples, **self._options,
        )  # fmt: skip
