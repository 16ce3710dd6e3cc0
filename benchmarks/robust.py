"""Trainings unlike the usual ones, compared with tuned and untuned linear decay.

    python -m benchmarks.robust      # writes benchmarks/results/robust.json and a table of docs/robustness.md

Every row changes one thing about held-out trainings: what the pilot is told, or the training itself. `PilotLR` with
the shipped policy runs in a plain loop, with its defaults. Regret is normalised by the best rate of linear decay for
the changed training, chosen on the seeds that it is judged on, which is a strict comparison. Textbook: linear decay
from the optimizer's usual rate. Means weight the regimes by their shares. Trainings are cached in `.benchmark_cache`: a
new policy costs only its own, and a killed run continues. Keys, for every change: <change>.pilot, .low, .high (95 %),
.usual (without the change, on the same tasks), .textbook, .worst (task), .<regime>, .tasks, .diverged (of `runs`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.changed_training import TIMES, Ends, Job, train, training_key
from benchmarks.changes import CHANGES, OTHER_OPTIMIZERS, trained_as
from pipeline.config import load
from pipeline.engines import engine, progress, results
from pipeline.evaluation import stats
from pipeline.evaluation.splits import Task, tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import markdown, verdict
from pipeline.reporting.scores import REGIMES
from pipeline.result_cache import through
from pipeline.workloads.families import family

OUT, PAGE = Path("benchmarks/results/robust.json"), Path("docs/robustness.md")
USUAL, LONG = "as usual", "long"
SEEDS = 3
RESAMPLES = 2000
WORSE, LONGER = 2.0, 0.03  # bars: a change may cost so many times the usual regret, and a long training this regret


def jobs(changes: Iterable[str], seeds: int) -> list[Job]:
    wanted = [
        Job(name if pilot else trained_as(name), task, seeds, pilot)
        for name in changes
        for task in tasks(CHANGES[name].families, 1)
        for pilot in (True, False)
    ]
    return list(dict.fromkeys(wanted))


def figures(ends: Mapping[Job, Ends], shares: Mapping[str, float]) -> dict[str, Any]:
    """All figures, flat. The change "as usual" must be among the jobs."""
    rng, out, usual = np.random.default_rng(0), dict[str, Any](), dict[Task, np.ndarray]()
    piloted = [job for job in ends if job.pilot]
    for name in dict.fromkeys(job.change for job in piloted):
        mine = [job for job in piloted if job.change == name]
        ours, textbooks = zip(*(_regrets(ends, job) for job in mine), strict=True)
        regimes = [family(job.task.family).regime for job in mine]
        weights = stats.regime_weights(regimes, shares)
        regrets = np.stack(ours)
        if name == USUAL:
            usual = {job.task: of_task for job, of_task in zip(mine, ours, strict=True)}
        estimate = stats.mean_estimate(regrets, weights=weights, n_resamples=RESAMPLES, rng=rng)
        means = regrets.mean(axis=1)
        out |= {
            f"{name}.pilot": estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high,
            f"{name}.usual": float(weights @ [usual[job.task].mean() for job in mine]),
            f"{name}.textbook": float(weights @ textbooks), f"{name}.worst": float(means.max()),
        }  # fmt: skip
        for regime in REGIMES:
            if regime in regimes:
                out[f"{name}.{regime}"] = float(means[[other == regime for other in regimes]].mean())
        lost = sum(int((~np.isfinite(ends[job].after)).sum()) for job in mine)
        out |= {f"{name}.tasks": len(mine), f"{name}.diverged": lost, f"{name}.runs": regrets.size}
    return out


def _regrets(ends: Mapping[Job, Ends], job: Job) -> tuple[np.ndarray, float]:
    """The pilot's regrets (seeds,), and the mean of linear decay's from the textbook's rate."""
    linear = ends[Job(trained_as(job.change), job.task, job.seeds, pilot=False)]
    start, decays = linear.before, np.array(linear.after)
    best = np.fmin(decays, start).mean(axis=1).min()
    ours = stats.normalised_regret(ends[job].after[0], best, start)
    return ours, float(stats.normalised_regret(decays[TIMES.index(1.0)], best, start).mean())


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each change."""
    head = ["what changes", "tasks", "regret of the pilot", "95 %", "unchanged", "linear decay, textbook's rate",
            *REGIMES.values(), "worst task", "diverged"]  # fmt: skip
    rows = []
    for name in _names(r):
        of = {key.rpartition(".")[2]: value for key, value in r.items() if key.rpartition(".")[0] == name}
        rows.append([
            f"{name}: {CHANGES[name].what}", str(of["tasks"]), verdict.number(of["pilot"]),
            verdict.interval(of["low"], of["high"]), verdict.number(of["usual"]), verdict.number(of["textbook"]),
            *(verdict.number(of[regime]) if regime in of else "" for regime in REGIMES),
            verdict.number(of["worst"], 2), f"{of['diverged']} of {of['runs']}",
        ])  # fmt: skip
    return markdown.table(head, rows)


def missed(r: Mapping[str, Any]) -> list[str]:
    """The bars that are missed."""
    lines = []
    for name in _names(r):
        regret, usual, textbook = (r[f"{name}.{figure}"] for figure in ("pilot", "usual", "textbook"))
        if regret > WORSE * usual:
            lines.append(f"{name}: regret {regret:.3f}, more than {WORSE:g} times {usual:.3f}")
        if name in OTHER_OPTIMIZERS and regret >= textbook:
            lines.append(f"{name}: regret {regret:.3f}, the textbook's rate has {textbook:.3f}")
        if name == LONG and regret > LONGER:
            lines.append(f"{name}: regret {regret:.3f}, the bar is {LONGER}")
    return lines


def _names(r: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] for key in r))


def measure(quick: bool) -> dict[str, Any]:
    todo = jobs([USUAL, "dropout"] if quick else CHANGES, 2 if quick else SEEDS)
    return figures(trained(todo, BENCHMARK_CACHE), load(Path()).regimes.shares)


def trained(todo: Sequence[Job], folder: Path) -> dict[Job, Ends]:
    """The ends of all jobs. Those that `folder` lacks are trained, and cached as they end."""

    def compute(missing: Sequence[Job]) -> Iterator[dict[Job, tuple[Any, ...]]]:
        return progress(results(engine("local"), _by_job, missing), len(missing), "robust", lambda _: 1.0, "jobs")

    ends = through(folder, {job: training_key(job) for job in todo}, compute)
    return {job: Ends(*end) for job, end in ends.items()}


def _by_job(job: Job) -> dict[Job, tuple[Any, ...]]:
    return {job: tuple(train(job))}  # plain, because the cache would note the module of `Ends`, which may move


if __name__ == "__main__":
    sys.exit(command.run(None, "The policy in unusual trainings.", OUT, PAGE, measure, render, missed))
