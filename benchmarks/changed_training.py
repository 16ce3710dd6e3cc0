"""Trainings with a change: by the pilot in a plain loop, or by linear decay from several rates side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.changes import CHANGES, Change
from lrpilot import load_policy
from lrpilot.decisions.actions import ActionEquation
from lrpilot.torch import PilotLR
from pipeline import code_hash
from pipeline.evaluation import training_loops
from pipeline.evaluation.splits import Task
from pipeline.simulation.follow import follow
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family
from pipeline.workloads.training import single_run
from pipeline.workloads.training.population import Population

TIMES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # the textbook's rate: linear decay from these is tuned over
MEMORY = 0.95  # of the mean that losses are made noisier around
LINEAR = ActionEquation(decay=1.0)
# What linear decay does not run.
DRIVER = ("lrpilot.torch", "lrpilot.policy_file.bundle", "lrpilot.pilot", "lrpilot.decisions.guard")


@dataclass(frozen=True)
class Job:
    """The trainings of a change's task from seeds 0, 1, …: by PilotLR, or by linear decay from all rates."""

    change: str
    task: Task
    seeds: int
    pilot: bool


class Ends(NamedTuple):
    """Test losses of a job's trainings. They are not finite where a training diverged."""

    before: float  # mean at initialisation, or that of the best constant prediction if it is lower
    after: list[list[float]]  # rows: the pilot's one, or those of `TIMES`; columns: seeds


def train(job: Job) -> Ends:
    torch.set_num_threads(1)
    change = CHANGES[job.change]
    workload, seeds = change.training(job.task.sample()), range(job.seeds)
    initial, _ = Population(workload, seeds).score(workload.test)
    after = [[_piloted(workload, change, s) for s in seeds]] if job.pilot else _decayed(workload, change, seeds)
    return Ends(min(float(initial.mean()), workload.baseline_loss), after)


def _piloted(workload: Workload, change: Change, seed: int) -> float:
    model, n = workload.initialise(seed), workload.n_steps
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = training_loops.textbook_optimizer(params, workload)
    scheduler = PilotLR(
        optimizer, round(change.told * n), model=model, steps_per_epoch=workload.steps_per_epoch,
        examples=len(workload.train), max_lr=workload.default[1] if change.capped else None,
    )  # fmt: skip
    order = torch.from_numpy(workload.batches(seed))
    draws = single_run.count_draws(model, single_run.batch(workload, workload.train, order[0], seed, 0)[0])
    mean = math.nan
    for step in range(n):
        x, y = single_run.batch(workload, workload.train, order[step], seed, step)
        loss = single_run.training_loss(workload, model.train(), x, y, seed, step, draws)
        optimizer.zero_grad()
        loss.backward()
        if workload.clip is not None:
            torch.nn.utils.clip_grad_norm_(params, workload.clip)
        optimizer.step()
        value = loss.item()
        mean = value if math.isnan(mean) else MEMORY * mean + (1 - MEMORY) * value
        scheduler.step(mean + change.noise * (value - mean))
    final, _ = training_loops.score(workload, model, workload.test)
    return final


def _decayed(workload: Workload, change: Change, seeds: range) -> list[list[float]]:
    n, told = workload.n_steps, round(change.told * workload.n_steps)
    curve = [LINEAR.envelope(step, told) for step in range(n)]
    rates = workload.default[1] * np.outer(curve, np.repeat(TIMES, len(seeds)))
    end = follow(workload, [*seeds] * len(TIMES), rates)
    assert end.test_loss is not None
    return end.test_loss.reshape(len(TIMES), len(seeds)).tolist()


def training_key(job: Job) -> tuple[str, ...]:
    """Identifies everything that decides the result of a job."""
    policy, unused = (load_policy("default").manifest.graph, ()) if job.pilot else ("", DRIVER)
    drawn = family(job.task.family)
    code = code_hash.digest(__name__, drawn.module, packages=drawn.packages, unused=unused)
    return "robust", repr(job), policy, code, torch.__version__
