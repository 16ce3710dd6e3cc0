"""Time per step as a user sees it, in paired loops.

The three loops run in one process, in short blocks of steps whose order is shuffled. A round is one late interval
between two decisions of each loop, so windows and decisions count in their natural proportion. The median of the
rounds' ratios is reported with its bootstrap 95 % interval.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from benchmarks.overhead.step_cases import BATCHES, Case
from benchmarks.timing import estimate
from lrpilot import Bundle
from lrpilot.decisions.cadence import Cadence
from lrpilot.torch import PilotLR

LOOPS = ("pilot", "cosine", "none")


@dataclass(frozen=True)
class Loop:
    """A training loop. `step(i)` trains step i."""

    model: nn.Module
    step: Callable[[int], None]
    scheduler: LRScheduler | None


def build(case: Case, kind: str, policy: Bundle) -> Loop:
    """The loop of one kind. All loops have the same initial weights and batches, and differ only in the scheduler."""
    torch.manual_seed(0)
    model = case.model()
    optimizer = case.optimizer(model)
    batches = [case.batch() for _ in range(BATCHES)]
    loss_of = nn.functional.cross_entropy

    def train(i: int) -> Tensor:
        x, y = batches[i % BATCHES]
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    if kind == "pilot":
        pilot = PilotLR(optimizer, case.total_steps, policy, model=model, probe=case.probe)
        return Loop(model, lambda i: pilot.step(train(i)), pilot)
    if kind == "cosine":
        cosine = CosineAnnealingLR(optimizer, case.total_steps)

        def step(i: int) -> None:
            train(i)
            cosine.step()

        return Loop(model, step, cosine)
    return Loop(model, lambda i: void(train(i)), None)


def void(_: Any) -> None:
    """Called by the loop without a scheduler, instead of a scheduler."""


def paired(case: Case, policy: Bundle) -> dict[str, float]:
    """The case's loops against each other: ratios of step times with 95 % intervals, and the step time."""
    built = {kind: build(case, kind, policy) for kind in LOOPS}
    scheduler = built["pilot"].scheduler
    assert isinstance(scheduler, PilotLR)
    done = 0
    while done < 3 or not scheduler.history:  # warm caches, and the probe
        for loop in built.values():
            loop.step(done)
        done += 1
    length = case.round_steps or late_interval(policy, case.total_steps)
    rounds = min(case.rounds, (case.total_steps - done) // length)
    order, times = np.random.default_rng(0), np.zeros((rounds, len(LOOPS)))
    for r in range(rounds):
        gc.collect()
        for block in np.array_split(np.arange(done, done + length), min(case.blocks, length)):
            for k in order.permutation(len(LOOPS)):
                times[r, k] += clock(built[LOOPS[k]].step, block.tolist())
        done += length
    pilot, cosine, none = times.T / length / 1e3  # µs per step
    return {
        "rounds": rounds,
        "round_steps": length,
        "step_us": float(np.median(cosine)),
        "added_us": float(np.median(pilot - cosine)),
        **estimate("over_cosine", pilot / cosine),
        **estimate("over_none", pilot / none),
        **estimate("cosine_over_none", cosine / none),
    }


def clock(step: Callable[[int], None], steps: Sequence[int]) -> int:
    """Nanoseconds of these steps, without garbage collection."""
    gc.disable()
    begin = time.perf_counter_ns()
    for i in steps:
        step(i)
    taken = time.perf_counter_ns() - begin
    gc.enable()
    return taken


def late_interval(policy: Bundle, steps: int) -> int:
    """Steps between two late decisions of a training of `steps` steps."""
    bounds = Cadence(policy.protocol.cadence, steps, True).bounds
    return int(bounds[-1] - bounds[-2])
