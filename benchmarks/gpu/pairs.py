"""One training under PilotLR and under its textbook's schedule, side by side in one process.

Both begin with the same weights and see the same batches. They take turns of a few steps, in an order that is shuffled
anew each time, so that other load on the machine affects both. Making the batches does not count as time of a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import estimate, wall
from lrpilot.reports.explain import is_alarm
from lrpilot.torch import PilotLR
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload
from pipeline.workloads.training.update_rules import torch_optimizer

METHODS = ("pilot", "textbook")
TURNS = 20  # of a training
WARM_UP = 3  # steps that load what the first training of a process would wait for
VALIDATED = 128  # examples at a time

Batch = tuple[Tensor, Tensor]  # inputs and targets, on the device


class Training:
    """The loop that everybody writes, with PilotLR as the README shows it or a schedule; on a GPU with bfloat16."""

    def __init__(self, workload: Workload, method: str, seed: int, device: str) -> None:
        self._workload, self._device = workload, device
        self.model = workload.initialise(seed).to(device)
        self._params = [*self.model.parameters()]
        schedule, rate = workload.default
        self._optimizer = torch_optimizer(self._params, workload, rate)
        loader = DataLoader(
            TensorDataset(workload.train.x, workload.train.y), workload.batch_size, shuffle=True, drop_last=True,
            generator=Generator().manual_seed(seed),
        )  # fmt: skip
        epochs = workload.n_steps // len(loader)
        self._batches = chain.from_iterable(loader for _ in range(epochs))
        self.pilot, self._schedule = None, None
        if method == "pilot":
            self.pilot = PilotLR(self._optimizer, epochs=epochs, data=loader, model=self.model)
        else:
            curve = [*multipliers(schedule, workload.n_steps).tolist(), 0.0]  # torch also asks for the rate at the end
            self._schedule = LambdaLR(self._optimizer, curve.__getitem__)

    def take(self, count: int) -> list[Batch]:
        """The next batches, on the device."""
        batches = [(x.to(self._device), y.to(self._device)) for x, y in islice(self._batches, count)]
        self._wait()
        return batches

    def train(self, batches: Sequence[Batch]) -> None:
        """A step on each batch; returns when the device has made the last one."""
        self.model.train()
        for x, y in batches:
            loss = self._loss(x, y)
            self._optimizer.zero_grad()
            loss.backward()
            if (clip := self._workload.clip) is not None:
                norm = nn.utils.clip_grad_norm_(self._params, clip)
                if self.pilot is not None and self.pilot.wants_gradient:
                    self.pilot.observe(grad_norm=norm)
            self._optimizer.step()
            if self.pilot is not None:
                self.pilot.step(loss)
            elif self._schedule is not None:
                self._schedule.step()
        self._wait()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss on the validation examples, nan where the weights are lost."""
        self.model.eval()
        data, total = self._workload.val, 0.0
        for x, y in zip(data.x.split(VALIDATED), data.y.split(VALIDATED), strict=True):
            total += len(x) * self._loss(x.to(self._device), y.to(self._device)).item()
        return total / len(data)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        # On the CPU a convolution down to one pixel, as toys have it, gets gradients in bfloat16 that are not finite.
        with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
            outputs = self.model(x)
        return self._workload.loss(outputs.float(), y)

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Pair:
    """What both trainings of a seed came to."""

    losses: tuple[float, float]  # validation losses at the end, in the order of METHODS
    seconds: np.ndarray  # (TURNS, 2) per step
    probed: np.ndarray  # (TURNS,) bool: the turn has steps of the probe
    rate: float  # the pilot's first
    events: Counter[str]  # of the pilot's guards


def run(workload: Workload, seed: int, device: str) -> Pair:
    """Train both to the end."""
    torch.manual_seed(seed)  # of dropout
    trainings = [Training(workload, method, seed, device) for method in METHODS]
    pilot = trainings[0].pilot
    assert pilot is not None
    order, seconds, probed = np.random.default_rng(seed), np.zeros((TURNS, 2)), np.zeros(TURNS, bool)
    for turn, block in enumerate(np.array_split(np.arange(workload.n_steps), TURNS)):
        probed[turn] = not pilot.history
        for k in order.permutation(2).tolist():
            batches = trainings[k].take(len(block))
            seconds[turn, k] = wall(partial(trainings[k].train, batches)) / len(block)
    first, second = (training.validation_loss() for training in trainings)
    events = Counter(decision.event for decision in pilot.history if decision.event is not None)
    return Pair((first, second), seconds, probed, pilot.history[0].lr, events)


def compare(workload: Workload, seeds: int, device: str) -> dict[str, Any]:
    """The figures of one training, over so many seeds; `measure.py` lists them."""
    warm = Training(workload, "textbook", 0, device)
    warm.train(warm.take(WARM_UP))
    parameters = sum(p.numel() for p in warm.model.parameters())
    del warm
    pairs = [run(workload, seed, device) for seed in range(seeds)]
    steady = np.concatenate([pair.seconds[~pair.probed] for pair in pairs])
    whole = np.sum([pair.seconds.sum(0) for pair in pairs], axis=0)
    events = sum((pair.events for pair in pairs), Counter[str]())
    losses = {f"{method}_losses": [pair.losses[k] for pair in pairs] for k, method in enumerate(METHODS)}
    return losses | {
        "parameters": parameters, "n_steps": workload.n_steps, "batch_size": workload.batch_size,
        "optimizer": workload.kind.title, "textbook_rate": workload.default[1],
        "pilot_rates": [pair.rate for pair in pairs],
        "alarms": sum(count for event, count in events.items() if is_alarm(event)),
        "events": ", ".join(f"{event} {count}" for event, count in sorted(events.items())),
        "step_ms": float(1e3 * np.median(steady[:, 1])),
        "added_us": float(1e6 * np.median(steady[:, 0] - steady[:, 1])),
        **estimate("over_textbook", steady[:, 0] / steady[:, 1]),
        "whole_over_textbook": float(whole[0] / whole[1]),
    }  # fmt: skip
