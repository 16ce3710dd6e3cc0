"""A schedule searched for one task: about what the best schedule could reach, were it known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.evaluation import shapes
from pipeline.evaluation.trial import Method

if TYPE_CHECKING:
    from pipeline.evaluation.benchmark import Bench

DRAWN, KEPT = 64, 10  # shapes of a first round, and of them in a second one
FIRST, ALL = range(1000, 1002), range(1000, 1006)  # seeds of the rounds; none that methods are judged on


def search(bench: Bench, best: Mapping[str, Method]) -> dict[str, Method]:
    """By task the best of the shapes drawn around the grid's best rate, by mean test loss over seeds that choose.

    Two rounds (successive halving: Jamieson & Talwalkar 2016, arXiv:1502.07943), the first with all shapes on two
    seeds. Where the grid's winner, trained on the same seeds, is better than all of them, it stays.
    """
    first = {task.name: [_named(s) for s in _draw(task.name, best[task.name])] for task in bench.tasks}
    rows = bench.compute([r for t in bench.tasks for r in bench.runs(first[t.name], t, FIRST)], "search")
    kept = {name: _best(rows[rows.task == name], methods, KEPT) for name, methods in first.items()}
    kept = {name: [*methods, _grid(best[name])] for name, methods in kept.items()}
    rows = bench.compute([r for t in bench.tasks for r in bench.runs(kept[t.name], t, ALL)], "search")
    found = {name: _best(rows[rows.task == name], methods, 1)[0] for name, methods in kept.items()}
    return {name: Method("floor", "searched", m.lr0, m.schedule, m.shape) for name, m in found.items()}


def _draw(task: str, best: Method) -> list[shapes.Shape]:
    assert best.lr0 is not None
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(task.encode()).digest()[:4]))
    return shapes.draw(rng, float(np.log10(best.lr0)), DRAWN)


def _named(shape: shapes.Shape) -> Method:
    return Method("search", str(shape), shape=shape)


def _grid(best: Method) -> Method:
    return Method("search", "grid", best.lr0, best.schedule)


def _best(rows: pd.DataFrame, methods: list[Method], count: int) -> list[Method]:
    """Lowest mean test loss first; a run that diverged loses."""
    means = rows.assign(test_loss=rows.test_loss.fillna(np.inf)).groupby("method").test_loss.mean()
    return sorted(methods, key=lambda m: means[m.name])[:count]
