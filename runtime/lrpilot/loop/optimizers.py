"""What kind of optimizer a pilot drives, and which ones it cannot drive. Needs torch."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrpilot.decisions.optimizer_kinds import FALLBACK, OPTIMIZERS, OWN_STEP, REFERENCES, known

FAMILIAR = re.compile(rf"(deepspeed|fused|paged|cpu)*({'|'.join(REFERENCES)})(8bit|4bit)?")  # names, in lower case
OF_CLASS = {getattr(torch.optim, cls): name for name in REFERENCES for cls in OPTIMIZERS[name].classes}


def unwrapped(optimizer: Any) -> Optimizer:
    """The torch optimizer inside Accelerate's or Lightning's wrapper; hooks must sit on the one that steps."""
    if isinstance(optimizer, LRScheduler):
        raise TypeError(f"optimizer: {type(optimizer).__name__}, want the optimizer itself; PilotLR takes its place")
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer: {type(optimizer).__name__}, want a torch.optim.Optimizer, "
            "such as torch.optim.AdamW(model.parameters())"
        )
    return optimizer


def accumulation(optimizer: Any) -> int | None:
    """Batches per optimizer step, where the optimizer comes from an `Accelerator` that accumulates; else None."""
    steps: Any = getattr(getattr(optimizer, "gradient_state", None), "num_steps", None)
    return steps if isinstance(steps, int) and steps > 1 else None


def kind_of(optimizer: Optimizer) -> str:
    """The kind a pilot takes it for: SGD is "sgd", AdamW "adamw", every other optimizer counts as "adam"."""
    if _is_sgd(optimizer):
        return "sgd"
    return next((OF_CLASS[base] for base in type(optimizer).__mro__ if base in OF_CLASS), FALLBACK)


def is_foreign(optimizer: Optimizer) -> bool:
    """Whether policies were trained on no optimizer of this kind: neither SGD, Adam nor AdamW, by class or by name.

    The name is what tells Adam in bitsandbytes, Apex or DeepSpeed (AdamW8bit, FusedAdam) from others.
    """
    return not _is_sgd(optimizer) and not any(FAMILIAR.fullmatch(name) for name in _names(optimizer))


def _is_sgd(optimizer: Optimizer) -> bool:
    """Whether a step is the rate times the gradient or its momentum, so that good rates are those of SGD.

    Outside of torch, the name tells the fused and quantised ones. Name and momentum tell variants such as timm's SGDW.
    A variant that takes the gradient's sign has steps like Adam's.
    """
    if any(OPTIMIZERS[OF_CLASS[base]].is_sgd for base in type(optimizer).__mro__ if base in OF_CLASS):
        return True
    names = [name for name in _names(optimizer) if "sgd" in name and "sign" not in name]
    momentum = all("momentum" in group for group in optimizer.param_groups)
    return any(momentum or FAMILIAR.fullmatch(name) for name in names)


def check(optimizer: Optimizer, kind: str | None) -> None:
    """Raise ValueError for an unknown kind, or for an optimizer that works out its step size itself and has none."""
    if kind is None and (refusal := own_step(optimizer)) is not None:
        raise ValueError(f"{refusal}, or pass kind='adam' to have its rate driven all the same")
    if kind not in (None, *REFERENCES):
        raise ValueError(f"kind: {kind!r}, want one of {', '.join(map(repr, REFERENCES))}")


def own_step(optimizer: Optimizer) -> str | None:
    """Why the optimizer's rate is not to be set from outside, for an error; None where it may be."""
    own = next((why for name in _names(optimizer) for start, why in OWN_STEP.items() if _is(name, start)), None)
    if own is None and any(group.get("relative_step") for group in optimizer.param_groups):  # transformers' Adafactor
        own = "sets its own rate, since relative_step=True"
    return None if own is None else f"optimizer: {type(optimizer).__name__} {own}; use {known('or')}"


def _names(optimizer: Optimizer) -> list[str]:
    """Names of its class and of those that it derives from, in lower case."""
    return [base.__name__.lower() for base in type(optimizer).__mro__]


def _is(name: str, start: str) -> bool:
    return name.startswith(start) or (start == "schedulefree" and start in name)


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether the step under way changes nothing, since gradients overflowed: a GradScaler lets a fused one know."""
    overflow = getattr(optimizer, "found_inf", None)
    return overflow is not None and bool(overflow)
