"""One training, whatever sets its learning rate: mixed precision, clipping, compilation.

The randomness of an epoch, the order of the examples and dropout, depends only on the seed and the epoch's number. So a
training that is resumed after an epoch ends as if it had never stopped.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.original.agents.epochs import Telemetry
from experiments.original.sources.sets import Part, loader
from experiments.original.trainings.models import build
from experiments.original.trainings.rate_setters import RateSetter, rate_setter
from experiments.original.trainings.training import Training

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
EVALUATED = 4  # batch of an evaluation, over that of the training


@dataclass(frozen=True)
class Score:
    """An evaluation of one part."""

    loss: float
    accuracy: float
    seconds: float
    batches: int


class Loop:
    """A training in progress: call `epoch()` until it is over."""

    def __init__(self, training: Training) -> None:
        recipe, setting, folder = training.recipe, training.setting, Path(training.folder)
        _may_have_children()
        self.training, self.device = training, torch.device(training.device)
        torch.manual_seed(training.seed)
        self.model = build(training.model, training.about, training.models, folder / "bert").to(self.device)
        self._order = torch.Generator()
        cut = recipe.compile == "none"  # else every length of text would be compiled anew
        parts = {name: Part(folder, training.about, name, cut) for name in training.about.rows}
        size, workers = setting.batch_size, recipe.loader_workers
        batches = loader(parts["train"], size, workers, self.device.type, self._order)
        self._held_out = {n: loader(p, EVALUATED * size, 0, self.device.type, None) for n, p in parts.items()}
        self._batches, self.per_epoch = batches, len(batches)
        if not self.per_epoch:
            raise ValueError(
                f"training.settings.{training.model}: batch_size {size} is more than the {len(parts['train'])} "
                f"training examples of {training.about.name}; want at most as many"
            )
        self.steps = self.per_epoch * setting.epochs
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), training.learning_rate, (recipe.beta1, recipe.beta2), recipe.epsilon,
            recipe.weight_decay, fused=True,
        )  # fmt: skip
        self.rate_setter: RateSetter = rate_setter(training, self.optimizer, self.model, self.steps, batches)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.amp == "fp16")
        self._net: Any = self.model if cut else torch.compile(self.model, mode=recipe.compile)
        self.done = 0  # epochs
        self.curve: list[dict[str, float]] = []  # a row before training, and one per interval
        self.seconds = 0.0  # of training, validation left out
        # Steps of an epoch after which agents decide; everybody is validated there.
        self._ends = {round(self.per_epoch * (i + 1) / training.decisions) for i in range(training.decisions)}

    @property
    def over(self) -> bool:
        return self.done >= self.training.setting.epochs or self.diverged

    @property
    def diverged(self) -> bool:
        return bool(self.curve) and _telemetry(self.curve[-1]).broken

    def epoch(self) -> None:
        """Train one epoch; if the loss is no longer finite, only up to the next decision."""
        if not self.curve:
            score = self.evaluate("val")
            self._note(0, score.loss, score, 1.0)  # stand-ins for what no step has shown yet
        seed = self.training.seed * 100_003 + self.done
        self._order.manual_seed(seed)
        torch.manual_seed(seed)
        self.model.train()
        start = time.perf_counter()
        losses, norms, since = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        for number, (x, y) in enumerate(self._batches, 1):
            loss, norm = self._step(x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True))
            losses, since = losses + loss, since + 1
            norms = norms if norm is None else norms + norm
            if number in self._ends:
                means = float(losses) / since, float(norms) / since
                self.seconds += time.perf_counter() - start
                self._note(self.done * self.per_epoch + number, means[0], self.evaluate("val"), means[1])
                if self.diverged:
                    return
                self.model.train()
                start, losses, norms, since = time.perf_counter(), losses * 0, norms * 0, 0
        self.done += 1

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """One optimizer step. Returns its loss and, if it is clipped or asked for, the norm of its gradient."""
        recipe, norm = self.training.recipe, None
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = nn.functional.cross_entropy(self._net(x), y)
        self._scaler.scale(loss).backward()
        if recipe.clip_norm or self.rate_setter.wants_norm:
            self._scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm or torch.inf)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.rate_setter.after_step(loss.detach(), norm)
        return loss.detach(), norm

    def rehearse(self, steps: int) -> tuple[float, float]:
        """Seconds of an optimizer step, from the later half of some steps, and seconds of a validation."""
        taken = []
        for _, (x, y) in zip(range(steps), self._batches, strict=False):
            start = time.perf_counter()
            float(self._step(x.to(self.device), y.to(self.device))[0])  # waits for the device
            taken.append(time.perf_counter() - start)
        later = taken[len(taken) // 2 :]
        self.evaluate("val")
        return sum(later) / len(later), self.evaluate("val").seconds

    def _note(self, step: int, train_loss: float, score: Score, norm: float) -> None:
        """Add a row to the curve; unless it is the last one, let what sets the rate decide."""
        lr = float(self.optimizer.param_groups[0]["lr"])
        error = 1 - score.accuracy
        row = {
            "step": step, "lr": lr, "grad_norm": norm, "train_loss": train_loss, "val_loss": score.loss,
            "val_error": error, "progress": step / self.steps,
        }  # fmt: skip
        self.curve.append(row)
        if step < self.steps and not self.diverged:
            self.rate_setter.decide(_telemetry(row))
            row["action"] = self.rate_setter.action

    @torch.no_grad()
    def evaluate(self, part: str) -> Score:
        """Mean loss and accuracy of a part."""
        self.model.eval()
        start = time.perf_counter()
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        batches = self._held_out[part]
        for x, y in batches:
            x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
            with self._autocast():
                logits = self._net(x).float()
            loss += nn.functional.cross_entropy(logits, y, reduction="sum")
            right += (logits.argmax(1) == y).sum()
        rows = self.training.about.rows[part]
        return Score(float(loss) / rows, float(right) / rows, time.perf_counter() - start, len(batches))

    def _autocast(self) -> torch.autocast:
        amp = self.training.recipe.amp
        return torch.autocast(self.device.type, AMP.get(amp, torch.bfloat16), enabled=amp != "none")

    def result(self) -> dict[str, Any]:
        """The results, named as Hugging Face's Trainer names them: `eval_` is on the held-out share."""
        training, val, test = self.training, self.evaluate("val"), self.evaluate("test")
        rows, seconds = training.about.rows["val"], max(val.seconds, 1e-9)
        return {
            "dataset": training.about.name, "model": training.model, "batch_size": training.setting.batch_size,
            "epochs": training.setting.epochs, "own_rate": training.setting.learning_rate,
            "scheduler": training.scheduler, "behaviour": training.behaviour,
            "learning_rate": training.learning_rate, "seed": training.seed, "steps": self.steps,
            "diverged": self.diverged, "train_runtime": self.seconds, "eval_loss": val.loss,
            "eval_accuracy": val.accuracy, "eval_runtime": val.seconds, "eval_samples_per_second": rows / seconds,
            "eval_steps_per_second": val.batches / seconds, "epoch": self.done, "test_loss": test.loss,
            "test_accuracy": test.accuracy, "curve": self.curve,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to resume: tensors and plain values."""
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(), "rate_setter": self.rate_setter.state_dict(), "done": self.done,
            "curve": self.curve, "seconds": self.seconds,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.rate_setter.load_state_dict(state["rate_setter"])
        self.done, self.curve, self.seconds = state["done"], state["curve"], state["seconds"]


def _telemetry(row: dict[str, float]) -> Telemetry:
    return Telemetry(**{k: row[k] for k in ("progress", "lr", "grad_norm", "train_loss", "val_loss", "val_error")})


def _may_have_children() -> None:
    """Let a worker of the engine fetch batches in processes of its own. torch ends them with the worker."""
    process = multiprocessing.current_process()
    if process.daemon:
        process.daemon = False
