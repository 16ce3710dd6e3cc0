"""Records of trainings on file: numbers as texts that keep every bit, and what tells two records apart.

On another kind of processor numbers are compared within `CLOSE`, and hashes are not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

CLOSE = 2e-5  # what processors may differ by: relative in learning rates, absolute in levels and actions
RATES = ("lr", "rates")
Record = dict[str, Any]


def digest(values: Iterable[float]) -> str:
    """A hash of every bit of some numbers; one nan is as good as another."""
    return hashlib.sha256(" ".join(float(x).hex() for x in values).encode()).hexdigest()[:16]


def as_text(values: Any) -> Any:
    """A number, or an array as nested lists, as texts that keep every bit."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return [as_text(x) for x in values] if isinstance(values, list) else float(values).hex()


def lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for every decision."""
    if depth == 4 or not isinstance(value, dict | list):
        return json.dumps(value)
    rows = (
        [f"{json.dumps(k)}: {lines(v, depth + 1)}" for k, v in value.items()]
        if isinstance(value, dict)
        else [lines(v, depth + 1) for v in value]
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    indent = "\n" + " " * depth
    return opening + ",".join(f"{indent} {row}" for row in rows) + indent + closing


def differences(golden: Any, now: Any, to_the_bit: bool, name: str = "", where: str = "") -> list[str]:
    """Where two records differ; hashes count only where every bit shall be the same."""
    if name == "bits" and not to_the_bit:
        return []
    if isinstance(golden, dict) and isinstance(now, dict) and golden.keys() == now.keys():
        pairs = [(k, f"{where}/{k}", golden[k], now[k]) for k in golden]
    elif isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        pairs = [(name, f"{where}/{i}", *both) for i, both in enumerate(zip(golden, now, strict=True))]
    else:
        same = golden == now or (not to_the_bit and _close(golden, now, name))
        return [] if same else [f"{where}: {_say(golden)} on file, now {_say(now)}"]
    return [line for k, at, a, b in pairs for line in differences(a, b, to_the_bit, k, at)]


def _number(value: Any) -> float | None:
    """What `as_text` wrote, None for anything else."""
    odd = ("nan", "inf", "-inf")
    return float.fromhex(value) if isinstance(value, str) and (value in odd or "0x" in value) else None


def _close(golden: Any, now: Any, name: str) -> bool:
    a, b = _number(golden), _number(now)
    if a is None or b is None:
        return False
    return math.isclose(a, b, rel_tol=CLOSE) if name in RATES else math.isclose(a, b, rel_tol=0.0, abs_tol=CLOSE)


def _say(value: Any) -> str:
    number = _number(value)
    if number is not None:
        return f"{number:.17g}"
    return f"{len(value)} entries" if isinstance(value, dict | list) else repr(value)
