"""`PilotLR`: the pilot as a `torch.optim.lr_scheduler.LRScheduler`.

    scheduler = PilotLR(optimizer, epochs=20, data=loader, model=model)
    for _ in range(20):
        for x, y in loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)

It is called after every optimizer step, once per micro-batch, or seldom: `lrpilot.driver` says what happens then.
"""

from __future__ import annotations

import math
import os
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler
from torch.utils.hooks import RemovableHandle

from lrpilot import optimizers
from lrpilot.announcer import Log
from lrpilot.bundle import Bundle, load_policy
from lrpilot.calls import called_by, uncompiled
from lrpilot.driver import Driver
from lrpilot.history import History
from lrpilot.pilot import Pilot
from lrpilot.plan import Plan, plan, whole
from lrpilot.range_test import suggest as suggest
from lrpilot.start_line import OPTIMIZER

# By an entry that no other scheduler's state has: whose state it is.
OTHERS = {
    "T_max": "CosineAnnealingLR", "T_0": "CosineAnnealingWarmRestarts", "step_size": "StepLR",
    "milestones": "MultiStepLR", "lr_lambdas": "LambdaLR", "_schedulers": "SequentialLR or ChainedScheduler",
    "_schedule_phases": "OneCycleLR", "end_factor": "LinearLR", "factor": "ReduceLROnPlateau or ConstantLR",
    "power": "PolynomialLR", "gamma": "ExponentialLR",
}  # fmt: skip


