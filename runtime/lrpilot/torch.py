"""`PilotLR`: the pilot as a `torch.optim.lr_scheduler.LRScheduler`.

    scheduler = PilotLR(optimizer, epochs=20, data=loader, model=model)
    for _ in range(20):
        for x, y in loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)

It is called after every optimizer step, once per micro-batch, or seldom: `loop/adapter.py` says what happens then.
"""

from __future__ import annotations

import os
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler
from torch.utils.hooks import RemovableHandle

from lrpilot.loop import arguments, optimizers
from lrpilot.loop.adapter import OptimizerAdapter
from lrpilot.loop.announcer import Log
from lrpilot.loop.calls import called_by, uncompiled
from lrpilot.loop.plan import Plan, plan
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle, load_policy
from lrpilot.range_test.run import suggest as suggest
from lrpilot.reports import listing
from lrpilot.reports.history import History
from lrpilot.text import counted


class PilotLR(LRScheduler):
    """A `torch.optim.lr_scheduler.LRScheduler` that sets the rate of every param group as a learned policy decides.

    Rates are absolute. The rates that the optimizer was built with only set the ratios between its groups: group i gets
    the pilot's rate times initial_lr[i] / initial_lr[j], where j is the reference group, the one with most parameters
    among those whose initial rate is not zero. Tensor rates are filled in place. If other code writes rates into the
    groups, they are overwritten before the next step.

    The training begins with the probe, a short range test on its own batches. Afterwards parameters, optimizer state
    and, with `model`, buffers are put back. (A GradScaler's scale is not; it adapts by itself.) There is no probe with
    `probe=False`, in trainings of fewer than 64 steps, and where `step()` gets no loss. If nothing is learned in the
    first quarter of the training and its weights are damaged, everything is put back once more, and it begins again at
    a tenth of its rate.

    In a distributed training every rank builds a scheduler and makes the same calls. Rank 0 decides.

    Args:
        optimizer: any torch optimizer that does not set its step size itself, or Accelerate's or Lightning's wrapper of
            one.
        total_steps: number of optimizer steps of the whole training, the probe included. After them the last rate is
            kept.
        policy: "default", the path of a policy file, "models:/name@alias", "models:/name/3", or a loaded `Bundle`.
        epochs: how often the loop goes through its loader; with `data` or `steps_per_epoch`, in place of `total_steps`.
        data: the DataLoader of the training, or any other collection of batches. Its length and the number of examples
            of its data set are read; it is not kept. The policy decides better when it knows both.
        accumulate: number of batches of `data` per optimizer step. The default is Accelerate's number, or else 1. If
            the loop reports the loss of each batch, the batches of the first optimizer step are counted instead.
        model: the model, whose buffers (batch norm's statistics) the roll-back after the probe puts back.
        steps_per_epoch: number of optimizer steps per pass over the data, if there is no `data`.
        examples: number of training examples, if there is no `data`.
        guess: the learning rate that you would try first, or "optimizer" for the rate that the optimizer was built
            with. It is weighed against the policy's choice: a near guess shifts the first level, a guess that is
            decades off does not. With several param groups it is the rate of the reference group.
        probe: whether to begin with the probe. A copy of the parameters lies in host memory until the loss has
            clearly fallen after it.
        min_lr: lower bound of the pilot's rate, in the optimizer's unit.
        max_lr: upper bound of the level. Below it the rate decays to zero as it does without a bound.
        strict: raise an error wherever a guard would act or a fallback would be taken with a warning.
        guards: whether guards check the policy's answers.
        log: a callable `log(metrics, step)`: a dict of finite numbers, and the number of completed optimizer steps. It
            is called on rank 0, at every decision and at every step of the probe. `wandb.log` is one.
        kind: "sgd", "adam" or "adamw": how to treat the optimizer. The default follows from its class; any other class
            is treated as Adam, with a warning.
        last_epoch: -1, as torch's schedulers have it for a new training. To go on with an earlier one, call
            `load_state_dict`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the length of the training is not known, arguments disagree, no parameter is trainable, or the
            optimizer sets its step size itself (unless `kind` is given). With `strict` also for every warning.
        BundleError: this version cannot use the policy.
        GuardError: with `strict`, during the training: a guard would have acted.
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
        last_epoch: int = -1,
    ) -> None:
        arguments.fresh(last_epoch)
        low, high = arguments.bounds(min_lr, max_lr)
        for name, value in (("probe", probe), ("strict", strict), ("guards", guards)):
            arguments.flag(name, value)
        if model is not None:
            arguments.module("model", model)
        if log is not None:
            arguments.log(log)
        if accumulate is None and data is not None:
            accumulate = optimizers.accumulation(optimizer)
        optimizer = optimizers.unwrapped(optimizer)
        optimizers.check(optimizer, kind)
        facts = plan(total_steps, epochs, data, accumulate, steps_per_epoch, examples)
        guess = arguments.first_guess(guess, optimizer)
        options: dict[str, Any] = {
            "kind": kind, "model": model, "guess": guess, "probe": probe, "min_lr": low, "max_lr": high,
            "strict": strict, "guards": guards, "log": log,
        }  # fmt: skip
        self._build(optimizer, facts, policy if isinstance(policy, Bundle) else load_policy(policy), options)

    def _build(self, optimizer: Optimizer, facts: Plan, policy: Bundle, options: dict[str, Any]) -> None:
        self.policy, self._options = policy, options
        self._adapter = OptimizerAdapter(optimizer, policy, facts, **options)
        self._placed = False
        super().__init__(optimizer)

    # What a loop calls

    @uncompiled
    def step(self, loss: Any = None, *, metrics: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Report the loss of the optimizer step just made, and set the rate of the next one.

        Call it after `optimizer.step()`, or after every micro-batch: the losses of one optimizer step are averaged.

        Args:
            loss: batch loss, a number or a 0-d tensor on any device, not scaled by a GradScaler.
            metrics: a validation loss, as ReduceLROnPlateau takes it; the same as `observe(val_loss=metrics)`.

        Raises:
            TypeError: the loss is no number, or the scheduler is part of a ChainedScheduler.
            ValueError: the loss is a tensor with more than one number.
            GuardError: with `strict`, a guard would have acted.
        """
        self._step_count += 1
        if metrics is not None:
            arguments.scalar("metrics", metrics)
            self._adapter.observe(val_loss=metrics)
        if loss is None and called_by(ChainedScheduler.step):
            raise TypeError("PilotLR in a ChainedScheduler: it sets rates, it scales none; use it alone")
        self._adapter.step(loss)

    @uncompiled
    def observe(self, val_loss: Any = None, grad_norm: Any = None, *, loss: Any = None) -> None:
        """Pass on what `step()` is not told; numbers or 0-d tensors.

        Args:
            val_loss: a validation loss. It counts at the next decision; before the training, at the first one. During
                the probe it is ignored, because those weights are put back.
            grad_norm: norm of all gradients of the optimizer step just made or about to be made. Pass the norm from
                before clipping.
            loss: batch loss of that optimizer step. It counts if the `step()` that follows gets none.

        Raises:
            TypeError: one of them is no number.
            ValueError: one of them is a tensor with more than one number.
        """
        for name, value in (("val_loss", val_loss), ("grad_norm", grad_norm)):
            if value is not None:
                arguments.scalar(name, value)
        self._adapter.observe(val_loss, grad_norm, loss)

    def watch(self, module: nn.Module) -> RemovableHandle:
        """Observe the training loss that a module returns: a 0-d tensor, or the `loss` of its output.

        For loops that pass no loss on. It counts while the module is in training mode and gradients are enabled.

        Args:
            module: the module whose outputs hold the loss.

        Returns:
            A handle whose `remove()` ends it.

        Raises:
            TypeError: `module` is no module.
        """
        arguments.module("module", module)
        return self._adapter.watch(module)

    def extend(self, total_steps: int) -> None:
        """Change the length of the training. Decisions stand; the rate follows the new decay to zero.

        Args:
            total_steps: number of optimizer steps of the whole training, those already made included.

        Raises:
            TypeError: `total_steps` is not an int.
            ValueError: no step would be left.
        """
        self._adapter.extend(arguments.whole("total_steps", total_steps, "the number of optimizer steps"))

    @uncompiled
    def end_probe(self) -> bool:
        """End the probe if it is under way: put everything back, and go on at a cautious level.

        Parameters, optimizer state and, with `model`, buffers are again as they were before the training. What the
        probe has seen so far does not count. The next step takes the first decision, as in a training without a probe;
        its level is at most that of the textbook's rate (1e-3, for SGD 0.1). Before the first optimizer step and after
        the probe the call does nothing. In a distributed training every rank makes it.

        `with scheduler:` around the whole loop makes this call when the loop is left, by whatever way.

        Returns:
            Whether a probe was under way.
        """
        return self._adapter.end_probe()

    def __enter__(self) -> Self:
        """The scheduler; the block is the whole training."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the probe if the block is left within it; exceptions pass."""
        self.end_probe()

    def set_data_size(self, steps_per_epoch: float, examples: int | None) -> None:
        """Say how many data there are, if that was not known at construction.

        Args:
            steps_per_epoch: number of optimizer steps per pass over the data.
            examples: number of training examples; None if it is not known.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: an argument is not above 0.
        """
        arguments.positive("steps_per_epoch", steps_per_epoch)
        if examples is not None:
            arguments.whole("examples", examples, "the number of training examples")
        self._adapter.set_data_size(steps_per_epoch, examples)

    # What may be read

    @property
    def pilot(self) -> Pilot:
        """The part that decides and needs no torch; for reading."""
        return self._adapter.pilot

    @property
    def planned_steps(self) -> int:
        """Number of optimizer steps of the whole training.

        It is not called `total_steps`, because Accelerate treats a scheduler with that attribute like OneCycleLR: it
        steps it no more than so many times over all processes.
        """
        return self.pilot.total_steps

    @property
    def steps_per_epoch(self) -> float | None:
        """Number of optimizer steps per pass over the data; None if it is not known."""
        return self._adapter.plan.steps_per_epoch

    @property
    def examples(self) -> int | None:
        """Number of training examples; None if it is not known."""
        return self._adapter.plan.examples

    @property
    def probing(self) -> bool:
        """Whether the coming optimizer step, or the one just made, belongs to the probe.

        The loss of such a step tells nothing about the training, and its weights will be put back. Skip logs, averages
        of weights, checkpoints and pruning meanwhile. Read it before you call `step()`: the call that ends the probe
        already sets it to False.
        """
        return self.pilot.in_probe

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradient norm of the coming step counts; `observe(grad_norm=...)` is for these steps."""
        return self.pilot.wants_gradient

    @property
    def history(self) -> History:
        """The decisions so far: observation, answer and rate of each."""
        return self.pilot.history

    def plot(self, ax: Any = None) -> Any:
        """Draw the rates, losses and guard events so far; see `lrpilot.reports.plot.draw`.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.

        Returns:
            The axes of the rate.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from lrpilot.reports.plot import draw

        return draw(self.history, self.planned_steps, self.pilot.protocol.action, ax)

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the coming optimizer step, one per param group."""
        return [*self._adapter.learning_rates()]

    def get_last_lr(self) -> list[float | Tensor]:
        """Rates that were written into the param groups last, one per group."""
        return [*self._adapter.written_rates()]

    def state_dict(self) -> dict[str, Any]:
        """The state of the training so far.

        It holds plain Python values and, as long as the copy of the parameters is kept, its tensors.
        `torch.load(..., weights_only=True)` reads it. In a distributed training, rank 0's state is that of all ranks.
        The exception is a copy of sharded parameters: then each rank must save and load its own state.

        The entry "probing" tells readers of a checkpoint whether the probe was under way. Then the weights saved beside
        it are the probe's: good for resuming the training, not for use. `end_probe()` before saving leaves sound ones.
        """
        return self._adapter.state_dict() | {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, and write the rates to the optimizer.

        The saved state decides whether the training was probed and, if `extend` was called, how long it is. Another
        `total_steps` than at the save extends the training, with a warning. Another policy file is warned of.

        Args:
            state_dict: what `state_dict` returned. Load the states of model and optimizer as well.

        Raises:
            TypeError: it is no dict.
            ValueError: the state belongs to another scheduler, optimizer kind, protocol or number of groups; or
                `total_steps` lies behind it; or it is another rank's, with a copy of sharded parameters.
        """
        arguments.state(state_dict)
        self._adapter.load_state_dict(state_dict)
        self._step_count = state_dict["_step_count"]

    def __repr__(self) -> str:
        """What the scheduler assumes about the training, as in the start line."""
        return "\n  ".join([self._title(), *self._adapter.summary()])

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return listing.bullets(self._title(), self._adapter.summary())

    def _title(self) -> str:
        return f"{type(self).__name__}: after {counted(f'{self.last_epoch:,}', 'step')}"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which have the optimizer and the model of their own; `watch` is to be called anew."""
        return {
            "optimizer": self.optimizer, "facts": self._adapter.plan, "policy": self.policy, "options": self._options,
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
        self._adapter.write()
