"""`PilotCallback`: tells the `PilotLR` of a Lightning module what its Trainer knows. Needs lightning.

    class Module(L.LightningModule):
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters())
            return [optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, model=self)]

    L.Trainer(callbacks=[PilotCallback()]).fit(Module(), ...)

Lightning calls `scheduler.step()` without a loss, and by default once per epoch. The callback makes that once per
optimizer step, and passes on the training loss, the validation loss and, where gradients are clipped, their norm. It
also tells how many examples there are and how many optimizer steps a pass over them takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import _TunerExitException  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.integrations.loaders import epoch_of
from lrpilot.loop.losses import inside
from lrpilot.loop.plan import steps_of_epoch
from lrpilot.range_test import run
from lrpilot.range_test.suggestion import Suggestion
from lrpilot.torch import PilotLR


class PilotCallback(Callback):
    """A Lightning callback that feeds every `PilotLR` which `configure_optimizers` returned.

    It steps the scheduler once per optimizer step, and passes on training loss, validation loss, gradient norm and the
    size of the data. With several `PilotLR` (manual optimization) it cannot know to which one a training loss belongs:
    pass the loss to the `step(loss)` of each. The validation loss goes to all.

    It keeps the probe apart: `EarlyStopping` and `ModelCheckpoint` pass over the ends of validations and epochs within
    it. If any checkpoint is written within the probe, or the fit stops or fails there, `PilotLR.end_probe` is called
    first.

    Args:
        val_loss: name under which the validation loss is logged; None to pass on none.

    Raises:
        MisconfigurationException: when the fit starts, if there is no `PilotLR`, if one is configured with
            reduce_on_plateau, or if two share an optimizer.
    """

    def __init__(self, val_loss: str | None = "val_loss") -> None:
        self.val_loss = val_loss
        self._begun_probing = False  # whether the present epoch has begun within the probe
        self._validated: dict[str, Tensor] = {}  # metrics at the end of its latest validation after the probe
        self._undo = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the schedulers, and have them stepped once per optimizer step."""
        configs = [config for config in trainer.lr_scheduler_configs if isinstance(config.scheduler, PilotLR)]
        if not configs:
            raise MisconfigurationException(
                "PilotCallback: configure_optimizers returned no PilotLR; return "
                "[optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, model=self)]"
            )
        if len({id(config.scheduler.optimizer) for config in configs}) < len(configs):
            raise MisconfigurationException("PilotCallback: two PilotLRs drive one optimizer; return one of them")
        for config in configs:
            if config.reduce_on_plateau:
                raise MisconfigurationException(
                    "PilotCallback: reduce_on_plateau=True would pass the monitored metric as a training loss; "
                    f"leave it out, and name the metric here: PilotCallback(val_loss={config.monitor!r})"
                )
            config.interval, config.frequency = "step", 1
        self._keep_probe_apart(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell how many data there are, and warn of a wrong total_steps while there is time."""
        self._begun_probing, self._validated = _probing(trainer), {}
        if not pl_module.automatic_optimization:
            return
        coming = trainer.estimated_stepping_batches
        for scheduler in _schedulers(trainer):
            if scheduler.steps_per_epoch is None:
                _tell_data_size(scheduler, trainer)
            planned = scheduler.planned_steps
            if 0 < coming < float("inf") and planned != coming:
                rank_zero_warn(
                    f"PilotLR: total_steps={planned}, and the Trainer will make {coming} optimizer steps; the rate "
                    "falls to zero over total_steps, so pass self.trainer.estimated_stepping_batches"
                )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Tell the loss of this batch."""
        schedulers = _schedulers(trainer)
        if len(schedulers) == 1:
            schedulers[0].observe(loss=_as_returned(trainer, loss.detach()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Tell the gradient norm where Lightning is about to clip it, on the few steps that ask for it."""
        if not trainer.gradient_clip_val and not is_overridden("configure_gradient_clipping", pl_module):
            return
        for scheduler in _schedulers(trainer):
            if scheduler.optimizer is optimizer and scheduler.wants_gradient:
                scheduler.observe(grad_norm=_norm(optimizer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the validation loss.

        That of the sanity check before training only if it saw all of the validation data, for it is what the later
        ones are compared with. None from within the probe, whose weights are put back.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if not _probing(trainer):
            self._validated = dict(trainer.callback_metrics)
        if self.val_loss is None:
            return
        if trainer.sanity_checking and trainer.num_sanity_val_batches != trainer.num_val_batches:
            return
        value = trainer.callback_metrics.get(self.val_loss)
        if value is None:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            rank_zero_warn(
                f"PilotCallback: val_loss={self.val_loss!r} was not logged in validation, but {logged}; "
                "name what is, or pass val_loss=None"
            )
            return
        for scheduler in _schedulers(trainer):
            if not (scheduler.probing and scheduler.last_epoch):
                scheduler.observe(val_loss=value)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the probe, if the fit was stopped within it."""
        _end_probes(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the probe, if the exception came within it."""
        _end_probes(trainer)
        self._undo.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave Trainer and callbacks as they were."""
        self._undo.close()

    def _keep_probe_apart(self, trainer: Trainer) -> None:
        """Keep the probe's weights out of checkpoints, and its metrics out of what stops and ranks."""
        held: Any = trainer  # its callbacks are untyped
        for callback in held.callbacks:  # in whatever order Lightning calls them
            if isinstance(callback, EarlyStopping | ModelCheckpoint):
                self._guard(callback, "on_validation_end", _probing)
            if isinstance(callback, ModelCheckpoint):
                self._guard(callback, "on_train_epoch_end", _probing)
            if isinstance(callback, EarlyStopping):
                self._guard(callback, "on_train_epoch_end", partial(self._holds_probe, callback.monitor))
        save = trainer.save_checkpoint

        def save_checkpoint(*args: Any, **kwargs: Any) -> None:
            if _end_probes(trainer):
                rank_zero_warn(
                    "PilotLR: the probe was ended for a checkpoint, and the pilot goes on without what it would have "
                    "shown; write the first checkpoint after it"
                )
            save(*args, **kwargs)

        self._replace(trainer, "save_checkpoint", save_checkpoint)

    def _holds_probe(self, metric: str, trainer: Trainer) -> bool:
        """Whether a metric may hold losses of the probe: that of an epoch does, that of a validation after it not."""
        now, validated = (metrics.get(metric) for metrics in (trainer.callback_metrics, self._validated))
        return self._begun_probing and (now is None or validated is None or bool(now != validated))

    def _guard(self, callback: Callback, name: str, passes_over: Callable[[Trainer], bool]) -> None:
        """Let a callback's hook do nothing while `passes_over(trainer)`."""
        hook = getattr(callback, name)

        def guarded(trainer: Trainer, pl_module: LightningModule) -> None:
            if not passes_over(trainer):
                hook(trainer, pl_module)

        self._replace(callback, name, guarded)

    def _replace(self, owner: Any, name: str, method: Callable[..., None]) -> None:
        """Give an object another method until the fit is over."""
        setattr(owner, name, method)
        self._undo.callback(delattr, owner, name)


def _schedulers(trainer: Trainer) -> list[PilotLR]:
    return [config.scheduler for config in trainer.lr_scheduler_configs if isinstance(config.scheduler, PilotLR)]


def _probing(trainer: Trainer) -> bool:
    return any(scheduler.probing for scheduler in _schedulers(trainer))


def _end_probes(trainer: Trainer) -> bool:
    return any([scheduler.end_probe() for scheduler in _schedulers(trainer)])


def _tell_data_size(scheduler: PilotLR, trainer: Trainer) -> None:
    """Say how many steps a pass over the data takes, and how many examples they are, where the loader says so."""
    epoch = epoch_of(trainer.train_dataloader, trainer.num_training_batches, trainer.world_size)
    if epoch is not None:
        steps = steps_of_epoch(int(trainer.num_training_batches), trainer.accumulate_grad_batches)
        scheduler.set_data_size(steps / epoch.passes, scheduler.examples or epoch.examples)


def _as_returned(trainer: Trainer, loss: Tensor) -> Tensor:
    """The loss as training_step returned it: Lightning divides it by the micro-batches, and a GradScaler scales it."""
    scaler: Any = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None:
        loss = loss / scaler.scale(torch.ones((), device=loss.device))
    return loss if trainer.accumulate_grad_batches == 1 else loss * trainer.accumulate_grad_batches


def _norm(optimizer: Optimizer) -> Tensor | None:
    """Norm of all gradients, of sharded ones over all ranks; None where there is no gradient."""
    params: Iterable[Tensor] = (p for group in optimizer.param_groups for p in group["params"])
    linalg: Any = torch.linalg  # its functions are untyped
    norms = [_whole(linalg.vector_norm(p.grad.detach())) for p in params if p.grad is not None]
    return linalg.vector_norm(torch.stack(norms)) if norms else None


def _whole(norm: Any) -> Tensor:
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def suggest(
    trainer: Trainer,
    module: LightningModule,
    train_dataloaders: Any = None,
    *,
    datamodule: Any = None,
    steps: int = 100,
) -> Suggestion:
    """Suggest a peak learning rate for a schedule of your own, as `lrpilot.suggest` does, for what Lightning would fit.

    It begins a fit and runs range tests where the first epoch would start: with the Trainer's device, precision and
    gradient clipping, the optimizer of `configure_optimizers`, and the losses of `training_step`. Then everything is
    put back, so `trainer.fit` may follow. Nothing is logged, no callback of the Trainer is called, and each step takes
    one batch, whatever `accumulate_grad_batches` is.

    Args:
        trainer: a Trainer that is not fitting.
        module: a module with automatic optimization, and without a `PilotLR`.
        train_dataloaders: as for `trainer.fit`: one loader.
        datamodule: a LightningDataModule, in its place.
        steps: number of optimizer steps of one test, each on one batch; at least 30.

    Returns:
        The suggestion; its `lr` is None if the tests give none.

    Raises:
        MisconfigurationException: the module optimizes manually, or there are several loaders.
        TypeError, ValueError: as `lrpilot.suggest` does.
    """
    held, test = cast(Any, trainer), _RangeTest(steps)
    callbacks, loggers, own = held.callbacks, held.loggers, {*vars(module)}
    held.callbacks, held.loggers = [test], []
    for name in ("log", "log_dict"):  # training_step calls them, and no loop is there to take what it logs
        setattr(module, name, _silent)
    try:
        with isolate_rng():
            held.fit(module, train_dataloaders, datamodule=datamodule)
    finally:
        held.callbacks, held.loggers = callbacks, loggers
        for name in {"log", "log_dict"} - own:
            delattr(module, name)
    return test.suggestion


def _silent(*_: Any, **__: Any) -> None:
    pass


class _RangeTest(Callback):
    """Runs range tests where a fit would begin, and leaves it there."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.suggestion: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pl_module.automatic_optimization:
            raise MisconfigurationException(
                "suggest: the module optimizes manually; call lrpilot.suggest with its optimizer, batches and losses"
            )
        held, module = cast(Any, trainer), cast(Any, pl_module)
        held.fit_loop.setup_data()
        loader, optimizer = held.train_dataloader, held.optimizers[0]
        if isinstance(loader, list | tuple | dict):
            raise MisconfigurationException("suggest: several training loaders, want one")

        def loss_fn(batch: Any) -> Any:
            module.train()
            batch = module._on_before_batch_transfer(held.precision_plugin.convert_input(batch))
            return inside(held.strategy.training_step(held.strategy.batch_to_device(batch), 0))

        def clip(*_: Any) -> None:
            module.configure_gradient_clipping(optimizer, held.gradient_clip_val, held.gradient_clip_algorithm)

        optimizer.register_step_pre_hook(clip)
        self.suggestion = run.suggest(optimizer, loader, loss_fn, model=pl_module, steps=self.steps)
        raise _TunerExitException  # as Lightning's own LearningRateFinder leaves a fit
