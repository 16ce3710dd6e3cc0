"""A schedule searched for one task: about what the best schedule could reach, were it known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.evaluation import shapes
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.methods.scheduled import KnownRates, Scheduled, Shaped

CANDIDATES, FINALISTS = 64, 10  # shapes of a first round, and of them in a second one
FIRST, ALL = range(1000, 1002), range(1000, 1006)  # seeds of the rounds; none that methods are judged on


def search(bench: Bench, best: Mapping[str, Scheduled]) -> dict[str, KnownRates]:
    """By task the best of the shapes drawn around the grid's best rate, by mean test loss over seeds that choose.

    Two rounds (successive halving: Jamieson & Talwalkar 2016, arXiv:1502.07943), the first with all shapes on two
    seeds. Where the grid's winner, trained on the same seeds, is better than all of them, it stays.
    """
    candidates = {task.name: _draw(task.name, best[task.name]) for task in bench.tasks}
    first = _best(bench, candidates, FIRST, FINALISTS)
    finalists = {task: [*shaped, replace(best[task], kind="search", name="grid")] for task, shaped in first.items()}
    last = _best(bench, finalists, ALL, 1)
    return {task: replace(winner, kind="floor", name="searched") for task, (winner,) in last.items()}


def _draw(task: str, best: Scheduled) -> list[KnownRates]:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(task.encode()).digest()[:4]))
    drawn = shapes.draw(rng, float(np.log10(best.lr0)), CANDIDATES)
    return [Shaped("search", str(shape), shape) for shape in drawn]


def _best(
    bench: Bench, methods: Mapping[str, Sequence[KnownRates]], seeds: range, count: int
) -> dict[str, list[KnownRates]]:
    """By task those with the lowest mean test loss, the lowest first; a run that diverged loses."""
    runs = [run for task in bench.tasks for run in bench.runs(methods[task.name], task, seeds)]
    rows = bench.compute(runs, "search")
    losses = rows.assign(test_loss=rows.test_loss.fillna(np.inf)).groupby(["task", "method"]).test_loss.mean()
    return {
        task: sorted(of_task, key=lambda method: losses[task, method.name])[:count] for task, of_task in methods.items()
    }
