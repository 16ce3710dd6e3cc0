"""Trains one case under one method, as users write it: a plain loop, transformers' Trainer, or Lightning's.

Methods are "pilot" (the shipped policy, with the case's arguments), "unguarded" (the same with guards=False), and a
schedule of torch with a rate: "linear 1e-3". All methods of a case and seed have the same initial weights, data and
order of batches.
"""

from __future__ import annotations

import math
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.harmless.case import Case
from benchmarks.harmless.data import Sample

PILOT, UNGUARDED = "pilot", "unguarded"
GUARDS = {PILOT: True, UNGUARDED: False}
RATES = {"1e-3": (1e-3, 0.03), "3e-3": (3e-3, 0.1)}  # of Adam, and of SGD with momentum
RIVALS = tuple(f"{curve} {rate}" for curve in ("linear", "cosine") for rate in RATES)
METHODS = (*GUARDS, *RIVALS)
VALIDATION = 2000  # examples
SEEN = 256  # of them, that Lightning validates on while it trains
OPTIMIZERS: Mapping[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass
class Training:
    """A case's model, loss and data, drawn by a seed."""

    case: Case
    seed: int
    method: str

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        number = zlib.crc32(f"{self.case.name} {self.seed}".encode())
        self.generator = Generator().manual_seed(number)
        torch.manual_seed(number)
        self.model = self.case.network()
        self.sample: Sample = self.case.data(self.generator)
        self.validation = self.sample(VALIDATION, True)
        self.examples = None if self.case.examples is None else TensorDataset(*self.sample(self.case.examples, False))
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        torch.manual_seed(number + 1)  # what dropout draws depends on nothing before

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """What training minimises."""
        return self.case.scale * self.case.loss(self.model, x, y) + self.case.offset

    def validation_loss(self) -> float:
        """The case's own loss, without scale and offset, on data without noise."""
        self.model.eval()
        with torch.no_grad():
            value = float(self.case.loss(self.model, *self.validation))
        self.model.train()
        return value

    def loader(self) -> DataLoader[Any]:
        assert self.examples is not None
        return DataLoader(self.examples, self.case.batch, shuffle=True, generator=Generator().manual_seed(self.seed))

    @property
    def rate(self) -> float:
        """The optimizer's: the rival's first, or the lower of theirs, which a pilot ignores."""
        return RATES[self.method.split()[-1] if self.method in RIVALS else "1e-3"][self.case.optimizer == "sgd"]

    def optimizer(self) -> Optimizer:
        options = {"momentum": 0.9} if self.case.optimizer == "sgd" else {}
        return OPTIMIZERS[self.case.optimizer](
            self.params, lr=self.rate, weight_decay=self.case.weight_decay, **options
        )

    def decay(self, optimizer: Optimizer) -> LRScheduler:
        """A rival's schedule."""
        n = self.case.steps
        if self.method.startswith("linear"):
            return LinearLR(optimizer, 1.0, 0.0, n)
        return CosineAnnealingLR(optimizer, n)


def run(case: Case, seed: int, method: str) -> dict[str, Any]:
    """Losses before and after a training, and for a pilot what it decided.

    Keys: first, final (nan where the network is lost); level and anchor in decades, of the first decision; events, the
    names of the guard's, in order.
    """
    training = Training(case, seed, method)
    first = training.validation_loss()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of guards, and of Lightning about workers
        scheduler: Any = LOOPS[case.loop](training)
    end = {"first": first, "final": training.validation_loss()}
    if method in RIVALS:
        return end
    decisions = scheduler.history
    events = [decision.event for decision in decisions if decision.event is not None]
    level = decisions[0].level if decisions else math.nan
    return end | {"level": level, "anchor": float(scheduler.pilot.anchor[0]), "events": events}


def _plain(training: Training) -> Any:
    case, model, params = training.case, training.model.train(), training.params
    optimizer = training.optimizer()
    loader = None if training.examples is None else training.loader()
    scheduler: Any = _pilot(training, optimizer, loader) if training.method in GUARDS else training.decay(optimizer)
    for x, y in _batches(training, loader):
        loss = training.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        norm = None if case.clip is None else nn.utils.clip_grad_norm_(params, case.clip)
        if training.method in RIVALS:
            optimizer.step()
            scheduler.step()
            continue
        if norm is not None and scheduler.wants_gradient:
            scheduler.observe(grad_norm=norm)
        optimizer.step()
        scheduler.step(loss)
    assert model.training
    return scheduler


def _batches(training: Training, loader: DataLoader[Any] | None) -> Iterator[tuple[Tensor, Tensor]]:
    if loader is None:
        for _ in range(training.case.length):
            yield training.sample(training.case.batch, False)
        return
    for _ in range(training.case.length):
        yield from loader


def _pilot(training: Training, optimizer: Optimizer, loader: DataLoader[Any] | None) -> Any:
    from lrpilot.torch import PilotLR

    case, guards = training.case, GUARDS[training.method]
    if loader is None or case.arguments == "steps":
        return PilotLR(optimizer, case.steps, model=training.model, guards=guards)
    return PilotLR(optimizer, epochs=case.length, data=loader, model=training.model, guards=guards)


def _transformers(training: Training) -> Any:
    """Trainer, with its AdamW and its clipping at 1."""
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    case, wrapped = training.case, _WithLoss(training)
    assert training.examples is not None
    examples: Any = [{"x": x, "y": y} for x, y in training.examples]
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {} if training.method in GUARDS else {
            "lr_scheduler_type": training.method.split()[0], "warmup_steps": 0
        }  # fmt: skip
        args = TrainingArguments(
            folder, num_train_epochs=case.length, per_device_train_batch_size=case.batch, learning_rate=training.rate,
            weight_decay=case.weight_decay, seed=training.seed, remove_unused_columns=False, use_cpu=True,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, **options,
        )  # fmt: skip
        trainer = Trainer(wrapped, args, train_dataset=examples)
        trainer.remove_callback(PrinterCallback)
        if training.method in GUARDS:
            from lrpilot.integrations.transformers import create_pilot

            create_pilot(trainer, guards=GUARDS[training.method])
        set_seed(training.seed)
        trainer.train()
    return trainer.lr_scheduler


class _WithLoss(nn.Module):
    """The network as Trainer takes it: its output holds the loss."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.model, self._loss = training.model, training.loss

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": self._loss(x, y)}


def _lightning(training: Training) -> Any:
    from lightning import Callback, LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = training.model

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return training.loss(*batch)

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            self.log("val_loss", training.loss(*batch))

        def configure_optimizers(self) -> Any:
            optimizer = training.optimizer()
            if training.method in RIVALS:
                return [optimizer], [{"scheduler": training.decay(optimizer), "interval": "step"}]
            from lrpilot.torch import PilotLR

            total = self.trainer.estimated_stepping_batches
            return [optimizer], [PilotLR(optimizer, int(total), model=self, guards=GUARDS[training.method])]

    callbacks: list[Callback] = []
    if training.method in GUARDS:
        from lrpilot.integrations.lightning import PilotCallback

        callbacks.append(PilotCallback())
    module, seen = Module(), [part[:SEEN] for part in training.validation]
    trainer = Trainer(
        accelerator="cpu", max_epochs=training.case.length, callbacks=callbacks, gradient_clip_val=training.case.clip,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, training.loader(), DataLoader(TensorDataset(*seen), SEEN))
    return module.lr_schedulers()


LOOPS = {"plain": _plain, "transformers": _transformers, "lightning": _lightning}
