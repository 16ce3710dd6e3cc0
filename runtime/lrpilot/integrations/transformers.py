"""`PilotLR` in Hugging Face's Trainer.

    trainer = Trainer(...)
    create_pilot(trainer)
    trainer.train()

Trainer calls its scheduler without a loss, so `PilotCallback` feeds it: the training loss as Trainer itself works it
out and logs it (micro-batches, label smoothing and loss functions included), the gradient norm before clipping, the
evaluation loss, and how many data there are.
"""

from __future__ import annotations

import inspect
import os
import warnings
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lrpilot.loop.optimizers import unwrapped
from lrpilot.loop.plan import plan
from lrpilot.policy_file.bundle import Bundle, load_policy
from lrpilot.range_test import run
from lrpilot.range_test.suggestion import Suggestion
from lrpilot.text import counted
from lrpilot.torch import PilotLR

IGNORED = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio")  # warmup_ratio is version 4's
DEFAULTS: tuple[Any, ...] = (None, {}, 0, "linear")  # of theirs


def create_pilot(trainer: Trainer, policy: str | os.PathLike[str] | Bundle = "default", **options: Any) -> None:
    """Let a `PilotLR` set the learning rate of every following `trainer.train()`.

    Each call of `train()` builds a new `PilotLR` with as many steps as that training has. It is
    `trainer.lr_scheduler`. The arguments' `learning_rate` only sets the ratios between param groups, unless
    guess="optimizer" makes it a first guess. Other settings of a schedule are ignored, with a warning.

    Args:
        trainer: any Trainer or subclass that has no scheduler yet.
        policy: as for `PilotLR`.
        options: further keywords of `PilotLR`: guess, probe, min_lr, max_lr, strict, guards, log, kind; also
            steps_per_epoch and examples, if the Trainer's loader does not tell them.

    Raises:
        TypeError: `PilotLR` does not know a keyword.
        ValueError: the trainer has a scheduler or a pilot already, or uses DeepSpeed, whose optimizers run no hooks.
        BundleError: this version cannot use the policy.
    """
    held: Any = trainer
    if held.lr_scheduler is not None:
        raise ValueError(
            f"trainer: it has a scheduler, {type(held.lr_scheduler).__name__}, already; leave it out of "
            "optimizers=, or if it is a PilotLR add PilotCallback(trainer)"
        )
    if trainer.is_deepspeed_enabled:
        raise ValueError("trainer: DeepSpeed steps an optimizer of its own, out of a pilot's sight; train without")
    inspect.signature(PilotLR).bind(None, 1, policy, model=None, **options)
    bundle = policy if isinstance(policy, Bundle) else load_policy(policy)

    def create_scheduler(num_training_steps: int, optimizer: Any = None) -> PilotLR:
        if held.lr_scheduler is None:
            optimizer = held.optimizer if optimizer is None else optimizer
            held.lr_scheduler = PilotLR(optimizer, num_training_steps, bundle, **({"model": held.model} | options))
            held._created_lr_scheduler = True  # so that the next train() makes another
        return held.lr_scheduler

    trainer.add_callback(PilotCallback(trainer))
    held.create_scheduler = create_scheduler
    given = [name for name in IGNORED if getattr(trainer.args, name, None) not in DEFAULTS]
    if given:
        warnings.warn(f"create_pilot: ignored {', '.join(given)}; a pilot plans the whole schedule", stacklevel=2)


