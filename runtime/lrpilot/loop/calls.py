"""Who calls the scheduler, whom an optimizer calls, and what torch.compile sees of it. Needs torch."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch.optim import Optimizer

NEAR = 12  # frames: the caller, and what torch.compile puts between

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# What takes the hooks of an optimizer's listener away: a new one takes over, even where the old one is kept to be read.
_LISTENERS: weakref.WeakKeyDictionary[Optimizer, weakref.finalize[..., Any]] = weakref.WeakKeyDictionary()


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Keep torch.compile out of a function and all it calls: traced, numpy's float64 would become torch's float32.

    The compiler is imported by the first call, as it is by any optimizer, not along with this module.
    """
    compiler: Any = torch.compiler
    hidden: Any = None

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal hidden
        if hidden is None:
            hidden = compiler.disable(function)
        return hidden(*args, **kwargs)

    return call


def attach(optimizer: Optimizer, listener: T, before: Callable[[T], None], after: Callable[[T], None]) -> None:
    """Call `before(listener)` and `after(listener)` around every step, in place of the optimizer's listener so far.

    The hooks do not keep the listener alive: a dropped one is called no more.
    """
    hooks = (
        optimizer.register_step_pre_hook(_hook(listener, before)),
        optimizer.register_step_post_hook(_hook(listener, after)),
    )
    if (retire := _LISTENERS.get(optimizer)) is not None:
        retire()
    _LISTENERS[optimizer] = weakref.finalize(listener, lambda: [hook.remove() for hook in hooks])


def is_driven(optimizer: Optimizer) -> bool:
    """Whether a listener that is still alive is called around the optimizer's steps."""
    retire = _LISTENERS.get(optimizer)
    return retire is not None and retire.alive


def _hook(listener: T, method: Callable[[T], None]) -> Callable[..., None]:
    reference = weakref.ref(listener)

    def hook(*_: Any) -> None:
        alive = reference()
        if alive is not None:
            method(alive)

    compiler: Any = torch.compiler
    return compiler.disable(hook)  # at once: it is called twice a step, and an optimizer has imported the compiler


def called_by(function: Any) -> bool:
    """Whether the Python function is under way, among the nearest callers."""
    frame = inspect.currentframe()
    for _ in range(NEAR):
        if frame is None or frame.f_code is function.__code__:
            break
        frame = frame.f_back
    return frame is not None and frame.f_code is function.__code__


def user_level() -> int:
    """The `stacklevel` with which the caller's warning points at the user's line, past this package and torch."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in ("lrpilot", "torch"):
        level, frame = level + 1, frame.f_back
    return level
