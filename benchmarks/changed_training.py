"""One training with a change, in a plain loop, driven by the pilot or by linear decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.changes import CHANGES, Change
from lrpilot import load_policy
from lrpilot.actions import ActionEquation
from lrpilot.torch import PilotLR
from pipeline import code_hash
from pipeline.evaluation import loops
from pipeline.evaluation.splits import Task
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family

MEMORY = 0.95  # of the mean that losses are made noisier around
LINEAR = ActionEquation(decay=1.0)
DRIVER = ("lrpilot.torch", "lrpilot.bundle", "lrpilot.pilot")  # what linear decay does not run


@dataclass(frozen=True)
class Job:
    """One training: of a change's task, by PilotLR or, with `times`, by linear decay from the textbook's rate."""

    change: str
    task: Task
    seed: int
    times: float | None


def train(job: Job) -> tuple[float, float]:
    """Test losses after and before the training. They are not finite if it diverged."""
    torch.set_num_threads(1)
    change = CHANGES[job.change]
    workload = change.training(job.task.sample())
    model, n = workload.initialise(job.seed), workload.n_steps
    x, y = workload.train.x, workload.train.y
    model(x[: workload.batch_size])  # lazy layers learn their sizes
    before = min(_score(workload, model), workload.baseline_loss)
    optimizer = change.optimizer([*model.parameters()], workload)

    def clip(*_: Any) -> None:
        clip_grad_norm_(model.parameters(), change.clip)

    if change.clip < math.inf:
        optimizer.register_step_pre_hook(clip)
    scheduler = _scheduler(job, change, optimizer, model, workload, round(change.length * n))
    torch.manual_seed(job.seed)  # of dropout
    mean = math.nan
    for batch in torch.from_numpy(workload.batches(job.seed)):
        loss = workload.loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if job.times is None:
            value = loss.item()
            mean = value if math.isnan(mean) else MEMORY * mean + (1 - MEMORY) * value
            scheduler.step(mean + change.noise * (value - mean))
        else:
            scheduler.step()
    return _score(workload, model), before


def _scheduler(
    job: Job, change: Change, optimizer: torch.optim.Optimizer, model: nn.Module, workload: Workload, total_steps: int
) -> Any:
    if job.times is None:
        highest = workload.default[1] if change.capped else None
        return PilotLR(
            optimizer, total_steps, model=model, steps_per_epoch=workload.steps_per_epoch, examples=len(workload.train),
            max_lr=highest,
        )  # fmt: skip
    times = job.times
    return LambdaLR(optimizer, lambda step: times * LINEAR.envelope(step, total_steps))


def _score(workload: Workload, model: nn.Module) -> float:
    model.eval()
    loss, _ = loops.score(workload, model, workload.test)
    model.train()
    return loss


def training_key(job: Job) -> tuple[str, ...]:
    """Identifies everything that decides the result of a training."""
    policy, unused = ("", DRIVER) if job.times is not None else (load_policy("default").manifest.graph, ())
    code = code_hash.digest(__name__, family(job.task.family).module, unused=unused)
    return "robust", repr(job), policy, code, torch.__version__
