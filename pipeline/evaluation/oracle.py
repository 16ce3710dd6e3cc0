"""The oracle: of every task the configuration of its grid that is best, trained again.

The winner of a grid is trained on the seeds that all methods are judged on: those did not choose it, and its losses
pair with everybody's (common random numbers).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.evaluation.bench import Bench, train_grid, with_facts
from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.regrets import SCORES, add_regret, start_of
from pipeline.evaluation.trial import Run


def winners(tuned: pd.DataFrame, known: pd.DataFrame, score: str) -> dict[str, Scheduled]:
    """By task the configuration of its grid that is best on average over the seeds that choose.

    A run that diverged or ended above where it began counts as where it began.
    """
    start = tuned.task.map(known[start_of(score)])
    values = tuned.assign(start=start, value=np.fmin(tuned[score], start)).dropna(subset=["start"])
    means = values.groupby(["task", "method", "lr0"]).value.mean()
    chosen = means.groupby("task").idxmin()
    return {task: Scheduled("oracle", score, schedule=name, lr0=lr0) for task, name, lr0 in chosen}


def oracles(bench: Bench, tuned: pd.DataFrame) -> tuple[dict[str, Scheduled], list[Run]]:
    """By task the winner of the test loss; and the runs of the winners of all scores, on the judged seeds."""
    best = {score: winners(tuned, bench.facts(), score) for score in SCORES.values()}
    runs = [r for t in bench.tasks for won in best.values() if t.name in won for r in bench.runs([won[t.name]], t)]
    return best["test_loss"], runs


def against_oracle(bench: Bench) -> pd.DataFrame:
    """The grids of all tasks, with their regrets."""
    tuned = train_grid(bench)
    _, runs = oracles(bench, tuned)
    return add_regret(with_facts(pd.concat([tuned, bench.compute(runs, "oracle")], ignore_index=True), bench))