def suggest(trainer: Trainer, *, steps: int = 100) -> Suggestion:
    """Suggest a peak learning rate for a schedule of your own, as `lrpilot.suggest` does, for what Trainer would train.

    The range tests take the Trainer's model, its optimizer or the one that its arguments name, its training loader, its
    losses (label smoothing and loss functions included), `max_grad_norm`, and bf16. Then everything is put back. Each
    step takes one batch of the loader, whatever `gradient_accumulation_steps` is.

    Args:
        trainer: a Trainer that is not training, in one process.
        steps: number of optimizer steps of one test, each on one batch; at least 30.

    Returns:
        The suggestion; its `lr`, for `TrainingArguments(learning_rate=...)`, is None if the tests give none.

    Raises:
        ValueError: Trainer shares the training among processes, or as `lrpilot.suggest` does.
        TypeError: as `lrpilot.suggest` does.
    """
    held: Any = trainer
    if held.args.world_size > 1 or held.is_deepspeed_enabled or held.is_fsdp_enabled:
        raise ValueError("trainer: it shares the training among processes; call suggest() in one process without")
    model, args, own = held.model, held.args, held.optimizer

    def loss_fn(batch: Any) -> Tensor:
        model.train()
        (batch,), items = held.get_batch_samples(iter([batch]), 1, args.device)
        with held.accelerator.autocast():
            loss = held.compute_loss(model, batch, num_items_in_batch=items)
        return loss.mean()  # over the devices of DataParallel

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)

    optimizer = unwrapped(held.create_optimizer())
    clipping = optimizer.register_step_pre_hook(clip) if args.max_grad_norm else None
    try:
        return run.suggest(optimizer, held.get_train_dataloader(), loss_fn, model=model, steps=steps)
    finally:
        held.optimizer = own
        if clipping is not None:
            clipping.remove()


