"""Trainings other than those that the policy learned from, beside tuned and untuned linear decay.

    python -m benchmarks.robust      # writes benchmarks/results/robust.json and a table of docs/robustness.md

Every row changes one thing of held-out trainings in a plain loop: what the pilot is told, or the training itself.
`PilotLR` with the shipped policy runs as it comes. Regret is normalised by the best rate of linear decay for the
changed training, chosen on the seeds that it is judged on: a hard bar. Textbook: linear decay from the optimizer's
usual rate, 1e-3 for Adam and AdamW, 0.1 for SGD.
Trainings are kept in `.benchmark_cache`: another policy costs its own alone, and a killed run goes on.
Keys, for every change: <change>.pilot, .low, .high (95 %), .worst (task), .textbook, .tasks, .diverged (of `runs`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from benchmarks import command
from lrpilot import load_policy
from lrpilot.actions import envelope
from lrpilot.torch import PilotLR
from pipeline import code_hash
from pipeline.engines import engine, progress, results
from pipeline.evaluation import loops, rivals, stats
from pipeline.evaluation.run_cache import through
from pipeline.evaluation.splits import Task, tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import verdict
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family, names

OUT, PAGE = Path("benchmarks/results/robust.json"), Path("docs/robustness.md")
SEEDS = 3
TIMES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # the textbook's rate: linear decay from these is tuned over
FLAT = ("mnist_mlp", "mnist_overfit", "autompg", "photo_pixels")  # families of vectors, for which any MLP will do
MEMORY = 0.95  # of the mean that losses are made noisier around
RESAMPLES = 2000
DRIVER = ("lrpilot.torch", "lrpilot.bundle", "lrpilot.pilot")  # what linear decay does not run

Optimizers = Callable[[list[nn.Parameter], Workload], torch.optim.Optimizer]


@dataclass(frozen=True)
class Change:
    """What is other than usual."""

    what: str
    families: Sequence[str] = ()  # none: all held-out ones
    training: Callable[[Workload], Workload] = lambda workload: workload
    optimizer: Optimizers = rivals.plain
    clip: float = math.inf  # gradient norm
    told: float = 1.0  # the length of the training that a scheduler is told, over the true one
    noise: float = 1.0  # factor on the noise of the losses that the pilot is told
    capped: bool = False  # the pilot may not exceed the textbook's rate


def _batch(factor: float) -> Callable[[Workload], Workload]:
    def change(w: Workload) -> Workload:
        return replace(w, batch_size=min(max(round(w.batch_size * factor), 1), len(w.train)))

    return change


def _decay(decay: float) -> Callable[[Workload], Workload]:
    return lambda w: replace(w, weight_decay=decay)


def _mlp(width: int, *extras: Callable[[], nn.Module]) -> Callable[[Workload], Workload]:
    """Two hidden layers of `width`, with `extras` after each."""

    def change(w: Workload) -> Workload:
        n_in, targets = w.train.x.shape[1], torch.cat([w.train.y, w.val.y])
        n_out = targets.shape[1] if w.error is None else int(targets.max()) + 1

        def build() -> nn.Module:
            layers: list[nn.Module] = []
            for a, b in ((n_in, width), (width, width)):
                layers += [nn.Linear(a, b), *(extra() for extra in extras), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(width, n_out))

        return replace(w, build=build, start={})

    return change


def _longer(w: Workload) -> Workload:
    return replace(w, n_steps=50_000)


def _rmsprop(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(params, 1e-3)


def _nadam(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.NAdam(params, 1e-3)


def _adagrad(params: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(params, 1e-2)


CHANGES = {
    "as usual": Change("nothing"),
    "noisy losses": Change("the losses that the pilot is told are four times as noisy", noise=4.0),
    "told 30 % more": Change("schedulers are told 1.3 times the true number of steps", told=1.3),
    "told 30 % less": Change("schedulers are told 0.7 times the true number of steps", told=0.7),
    "batch × 4": Change("batches of four times the size", training=_batch(4.0)),
    "batch ÷ 4": Change("batches of a quarter of the size", training=_batch(0.25)),
    "no weight decay": Change("no weight decay", training=_decay(0.0)),
    "weight decay": Change("weight decay of 0.1, under SGD of 0.001", training=lambda w: replace(
        w, weight_decay=0.001 if w.optimizer == "sgd" else 0.1, optimizer="sgd" if w.optimizer == "sgd" else "adamw")),
    "clipping": Change("gradients clipped to a norm of 0.1", clip=0.1),
    "dropout": Change("an MLP with dropout of 0.3", FLAT, _mlp(64, lambda: nn.Dropout(0.3))),
    "batch norm": Change("an MLP with batch norm", FLAT, _mlp(64, lambda: nn.LazyBatchNorm1d())),
    "RMSprop": Change("an optimizer that no policy was trained on", optimizer=_rmsprop),
    "NAdam": Change("another one", optimizer=_nadam),
    "Adagrad": Change("and another, whose own rates fall", optimizer=_adagrad),
    "wide": Change("an MLP of 1,600,000 parameters, 30 times what was trained on", FLAT[:1], _mlp(1150)),
    "long": Change("50,000 steps, ten times what was trained on", FLAT[2:3], _longer),
    "max_lr": Change("the pilot may not exceed the textbook's rate", capped=True),
}  # fmt: skip


def trained_as(name: str) -> str:
    """The first change whose trainings are the same but for what the pilot alone is told."""

    def training(change: Change) -> tuple[Any, ...]:
        return change.families, change.training, change.optimizer, change.clip, change.told

    return next(other for other, change in CHANGES.items() if training(change) == training(CHANGES[name]))


@dataclass(frozen=True)
class Job:
    """One training: of a change's task, by PilotLR or, with `times`, by linear decay from the textbook's rate."""

    change: str
    task: Task
    seed: int
    times: float | None


def train(job: Job) -> tuple[float, float]:
    """Test losses after and before the training; not finite where it diverged."""
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
    scheduler = _scheduler(job, change, optimizer, model, workload, round(change.told * n))
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
    job: Job, change: Change, optimizer: torch.optim.Optimizer, model: nn.Module, workload: Workload, told: int
) -> Any:
    if job.times is None:
        highest = rivals.TEXTBOOK[workload.optimizer] if change.capped else None
        return PilotLR(
            optimizer, told, model=model, steps_per_epoch=workload.steps_per_epoch, examples=len(workload.train),
            max_lr=highest,
        )  # fmt: skip
    times = job.times
    return LambdaLR(optimizer, lambda step: times * envelope(step, told))


def _score(workload: Workload, model: nn.Module) -> float:
    model.eval()
    loss, _ = loops.score(workload, model, workload.test)
    model.train()
    return loss


def jobs(changes: Iterable[str], seeds: int) -> list[Job]:
    found = [
        Job(name if times is None else trained_as(name), task, seed, times)
        for name in changes
        for task in tasks(CHANGES[name].families or names("heldout"), 1)
        for seed in range(seeds)
        for times in (None, *TIMES)
    ]
    return list(dict.fromkeys(found))


def figures(found: Mapping[Job, tuple[float, float]]) -> dict[str, Any]:
    """All figures, flat."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for name in dict.fromkeys(job.change for job in found):
        pilot, textbook, lost = [], [], 0
        for task in dict.fromkeys(job.task for job in found if job.change == name):
            mine = {
                job: ends
                for job, ends in found.items()
                if job.task == task and job.change == (name if job.times is None else trained_as(name))
            }
            start = float(np.mean([before for _, before in mine.values()]))
            ends = {times: np.array([after for job, (after, _) in mine.items() if job.times == times])
                    for times in (None, *TIMES)}  # fmt: skip
            means = [np.nan_to_num(ends[times], nan=start, posinf=start).clip(max=start).mean() for times in TIMES]
            pilot.append(stats.normalised_regret(ends[None], min(means), start))
            textbook.append(stats.normalised_regret(ends[1.0], min(means), start))
            lost += int((~np.isfinite(ends[None])).sum())
        regrets = np.stack(pilot)
        estimate = stats.mean_estimate(regrets, n_resamples=RESAMPLES, rng=rng)
        out |= {
            f"{name}.pilot": estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high,
            f"{name}.worst": float(regrets.mean(axis=1).max()), f"{name}.textbook": float(np.mean(textbook)),
            f"{name}.tasks": len(regrets), f"{name}.diverged": lost, f"{name}.runs": regrets.size,
        }  # fmt: skip
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each change."""
    head = ["what changes", "tasks", "regret of the pilot", "95 %", "worst task", "linear decay, textbook's rate",
            "diverged"]  # fmt: skip
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in dict.fromkeys(key.rpartition(".")[0] for key in r):
        of = {key.rpartition(".")[2]: value for key, value in r.items() if key.rpartition(".")[0] == name}
        rows.append([
            f"{name}: {CHANGES[name].what}", str(of["tasks"]), verdict.number(of["pilot"]),
            verdict.interval(of["low"], of["high"]), verdict.number(of["worst"], 2), verdict.number(of["textbook"]),
            f"{of['diverged']} of {of['runs']}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def measure(quick: bool) -> dict[str, Any]:
    return figures(trained(jobs(["dropout"] if quick else CHANGES, 2 if quick else SEEDS), BENCHMARK_CACHE))


def trained(todo: Sequence[Job], folder: Path) -> dict[Job, tuple[float, float]]:
    """What came of each; those that `folder` does not hold are trained, and cached there as they end."""

    def compute(missing: Sequence[Job]) -> Iterator[dict[Job, tuple[float, float]]]:
        losses = results(engine("local"), _by_job, missing)
        return progress(losses, len(missing), "robust", lambda _: 1.0, "trainings")

    return through(folder, {job: key(job) for job in todo}, compute)


def key(job: Job) -> tuple[str, ...]:
    """Stands for everything that decides what comes of a training."""
    policy, unused = ("", DRIVER) if job.times is not None else (load_policy("default").manifest.graph, ())
    code = code_hash.digest("benchmarks.robust", family(job.task.family).module, unused=unused)
    return "robust", repr(job), policy, code, torch.__version__


def _by_job(job: Job) -> dict[Job, tuple[float, float]]:
    return {job: train(job)}


if __name__ == "__main__":
    sys.exit(command.run(None, "The policy outside of what it learned from.", OUT, PAGE, measure, render, lambda r: []))
