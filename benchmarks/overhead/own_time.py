"""Time of the scheduler alone. The optimizer does nothing, so the remaining time of a step is the scheduler's."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks.overhead.step_cases import Case
from benchmarks.overhead.steps import late_interval
from lrpilot import Bundle
from lrpilot.decisions.features import NAMES
from lrpilot.pilot import Pilot
from lrpilot.torch import PilotLR


class Idle(Optimizer):
    """An optimizer that does nothing."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        super().__init__(params, {"lr": 1e-3})

    def step(self, closure: Any = None) -> Any: ...


def idle(model: nn.Module, make: Callable[[Optimizer], Any], steps: int) -> tuple[np.ndarray, Any]:
    """(steps,) µs of each step of a training that only steps and reports a loss, and its scheduler."""
    optimizer = Idle(list(model.parameters()))
    scheduler = make(optimizer)
    losses = [torch.tensor(2.0 + 0.1 * (i * 7 % 11)) for i in range(11)]
    taken = np.empty(steps)
    gc.collect()
    gc.disable()
    for i in range(steps):
        begin = time.perf_counter_ns()
        optimizer.step()
        if isinstance(scheduler, PilotLR):
            scheduler.step(losses[i % 11])
        elif scheduler is not None:
            scheduler.step()
        taken[i] = time.perf_counter_ns() - begin
    gc.enable()
    return taken / 1e3, scheduler


def own_time(case: Case, policy: Bundle, repeats: int) -> dict[str, float]:
    """The scheduler's own time in µs, per step and per decision; and in ms, the copy for the probe and the end of the
    probe.
    """
    model = case.model()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    steps = case.total_steps

    def pilot(optimizer: Optimizer, total: int = steps, probe: bool = True) -> PilotLR:
        return PilotLR(optimizer, total, policy, model=model, probe=probe, kind="adam")

    copy = copy_ms(model, pilot)
    none = np.median(idle(model, lambda _: None, steps)[0])
    cosine = np.median(idle(model, lambda optimizer: CosineAnnealingLR(optimizer, steps), steps)[0])
    taken, scheduler = idle(model, pilot, steps)
    taken -= none
    made = np.array([decision.step for decision in scheduler.history])
    start = made[0]  # decision 0 ends the probe
    length = late_interval(policy, steps)
    plain = np.median(taken[start:])
    at_once = np.concatenate([decisions_at_once(model, pilot) for _ in range(repeats)])
    return {
        "overhead_us": float(np.median([np.mean(taken[i : i + length]) for i in range(start, steps - length, length)])),
        "cosine_us": float(cosine - none),
        "plain_step_us": float(plain),
        "closing_us": float(np.median(at_once)),
        "closing_in_place_us": float(np.median(taken[made[1:] - 1]) - plain),
        "probe_step_us": float(np.median(taken[: start - 1])),
        "probe_copy_ms": copy,
        "probe_end_ms": float(taken[start - 1] / 1e3),  # landmarks, roll-back, first decision
    }


def decisions_at_once(model: nn.Module, pilot: Callable[..., PilotLR]) -> np.ndarray:
    """(decisions,) µs of each end of an interval in a training so short that decisions follow one another, with cached
    code.

    Every step of it lies in a window. The time of a step without a decision is subtracted.
    """
    steps = 128
    taken, scheduler = idle(model, lambda optimizer: pilot(optimizer, steps, False), steps)
    made = np.array([decision.step for decision in scheduler.history[1:]])
    without = np.setdiff1d(np.arange(made[0], made[-1]), made - 1)
    return taken[made - 1] - np.median(taken[without])


def copy_ms(model: nn.Module, pilot: Callable[..., PilotLR]) -> float:
    """Milliseconds that the copy for the probe adds to the first construction, when its memory is still untouched."""

    def construction(probe: bool) -> float:
        optimizer = Idle(list(model.parameters()))
        begin = time.perf_counter_ns()
        pilot(optimizer, probe=probe)
        return (time.perf_counter_ns() - begin) / 1e6

    without = np.median([construction(False) for _ in range(5)])
    return float(construction(True) - without)


def decision_us(policy: Bundle) -> float:
    """Median µs from an interval's telemetry to the next rate: summary, features, network, guard, history."""
    taken: list[float] = []
    sketch = {"grad_norm": 1.0, "grad_cos": 0.1, "update_norm": 0.01, "update_cos": 0.5, "weight_norm": 3.0}
    for repeat in range(20):
        pilot = Pilot(policy.protocol, 10_000, "adam", probed=False)
        pilot.decide(policy)
        losses = np.random.default_rng(repeat).normal(2.0, 0.1, (64, 1))
        for step in pilot.cadence.bounds[1:-1].tolist():
            while pilot.step < step:
                pilot.advance()
            begin = time.perf_counter_ns()
            pilot.close_interval(losses, sketch)
            pilot.decide(policy)
            taken.append((time.perf_counter_ns() - begin) / 1e3)
    return float(np.median(taken))


def policy_us(policy: Bundle) -> float:
    """Median µs of the network alone, called back to back."""
    observation, taken = np.zeros((1, len(NAMES)), np.float32), np.empty(1000)
    for i in range(len(taken)):
        begin = time.perf_counter_ns()
        policy(observation)
        taken[i] = (time.perf_counter_ns() - begin) / 1e3
    return float(np.median(taken))
