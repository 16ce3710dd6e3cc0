"""Costs of lrpilot besides time per step: memory of its state, and time of its import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.overhead.own_time import idle
from lrpilot import Bundle, Pilot
from lrpilot.torch import PilotLR


def memory(policy: Bundle, steps: int) -> dict[str, float]:
    """Bytes of the scheduler's state: of the pilot after parts of `steps` steps and at most, and of the sketch's
    tensors.

    The pilot is the framework-free one, which needs no model to take so many steps; the loss does not change.
    """
    sketch = {"grad_norm": 1.0, "grad_cos": 0.1, "update_norm": 0.01, "update_cos": 0.1, "weight_norm": 10.0}
    out: dict[str, float] = {"memory_steps": steps}
    pilot = Pilot(policy.protocol, steps, "adam", probed=False)
    pilot.decide(policy)
    losses: list[float] = []
    sizes = [held([vars(pilot), losses])]
    for share in (1, 10, 100):
        while pilot.step < steps * share // 100:
            losses += [1.0] if pilot.wants_loss else []
            pilot.advance()
            if pilot.due:
                sizes.append(held([vars(pilot), losses]))  # with all losses of the interval
                pilot.close_interval(np.array(losses)[:, None], sketch)
                losses = []
                if pilot.step < steps:
                    pilot.decide(policy)
        sizes.append(held([vars(pilot), losses]))
        out[f"memory_at_{share}_percent_bytes"] = sizes[-1]
    out |= {"memory_pilot_bytes": max(sizes), "memory_sketch_bytes": sketch_bytes(policy)}
    return out | {"memory_bytes": out["memory_pilot_bytes"] + out["memory_sketch_bytes"]}


def sketch_bytes(policy: Bundle) -> int:
    """Bytes that a PilotLR holds besides its pilot, within a window, with more parameters than its sketch has
    coordinates.
    """
    model = nn.Linear(512, 512)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    _, scheduler = idle(model, lambda optimizer: PilotLR(optimizer, 400, policy, probe=False, kind="adam"), 398)
    theirs: set[int] = set()
    held([scheduler.optimizer, vars(scheduler.optimizer), vars(scheduler.pilot), list(model.parameters())], theirs)
    held([p.grad for p in model.parameters()], theirs)
    return held(vars(scheduler), theirs)


def held(value: Any, counted: set[int] | None = None) -> int:
    """Bytes of everything that `value` reaches through containers and lrpilot's objects, without the loaded policy.

    `counted` holds the addresses of objects that are already counted.
    """
    counted = set() if counted is None else counted
    if id(value) in counted or isinstance(value, Bundle):
        return 0
    counted.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        new = storage.data_ptr() not in counted
        counted.add(storage.data_ptr())
        return size + (storage.nbytes() if new else 0)
    if isinstance(value, np.ndarray) and value.base is not None:
        return size + held(value.base, counted)
    if isinstance(value, Mapping):
        return size + sum(held(v, counted) for pair in value.items() for v in pair)
    if isinstance(value, Collection) and not isinstance(value, str | bytes | np.ndarray):
        return size + sum(held(v, counted) for v in value)
    if type(value).__module__.startswith("lrpilot"):
        names = getattr(value, "__slots__", ())
        slots = sum(held(getattr(value, name), counted) for name in names)
        return size + held(getattr(value, "__dict__", {}), counted) + slots
    return size


def import_ms(repeats: int) -> float:
    """Median milliseconds of `import lrpilot` in fresh processes that have imported numpy and onnxruntime."""
    code = (
        "import sys, time, numpy, onnxruntime; sys.path[:0] = sys.argv[1:]; t = time.perf_counter_ns(); "
        "import lrpilot; print(time.perf_counter_ns() - t)"
    )
    command = [sys.executable, "-c", code, *filter(None, sys.path)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(repeats + 1)]
    return float(np.median([int(run) / 1e6 for run in runs[1:]]))  # the first may compile