class PilotLR(LRScheduler):
    """Sets the learning rate of every param group, step by step, as a learned policy decides.

    The optimizer's own learning rates only matter relative to each other: group i gets the pilot's rate times
    initial_lr[i] / initial_lr[j], where j is the group with most parameters among those whose initial rate is not
    zero; tensor rates are filled in place. Rates are absolute: what other code writes to the groups is overwritten
    before the next step.

    Unless `probe=False` or the training is shorter than 64 steps, it begins with the probe: a short range
    test on the training's own batches, after which parameters, optimizer state and, with `model`, buffers are
    put back. The loss must be passed to `step()` meanwhile, else the probe is left out. A GradScaler's scale is
    not put back; it finds its own. Where nothing is learned in the first quarter, they are put back once more, and
    the training begins again at a tenth of its rate (see `lrpilot.restart`).

    In a distributed training every rank builds one and calls it alike; rank 0 decides.

    Args:
        optimizer: any torch optimizer that does not set its step size itself, or Accelerate's or Lightning's wrapper.
        total_steps: optimizer steps of the whole training, probe included. Beyond it the last rate is kept.
        policy: "default", the path of a bundle, models:/name@alias, or a loaded `Bundle`.
        epochs: in place of total_steps, with `data` or `steps_per_epoch`: how often the loop goes through its loader.
        data: the DataLoader of the training, or any collection of batches; its length and that of its data set count.
            It is not kept. The policy decides better when it knows them.
        accumulate: batches of `data` per optimizer step; by default Accelerate's, or 1 unless the loop reports the loss
            of each batch: then they are counted in the first optimizer step.
        model: whose buffers (batch norm) the probe's roll-back puts back.
        steps_per_epoch: optimizer steps per pass over the data, where there is no `data` to say so.
        examples: of the training data, likewise.
        guess: a learning rate that you would try first, or "optimizer" for the one that the optimizer was built with.
            It counts for what it is worth (docs/scheduler.md): one near what the policy names has a say, one that is
            decades off has none. With several param groups it is the rate of the largest one.
        probe: whether to begin with the probe; until the loss has fallen by some percent afterwards, a copy of the
            parameters lies in host memory.
        min_lr, max_lr: bounds of the pilot's rate.
        strict: raise where otherwise a guard acts or a fallback is taken with a warning.
        guards: whether guards have the last word on the policy's answers (docs/guards.md).
        log: called at every decision and step of the probe, on rank 0, with its figures and the completed steps;
            wandb.log is one.
        kind: "sgd", "adam" or "adamw": what the optimizer is to be taken for. By default its class says so; one that
            is none of these counts as Adam, with a warning.

    Raises:
        TypeError: an argument of another kind.
        ValueError: the training's length is not known, arguments that disagree, no trainable parameter, or an
            optimizer that sets its step size itself (unless `kind` is given).
        BundleError: `policy` is none that this version can use.
        GuardError, ValueError: with `strict`, while training.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        policy: str | os.PathLike[str] | Bundle = "default",
        *,
        epochs: float | None = None,
        data: Any = None,
        accumulate: int | None = None,
        model: nn.Module | None = None,
        steps_per_epoch: float | None = None,
        examples: int | None = None,
        guess: float | str | None = None,
        probe: bool = True,
        min_lr: float | None = None,
        max_lr: float | None = None,
        strict: bool = False,
        guards: bool = True,
        log: Log | None = None,
        kind: str | None = None,
    ) -> None:
        low, high = 0.0 if min_lr is None else min_lr, math.inf if max_lr is None else max_lr
        if not 0 <= low <= high:
            raise ValueError(f"min_lr, max_lr: {min_lr!r}, {max_lr!r}, want 0 <= min_lr <= max_lr")
        if accumulate is None and data is not None:
            accumulate = optimizers.accumulation(optimizer)
        optimizer = optimizers.unwrapped(optimizer)
        optimizers.check(optimizer, kind)
        facts = plan(total_steps, epochs, data, accumulate, steps_per_epoch, examples)
        options: dict[str, Any] = {
            "kind": kind, "model": model, "guess": _checked(guess, optimizer), "probe": probe, "min_lr": low,
            "max_lr": high, "strict": strict, "guards": guards, "log": log,
        }  # fmt: skip
        self._build(optimizer, facts, policy if isinstance(policy, Bundle) else load_policy(policy), options)

    def _build(self, optimizer: Optimizer, facts: Plan, policy: Bundle, options: dict[str, Any]) -> None:
        self.policy, self._options = policy, options
        self._driver = Driver(optimizer, policy, facts, **options)
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
            self._driver.observe(val_loss=metrics)
        if loss is None and called_by(ChainedScheduler.step):
            raise TypeError("PilotLR in a ChainedScheduler: it sets rates, it scales none; use it alone")
        self._driver.step(loss)

    @uncompiled
    def observe(self, val_loss: Any = None, grad_norm: Any = None, *, loss: Any = None) -> None:
        """Note what `step()` is not told, numbers or 0-d tensors.

        A validation loss is used at the next decision (before training: at the first); during the probe it is ignored,
        because its weights are put back. A gradient norm is that of the optimizer step just made or about to be made.
        So is a training loss, which counts where the `step()` that follows gets none.
        """
        self._driver.observe(val_loss, grad_norm, loss)

    def watch(self, module: nn.Module) -> RemovableHandle:
        """Observe the training loss that a module puts out: a 0-d tensor, or an output's `loss`.

        For loops that pass no loss on, such as Trainer's. Counts while the module trains and gradients are on.
        """
        return self._driver.watch(module)

    def extend(self, total_steps: int) -> None:
        """Change the training's length, to more or fewer steps; the rate follows the new decay to zero.

        Raises TypeError for no int, ValueError where none of the steps would be left.
        """
        self._driver.extend(whole("total_steps", total_steps, "the number of optimizer steps"))

    def set_data_size(self, steps_per_epoch: float, examples: int | None) -> None:
        """Say how many data there are, where that was not known yet at construction."""
        self._driver.set_data_size(steps_per_epoch, examples)

    # What may be read

    @property
    def pilot(self) -> Pilot:
        """The framework-free pilot that decides, to be read."""
        return self._driver.pilot

    @property
    def planned_steps(self) -> int:
        """Optimizer steps of the whole training.

        Its name is not `total_steps`: a scheduler that has such an attribute is stepped by Accelerate like OneCycleLR,
        no more than so many times over all processes.
        """
        return self.pilot.total_steps

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimizer steps per pass over the data; None: not known."""
        return self._driver.plan.steps_per_epoch

    @property
    def examples(self) -> int | None:
        """Examples of the training data; None: not known."""
        return self._driver.plan.examples

    @property
    def probing(self) -> bool:
        """Whether the coming optimizer step, or the one just made, belongs to the probe.

        Its loss says nothing of the training, and its weights will be put back: skip logs, averages of weights, early
        checkpoints and pruning meanwhile. Ask before the step, for the call of `step()` that ends the probe is past it.
        """
        return self.pilot.in_probe

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradient of the coming optimizer step counts; `observe(grad_norm=...)` is for these steps."""
        return self.pilot.wants_gradient

    @property
    def history(self) -> History:
        """Every decision so far: what was observed, answered and done."""
        return self.pilot.history

    def plot(self, ax: Any = None) -> Any:
        """Draw rates, losses and guard events so far on matplotlib axes, new ones by default; returns them."""
        from lrpilot.plot import draw

        return draw(self.history, self.planned_steps, ax)

    def get_lr(self) -> list[float | Tensor]:
        """Rates (groups,) of the coming optimizer step; absolute."""
        return [*self._driver.learning_rates()]

    def get_last_lr(self) -> list[float | Tensor]:
        """Rates (groups,) that the optimizer's groups were given last."""
        return [*self._driver.written_rates()]

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values and, while there is one, the tensors of the copy: `weights_only=True` loads it.

        In a distributed training rank 0's is the state of all; but while there is a copy of sharded parameters, each
        rank's is of its own shards, so each rank must save and load its own.
        """
        return self._driver.state_dict() | {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; the rates are written to the optimizer.

        Whether the training was probed is the saved state's to say, and so is its length where `extend` changed it.
        Another total_steps than it was saved under extends the training, with a warning. Raises ValueError for the
        state of another scheduler, another optimizer kind, protocol, number of groups, a total_steps that lies behind
        or, with a sharded probe under way, by another rank. Another policy than the saved state's is warned of.
        """
        if "pilot" not in state_dict:
            name = next((other for entry, other in OTHERS.items() if entry in state_dict), "another scheduler")
            raise ValueError(
                f"state_dict: of {name} (entries {', '.join(sorted(map(str, state_dict)))}), want that of a PilotLR; "
                "begin the training anew, or resume it under the scheduler that saved it"
            )
        self._driver.load_state_dict(state_dict)
        self._step_count = state_dict["_step_count"]

    def __repr__(self) -> str:
        """What the training is taken for, and what is done to it."""
        lines = "".join(f"\n  {sentence}" for sentence in self._driver.summary())
        return f"{type(self).__name__}: after {self.last_epoch:,} steps{lines}"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which have the optimizer and the model of their own; `watch` is to be called anew."""
        return {
            "optimizer": self.optimizer, "facts": self._driver.plan, "policy": self.policy, "options": self._options,
            "state": self.state_dict(),
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._build(state["optimizer"], state["facts"], state["policy"], state["options"])
        self.load_state_dict(state["state"])

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
        self._driver.write()


def _checked(guess: Any, optimizer: Optimizer) -> float | str | None:
    """A first guess that can be used."""
    if guess == OPTIMIZER:
        if not any(float(group["lr"]) > 0 for group in optimizer.param_groups):
            raise ValueError(f"guess: {guess!r}, but no group's lr is above 0; build it with one, or pass a rate")
        return guess
    if guess is None:
        return None
    if isinstance(guess, bool) or not isinstance(guess, int | float | np.integer | np.floating):
        raise TypeError(f"guess: {guess!r}, want a learning rate, {OPTIMIZER!r}, or None")
    if not 0 < guess < math.inf:
        raise ValueError(f"guess: {guess!r}, want a learning rate above 0")
    return float(cast(float, guess))
