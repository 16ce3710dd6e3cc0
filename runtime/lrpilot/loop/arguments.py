"""Checks of arguments that people pass, with errors that name the argument, its value and what to pass. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

OPTIMIZER = "optimizer"  # a guess: the rate that it was built with

# By an entry that no other scheduler's state has: whose state it is.
OTHERS = {
    "T_max": "CosineAnnealingLR", "T_0": "CosineAnnealingWarmRestarts", "step_size": "StepLR",
    "milestones": "MultiStepLR", "lr_lambdas": "LambdaLR", "_schedulers": "SequentialLR or ChainedScheduler",
    "_schedule_phases": "OneCycleLR", "end_factor": "LinearLR", "factor": "ReduceLROnPlateau or ConstantLR",
    "power": "PolynomialLR", "gamma": "ExponentialLR",
}  # fmt: skip


def shown(value: Any) -> str:
    """A value for an error: a number or a short text as it is, of anything else its type."""
    plain = value is None or is_number(value) or isinstance(value, bool | str)
    return repr(value) if plain and len(repr(value)) <= 80 else type(value).__name__


def is_number(value: Any) -> bool:
    """Whether it is a number of Python or numpy, and not a truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def whole(name: str, value: Any, meaning: str) -> int:
    """`value` as an int; TypeError where it is none, ValueError below 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: {shown(value)}, want an int, {meaning}")
    number = int(cast(int, value))
    if number < 1:
        raise ValueError(f"{name}: {number}, want at least 1")
    return number


def positive(name: str, value: Any) -> None:
    """Raise TypeError for what is no number, ValueError for one that is not finite and above 0."""
    if not is_number(value):
        raise TypeError(f"{name}: {shown(value)}, want a number")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: {value!r}, want a number above 0")


def flag(name: str, value: Any) -> None:
    """Raise TypeError for what is neither True nor False: the text "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: {shown(value)}, want True or False")


def module(name: str, value: Any) -> None:
    """Raise TypeError for what is no module."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name}: {shown(value)}, want a torch.nn.Module")


def log(value: Any) -> None:
    """Raise TypeError for what cannot be called."""
    if not callable(value):
        raise TypeError(
            f"log: {shown(value)}, want a callable log(metrics, step), such as "
            "lrpilot.integrations.loggers.csv('rates.csv')"
        )


def fresh(last_epoch: Any) -> None:
    """Raise ValueError for any `last_epoch` but -1: an index of epochs says too little to go on from."""
    if isinstance(last_epoch, bool) or last_epoch != -1:
        raise ValueError(
            f"last_epoch: {shown(last_epoch)}, want -1, a new training; "
            "to go on with an earlier one, call load_state_dict() with what its scheduler's state_dict() returned"
        )


def bounds(min_lr: Any, max_lr: Any) -> tuple[float, float]:
    """Lowest and highest rate, where None stands for no bound."""
    for name, value in (("min_lr", min_lr), ("max_lr", max_lr)):
        if value is not None and not is_number(value):
            raise TypeError(f"{name}: {shown(value)}, want a learning rate or None")
    low, high = 0.0 if min_lr is None else min_lr, math.inf if max_lr is None else max_lr
    if not 0 <= low <= high or low == math.inf:
        raise ValueError(f"min_lr, max_lr: {min_lr!r}, {max_lr!r}, want 0 <= min_lr <= max_lr")
    if high == 0:
        raise ValueError(f"max_lr: {max_lr!r}, want a learning rate above 0")
    return low, high


def first_guess(guess: Any, optimizer: Optimizer) -> float | str | None:
    """A first guess that can be used."""
    if guess is None:
        return None
    named = isinstance(guess, str) and guess == OPTIMIZER  # of an array, the comparison would be one, too
    if named:
        if not any(float(group["lr"]) > 0 for group in optimizer.param_groups):
            raise ValueError(f"guess: {guess!r}, but no group's lr is above 0; build it with one, or pass a rate")
        return guess
    if not is_number(guess):
        raise TypeError(f"guess: {shown(guess)}, want a learning rate, {OPTIMIZER!r}, or None")
    rate = float(cast(float, guess))
    if not 0 < rate < math.inf:
        raise ValueError(f"guess: {guess!r}, want a learning rate above 0")
    return rate


def state(state_dict: Any) -> None:
    """Raise for what is not the state of a `PilotLR`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict: {shown(state_dict)}, want what state_dict() returned; torch.load reads it from a file"
        )
    if "pilot" not in state_dict:
        entries = [*map(str, cast(Mapping[Any, Any], state_dict))]
        name = next((other for entry, other in OTHERS.items() if entry in entries), "another scheduler")
        raise ValueError(
            f"state_dict: of {name} (entries {', '.join(sorted(entries)) or 'none'}), want that of a PilotLR; "
            "begin the training anew, or resume it under the scheduler that saved it"
        )


def scalar(name: str, value: Any) -> None:
    """Raise for what is not one number, or a tensor with one."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name}: a tensor of shape {tuple(value.shape)}, want one number, such as its mean")
        return
    try:
        float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {shown(value)}, want a number or a 0-d tensor") from error