class PilotCallback(TrainerCallback):
    """A Trainer callback that feeds the `PilotLR` of that Trainer.

    `create_pilot` adds it. Add it yourself if you pass a `PilotLR` in `optimizers=`.

    It keeps the probe apart: no evaluation takes place within it, and no epoch's end there writes a checkpoint. If
    another checkpoint is written within the probe, or the training stops or fails there, `PilotLR.end_probe` is called
    first.

    Args:
        trainer: the Trainer to which the callback is added.

    Raises:
        ValueError: the trainer has such a callback already.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer: Any = trainer
        if any(isinstance(callback, PilotCallback) for callback in self._trainer.callback_handler.callbacks):
            raise ValueError("trainer: it has a PilotCallback already; one feeds it")
        self._accelerator: Any = None  # whose clipping reports
        self._steps = 0  # that the pilot has completed
        self._loss: Tensor | None = None  # of the present optimizer step, the micro-batches so far
        self._methods = {name: getattr(trainer, name) for name in ("training_step", "train", "save_model")}
        trainer.training_step, trainer.train = self._reporting_step, self._leaving_train
        trainer.save_model = self._saving_sound_model

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check that the training's pilot is sound, and tell it how many data there are.

        Raises TypeError if its scheduler is no `PilotLR`, ValueError if that one drives another optimizer or has a
        training behind it.
        """
        pilot, optimizer = self._trainer.lr_scheduler, self._trainer.optimizer
        if not isinstance(pilot, PilotLR):
            raise TypeError(
                f"trainer.lr_scheduler: {type(pilot).__name__}, want a PilotLR; call create_pilot(trainer), or pass "
                "optimizers=(optimizer, PilotLR(optimizer, total_steps))"
            )
        if unwrapped(optimizer) is not pilot.optimizer:
            raise ValueError(
                "optimizers: the PilotLR was made for another optimizer than the one that Trainer steps; pass both: "
                "optimizers=(optimizer, PilotLR(optimizer, total_steps))"
            )
        if state.global_step == 0 and pilot.last_epoch:
            raise ValueError(
                f"trainer.lr_scheduler: this PilotLR has made {pilot.last_epoch} steps, and the training begins "
                "anew; make a new Trainer with a new PilotLR, or use create_pilot, which makes one per train()"
            )
        total = pilot.planned_steps
        if total != state.max_steps:
            warnings.warn(
                f"PilotLR: total_steps={total}, the training has {counted(str(state.max_steps), 'step')}; its rate "
                "falls to zero over total_steps",
                stacklevel=2,
            )
        if state.global_step and not pilot.last_epoch:
            warnings.warn(
                f"PilotLR: the checkpoint of step {state.global_step} has no state of it; it begins anew", stacklevel=2
            )
        if pilot.steps_per_epoch is None:
            self._tell_data_size(kwargs["train_dataloader"], args.gradient_accumulation_steps)
        self._steps, self._loss = pilot.last_epoch, None
        self._watch_clipping(self._trainer.accelerator)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Complete the step, and let no evaluation see the probe's weights.

        Trainer steps no scheduler after a step that a GradScaler skipped, but a loss that is nan ends the probe.
        """
        if self._pilot.last_epoch == self._steps:
            self._pilot.step()
        self._steps, self._loss = self._pilot.last_epoch, None
        if control.should_training_stop:
            self._pilot.end_probe()
        elif control.should_save:
            self._end_probe_for_checkpoint()
        elif self._pilot.probing:
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out what is due at the end of an epoch within the probe, unless the training ends with it."""
        if control.should_training_stop:
            self._pilot.end_probe()
        elif self._pilot.probing:
            control.should_evaluate = control.should_save = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the probe, if the training was stopped within it."""
        self._pilot.end_probe()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Of several evaluation sets the first one's loss counts."""
        sets = self._trainer.eval_dataset
        name = f"eval_{next(iter(cast(Any, sets)))}_loss" if isinstance(sets, dict) else "eval_loss"
        val_loss = kwargs["metrics"].get(name)
        if val_loss is not None and self._trainer.is_in_train:
            self._pilot.observe(val_loss=val_loss)

    @property
    def _pilot(self) -> PilotLR:
        return self._trainer.lr_scheduler

    @property
    def _has_pilot(self) -> bool:
        return isinstance(self._trainer.lr_scheduler, PilotLR)

    def _tell_data_size(self, loader: Any, accumulate: int) -> None:
        """Say how many steps a pass over the data takes, and how many examples they are, where the loader says so."""
        if isinstance(loader, DataLoader):
            facts = plan(self._pilot.planned_steps, None, loader, accumulate, None, self._pilot.examples)
            if facts.steps_per_epoch is not None:
                self._pilot.set_data_size(facts.steps_per_epoch, facts.examples)

    def _reporting_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Trainer.training_step: a micro-batch's share of the loss; the shares of an optimizer step add up to it."""
        share = self._methods["training_step"](*args, **kwargs)
        loss = share.detach()
        self._loss = loss if self._loss is None else self._loss + loss
        if self._trainer.accelerator.sync_gradients:  # the last one
            self._pilot.observe(loss=self._loss)
        return share

    def _leaving_train(self, *args: Any, **kwargs: Any) -> Any:
        """Trainer.train: an exception that passes within the probe ends it. Trainer has no event for exceptions."""
        try:
            return self._methods["train"](*args, **kwargs)
        except BaseException:
            if self._has_pilot:  # not yet, where a check fails
                self._pilot.end_probe()
            raise

    def _saving_sound_model(self, *args: Any, **kwargs: Any) -> None:
        """Trainer.save_model, with which Trainer begins each checkpoint, on every process."""
        if self._has_pilot and (kwargs.get("_internal_call") or self._trainer.args.world_size == 1):
            self._end_probe_for_checkpoint()
        self._methods["save_model"](*args, **kwargs)

    def _end_probe_for_checkpoint(self) -> None:
        if self._pilot.end_probe():
            warnings.warn(
                "PilotLR: the probe was ended for a checkpoint, and the pilot goes on without what it would have "
                "shown; save the first one after it",
                stacklevel=2,
            )

    def _watch_clipping(self, accelerator: Any) -> None:
        """Report the norm that Accelerator.clip_grad_norm_ finds before it clips. A search makes new accelerators."""
        if accelerator is self._accelerator:
            return
        clip = accelerator.clip_grad_norm_

        def reporting_clip(*args: Any, **kwargs: Any) -> Any:
            norm = clip(*args, **kwargs)
            if isinstance(norm, Tensor | float):
                self._pilot.observe(grad_norm=norm)
            return norm

        accelerator.clip_grad_norm_ = reporting_clip
        self._accelerator = accelerator
