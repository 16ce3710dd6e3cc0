"""Trainings unlike those that the policy learned from, compared with tuned and untuned linear decay.

    python -m benchmarks.robust      # writes benchmarks/results/robust.json and a table of docs/robustness.md

Every row changes one thing about held-out trainings in a plain loop: what the pilot is told, or the training itself.
`PilotLR` with the shipped policy runs with its defaults. Regret is normalised by the best rate of linear decay for the
changed training, chosen on the seeds that it is judged on, which is a strict comparison. Textbook: linear decay from
the optimizer's usual rate, 1e-3 for Adam and AdamW, 0.1 for SGD. Trainings are cached in `.benchmark_cache`: a new
policy costs only its own, and a killed run continues. Keys, for every change: <change>.pilot, .low, .high (95 %),
.worst (task), .textbook, .tasks, .diverged (of `runs`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.changed_training import Job, train, training_key
from benchmarks.changes import CHANGES, trained_as
from pipeline.engines import engine, progress, results
from pipeline.evaluation import stats
from pipeline.evaluation.run_cache import through
from pipeline.evaluation.splits import tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import markdown, verdict
from pipeline.workloads.families import family, names

OUT, PAGE = Path("benchmarks/results/robust.json"), Path("docs/robustness.md")
SEEDS = 3
TIMES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # the textbook's rate: linear decay from these is tuned over
RESAMPLES = 2000


def jobs(changes: Iterable[str], seeds: int) -> list[Job]:
    wanted = [
        Job(name if times is None else trained_as(name), task, seed, times)
        for name in changes
        for task in tasks(CHANGES[name].families or usual(), 1)
        for seed in range(seeds)
        for times in (None, *TIMES)
    ]
    return list(dict.fromkeys(wanted))


def usual() -> list[str]:
    """Held-out families with a plain loop: no augmentation, no clipping, no training loss other than the
    evaluated one.
    """
    return [name for name in names("heldout") if family(name).frozen is None]


def figures(losses: Mapping[Job, tuple[float, float]]) -> dict[str, Any]:
    """All figures, flat, of the test losses after and before each training."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for name in dict.fromkeys(job.change for job in losses):
        pilot, textbook, lost = [], [], 0
        for task in dict.fromkeys(job.task for job in losses if job.change == name):
            mine = {
                job: ends
                for job, ends in losses.items()
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
    rows = []
    for name in dict.fromkeys(key.rpartition(".")[0] for key in r):
        of = {key.rpartition(".")[2]: value for key, value in r.items() if key.rpartition(".")[0] == name}
        rows.append([
            f"{name}: {CHANGES[name].what}", str(of["tasks"]), verdict.number(of["pilot"]),
            verdict.interval(of["low"], of["high"]), verdict.number(of["worst"], 2), verdict.number(of["textbook"]),
            f"{of['diverged']} of {of['runs']}",
        ])  # fmt: skip
    return markdown.table(head, rows)


def measure(quick: bool) -> dict[str, Any]:
    return figures(trained(jobs(["dropout"] if quick else CHANGES, 2 if quick else SEEDS), BENCHMARK_CACHE))


def trained(todo: Sequence[Job], folder: Path) -> dict[Job, tuple[float, float]]:
    """Test losses after and before each training. Those that `folder` lacks are trained, and cached as they end."""

    def compute(missing: Sequence[Job]) -> Iterator[dict[Job, tuple[float, float]]]:
        losses = results(engine("local"), _by_job, missing)
        return progress(losses, len(missing), "robust", lambda _: 1.0, "trainings")

    return through(folder, {job: training_key(job) for job in todo}, compute)


def _by_job(job: Job) -> dict[Job, tuple[float, float]]:
    return {job: train(job)}


if __name__ == "__main__":
    sys.exit(command.run(None, "The policy in unfamiliar trainings.", OUT, PAGE, measure, render, lambda r: []))
