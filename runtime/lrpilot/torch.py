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
"""

from __future__ import annotations

import math
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrpilot import telemetry
from lrpilot.bundle import Bundle, load_policy
from lrpilot.pilot import Decision, Pilot
from lrpilot.rollback import Snapshot, parameters
from lrpilot.sampler import Sampler

MICRO_BATCHES = 1024  # reported losses that wait for their optimizer step, at most


def optimizer_kind(optimizer: Optimizer) -> str:
    """The kind a pilot knows: SGD is "sgd", AdamW "adamw", every other optimizer counts as "adam"."""
    if isinstance(optimizer, torch.optim.SGD):
        return "sgd"
    return "adamw" if isinstance(optimizer, torch.optim.AdamW) else "adam"


class PilotLR(LRScheduler):
    """Sets the learning rate of every param group, step by step, as a learned policy decides.

    The optimizer's own learning rates only matter relative to each other: group i gets the pilot's rate times
    initial_lr[i] / initial_lr[j], where j is the first group whose initial rate is not zero; tensor rates are
    filled in place. Rates are absolute: what another scheduler on the same optimizer wrote is overwritten.

    Unless `probe=False` or the training is shorter than 64 steps, it begins with the probe: a short range
    test on the training's own batches, after which parameters, optimizer state and, with `model`, buffers are
    put back. The loss must be passed to `step()` meanwhile, else the probe is left out. A GradScaler's scale is
    not put back; it finds its own.

    Args:
        optimizer: any torch optimizer; see `optimizer_kind`.
        total_steps: optimizer steps of the whole training, probe included. Beyond it the last rate is kept.
        policy: "default", the path of a bundle, models:/name@alias, or a loaded `Bundle`.
        model: whose buffers (batch norm) the probe's roll-back puts back.
        steps_per_epoch: optimizer steps per pass over the data, where there is such a thing.
        probe: whether to begin with the probe; until it ends, a copy of the parameters lies in host memory.
        min_lr, max_lr: bounds of the pilot's rate.
        strict: raise where otherwise a guard acts or a fallback is taken with a warning.

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
        probe: bool = True,
        min_lr: float | None = None,
        max_lr: float | None = None,
        strict: bool = False,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: {type(optimizer).__name__}, want a torch.optim.Optimizer")
        if not isinstance(total_steps, int | np.integer):
            raise TypeError(f"total_steps: {total_steps!r}, want an int, the number of optimizer steps")
        low, high = 0.0 if min_lr is None else min_lr, math.inf if max_lr is None else max_lr
        if not 0 <= low <= high:
            raise ValueError(f"min_lr, max_lr: {min_lr!r}, {max_lr!r}, want 0 <= min_lr <= max_lr")
        self.policy = policy if isinstance(policy, Bundle) else load_policy(policy)
        self._new_pilot = partial(
            Pilot, self.policy.protocol, int(total_steps), optimizer_kind(optimizer), min_lr=low, max_lr=high,
            steps_per_epoch=steps_per_epoch, strict=strict, fetch=_fetch,
        )  # fmt: skip
        self.optimizer, self.model, self.strict = optimizer, model, strict
        self.pilot = self._new_pilot(probed=probe)
        self._sampler = Sampler([p for p in parameters(optimizer) if p.requires_grad])
        self._sketch = telemetry.Sketch(self._sampler.scale)
        self._snapshot: Snapshot | None = None  # where the probe began, until it ends
        self._losses: deque[Any] = deque(maxlen=MICRO_BATCHES)  # reported since the last completed step
        self._grad_norm: Any = None  # the same
        self._gradient: Tensor | None = None  # sample of the step to complete, where asked for
        self._pending = False  # an optimizer step was made and is not completed
        self._ratios: list[float] = []  # of the groups' rates
        self._told: list[str] = []  # warnings given
        if self.pilot.cadence.probe_steps:
            self._snapshot = Snapshot.take(optimizer, model)
        else:
            self.pilot.decide(self.policy)
        hooks = (
            optimizer.register_step_pre_hook(_weak(self._before_step)),
            optimizer.register_step_post_hook(_weak(self._after_step)),
        )
        weakref.finalize(self, lambda: [hook.remove() for hook in hooks])
        super().__init__(optimizer)

    def _initial_step(self) -> None:
        """Replaces the `step()` of the base class's constructor: no optimizer step was made yet."""
        self._step_count = 1
        self._write()

    @property
    def history(self) -> list[Decision]:
        """Every decision so far: what was seen, answered and done."""
        return self.pilot.history

    def observe(self, val_loss: Any = None, grad_norm: Any = None) -> None:
        """Note what the scheduler cannot see, numbers or 0-d tensors.

        A validation loss belongs to the coming decision (before training: to the first). The gradient norm,
        before any clipping, is that of the optimizer step just made or about to be made.
        """
        if grad_norm is not None:
            self._grad_norm = grad_norm.detach() if isinstance(grad_norm, Tensor) else float(grad_norm)
        if val_loss is None:
            return
        if self.pilot.step == 0 and self.pilot.decision and not self._pending:
            # Without a probe the first decision was taken at construction: take it again, knowing this.
            self.pilot = self._new_pilot(probed=False)
            self.pilot.observe(float(val_loss))
            self.pilot.decide(self.policy)
            self._write()
        else:
            self.pilot.observe(float(val_loss))

    def step(self, loss: Any = None) -> None:
        """Report the batch loss, a number or 0-d tensor, of the step just made, and set the next rate."""
        self._step_count += 1
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach().reshape(()).clone())
        elif loss is not None:
            self._losses.append(float(loss))
        elif self._pending and not self._losses:
            self._complain("loss", "step() got no loss, and without one the pilot holds its level; call step(loss)")
        if self._pending:
            self._complete()
        elif self._losses and self.pilot.probing.any() and not math.isfinite(float(self._losses[-1])):
            # A GradScaler skipped the step of a loss that is not finite, as it will all later ones.
            self._losses.clear()
            self._probe_step(math.nan, math.nan)
            self._write()

    def get_lr(self) -> list[float | Tensor]:
        """Rates (groups,) of the coming optimizer step; absolute."""
        if len(self._ratios) != len(self.optimizer.param_groups):  # at first, and where a group was added
            self._ratios = _ratios(self.optimizer)
        lr = float(self.pilot.learning_rates()[0])
        return [lr * ratio for ratio in self._ratios]

    def state_dict(self) -> dict[str, Any]:
        """Plain Python values and, while the probe runs, its copy's tensors: `weights_only=True` loads it."""
        return {
            "pilot": self.pilot.state_dict(),
            "sketch": {name: _plain(value) for name, value in vars(self._sketch).items() if name != "scale"},
            "snapshot": None if self._snapshot is None else dict(vars(self._snapshot)),
            "losses": [float(x) for x in self._losses],
            "grad_norm": None if self._grad_norm is None else float(self._grad_norm),
            "gradient": _plain(self._gradient),
            "pending": self._pending,
            "told": list(self._told),
            "initial_lrs": [float(group["initial_lr"]) for group in self.optimizer.param_groups],
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; the rates are written to the optimizer.

        Whether the training was probed is the saved state's to say. Raises ValueError if it was saved under
        another total_steps, optimizer kind, protocol or number of groups.
        """
        groups, initial = self.optimizer.param_groups, state_dict["initial_lrs"]
        if len(initial) != len(groups):
            raise ValueError(
                f"param_groups: the saved state has {len(initial)}, the optimizer {len(groups)}; "
                "load into an optimizer with the same groups"
            )
        pilot = self._new_pilot(probed=bool(state_dict["pilot"]["probe_steps"]))
        pilot.load_state_dict(state_dict["pilot"])
        self.pilot = pilot
        tensor = self._sampler.tensor
        sketch = {name: tensor(value) for name, value in state_dict["sketch"].items()}
        norms, cosines = list(sketch.pop("_norms")), list(sketch.pop("_cosines"))
        self._sketch = telemetry.Sketch(self._sampler.scale, _norms=norms, _cosines=cosines, **sketch)
        self._snapshot = None if state_dict["snapshot"] is None else Snapshot(**state_dict["snapshot"])
        self._losses = deque(state_dict["losses"], MICRO_BATCHES)
        self._grad_norm, self._gradient = state_dict["grad_norm"], tensor(state_dict["gradient"])
        self._pending, self._told = state_dict["pending"], list(state_dict["told"])
        for group, lr in zip(groups, initial, strict=True):
            group["initial_lr"] = lr
        self._ratios = _ratios(self.optimizer)
        self._step_count = state_dict["_step_count"]
        self._write()

    def _before_step(self) -> None:
        if self._pending:
            self._complete()
        elif self._snapshot is not None and self.pilot.step == 0 and not self._snapshot.matches(self.optimizer):
            # Weights were loaded since construction: those count. Buffers have seen one batch by now.
            self._snapshot = Snapshot.take(self.optimizer, self.model)
        if self.pilot.window_opens:
            self._sketch.open(self._sampler.weights())

    def _after_step(self) -> None:
        skipped = getattr(self.optimizer, "found_inf", None)  # there while a GradScaler steps a fused optimizer
        if skipped is not None and bool(skipped):
            return
        self._pending = True
        self._gradient = self._sampler.gradients() if self.pilot.wants_gradient else None

    def _complete(self) -> None:
        """Finish the optimizer step made last, in the order that `lrpilot.pilot` gives."""
        gradient, norm, loss = self._gradient, self._grad_norm, _mean(list(self._losses))
        self._pending, self._gradient, self._grad_norm = False, None, None
        self._losses.clear()
        if self._snapshot is not None and self.pilot.step == 0 and loss is None:
            self._leave_out_probe()
        pilot = self.pilot
        if gradient is not None and pilot.probing.any():
            last = pilot.probe_loss[0, pilot.step - 1]
            norm = telemetry.norm(gradient) * self._sketch.scale if norm is None else norm
            self._probe_step(float(last if loss is None else loss), float(norm))
        else:
            pilot.advance(loss)
        if gradient is not None and pilot.in_window:
            self._sketch.gradient(gradient, None if norm is None else self._sampler.tensor(float(norm)))
        if pilot.due:
            fields = self._sketch.close(self._sampler.weights())
            values = torch.stack([*fields.values()]).cpu().double().tolist()
            pilot.see(dict(zip(fields, values, strict=True)))
            if pilot.step < pilot.total_steps:
                pilot.decide(self.policy)
        if pilot.step > pilot.total_steps:
            steps = pilot.total_steps
            self._complain("total", f"more than total_steps={steps} steps were made; the last rate is kept")
        self._write()

    def _probe_step(self, loss: float, grad_norm: float) -> None:
        if self.pilot.advance(loss, grad_norm)[0]:
            self._roll_back()
            self.pilot.decide(self.policy)

    def _leave_out_probe(self) -> None:
        """Put the weights back, and go on as if without a probe; the first step, already made, counts."""
        self._complain("probe", "step() got no loss, so the probe is left out; call step(loss) or pass probe=False")
        self._roll_back()
        pilot = self._new_pilot(probed=False)
        pilot.observe(self.pilot.pending_validation)
        pilot.decide(self.policy)
        if pilot.window_opens:
            self._sketch.open(self._sampler.weights())
        self.pilot = pilot

    def _roll_back(self) -> None:
        if self._snapshot is not None:
            self._snapshot.restore(self.optimizer, self.model)
        self._snapshot = None

    def _write(self) -> None:
        """Give every group its rate of the coming step."""
        rates = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = rates
        self.last_epoch = self.pilot.step

    def _complain(self, topic: str, message: str) -> None:
        if self.strict:
            raise ValueError(f"PilotLR: {message}")
        if topic not in self._told:
            self._told.append(topic)
            warnings.warn(f"PilotLR: {message}", stacklevel=4)


def _ratios(optimizer: Optimizer) -> list[float]:
    """Each group's initial rate over the first that is not zero; 1 where all are."""
    initial = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
    base = next((lr for lr in initial if lr), None)
    return [1.0 if base is None else lr / base for lr in initial]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.tolist() if isinstance(value, Tensor) else value


def _mean(losses: list[Any]) -> Any:
    """Mean of the finite losses of one optimizer step's micro-batches, without waiting for the device."""
    if len(losses) < 2:
        return losses[0] if losses else None
    held = [x for x in losses if isinstance(x, Tensor)]
    device = held[0].device if held else None
    values = torch.stack([torch.as_tensor(x, dtype=torch.float32, device=device) for x in losses])
    return torch.nanmean(torch.where(values.isfinite(), values, math.nan))


def _fetch(losses: Sequence[Any]) -> np.ndarray:
    """Losses as reported (kept,) -> float64 (kept, 1), with one wait for the device."""
    held = [x for x in losses if isinstance(x, Tensor)]
    fetched = iter(torch.stack(held).cpu().double().tolist() if held else ())
    numbers = [next(fetched) if isinstance(x, Tensor) else np.asarray(x).item() for x in losses]
    return np.array(numbers, np.float64)[:, None]


def _weak(method: Callable[[], None]) -> Callable[..., None]:
    """An optimizer hook that does not keep its scheduler alive: a dropped one must not write rates."""
    held = weakref.WeakMethod(method)

    def hook(*_: Any) -> None:
        bound = held()
        if bound is not None:
            bound()

    return hook
