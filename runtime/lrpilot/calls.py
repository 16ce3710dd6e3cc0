"""Who calls the scheduler, and what torch.compile sees of it. Needs torch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

NEAR = 12  # frames: the caller, and what torch.compile puts between

P = ParamSpec("P")
R = TypeVar("R")


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
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in (__package__, "torch"):
        level, frame = level + 1, frame.f_back
    return level
