"""What of a training's past, beyond the last observation, helps to foretell its end: what a memory could be worth.

    python -m experiments.policy.predict_end    # minutes, from the last `make repro`; docs/experiments.md,
                                                # experiments/results/predict_end.json

The recorded runs that hold their level, under linear decay, end as they do by what they are, not by what is decided
later. Gradient-boosted trees learn their final regret from observations on the way, at each of AT, and answer for tasks
that they were not fitted on. A policy sees the last observation alone; others are given those before it as well, and
the validation loss. Figures, as <what is seen>.<figure>:

    share, low, high               of the variance between runs that is foretold, with a 95 % interval over the tasks
    more, more_low, more_high      the same less that of the last observation, by pairs

and tasks, runs, data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.levels import RESAMPLES, SPLITS, ends, folds, holding, trees
from pipeline.engines import engine, results
from pipeline.evaluation import stats
from pipeline.reporting import verdict
from policy import trajectories
from policy.observations import TaskRecording, observations

OUT, PAGE = Path("experiments/results/predict_end.json"), Path("docs/experiments.md")
AT = (10, 18, 26, 34)  # decisions, of 44
MEMORY = 8  # observations, the last one among them
SEEN = {  # observations, and whether they tell the validation loss
    "the last observation": (1, False),
    "the last two": (2, False),
    "the last four": (4, False),
    "the last eight": (8, False),
    "the last, with the validation loss": (1, True),
    "the last four, with the validation loss": (4, True),
}
FIRST = next(iter(SEEN))


@dataclass(frozen=True)
class Past:
    """What was observed of a task's runs that held their level, n = runs x decisions, and how they ended."""

    hidden: np.ndarray  # (n, MEMORY, F), latest first, without the validation loss
    shown: np.ndarray  # (n, MEMORY, F), with it
    regrets: np.ndarray  # (n,)

    def seen(self, memory: int, validation: bool) -> np.ndarray:
        """(n, memory * F)"""
        return (self.shown if validation else self.hidden)[:, :memory].reshape(len(self.regrets), -1)


def read(path: Path) -> Past | None:
    """Of a recorded task; None where fewer than two runs held their level to the end."""
    table = trajectories.read(path)
    task = TaskRecording(table)
    runs = np.flatnonzero(holding(table) & ~task.diverged)
    if len(runs) < 2 or task.length <= AT[-1] + 1:
        return None
    none = np.zeros((task.length, task.runs), bool)
    hidden, shown = (
        np.concatenate([seen[at : at - MEMORY : -1].swapaxes(0, 1) for at in AT])
        for seen in (observations(task, show)[:, runs] for show in (none, ~none))
    )
    return Past(hidden, shown, np.tile(ends(task)[runs], len(AT)))


def errors(tasks: Sequence[Past], memory: int, validation: bool) -> np.ndarray:
    """(tasks,) mean squared errors of what is foretold, in units of the variance between all runs."""
    seen, wanted = [task.seen(memory, validation) for task in tasks], [task.regrets for task in tasks]
    out = np.zeros(len(tasks))
    for split in range(SPLITS):
        fold = folds(len(tasks), split)
        for k in np.unique(fold):
            fit, ask = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            model = trees().fit(np.concatenate([seen[i] for i in fit]), np.concatenate([wanted[i] for i in fit]))
            for i in ask:
                out[i] += np.mean((model.predict(seen[i]) - wanted[i]) ** 2) / SPLITS
    middle = np.mean([values.mean() for values in wanted])  # every task counts the same
    return out / np.mean([np.mean((values - middle) ** 2) for values in wanted])


def figures(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All figures, flat."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for name, values in found.items():
        share = stats.mean_estimate(1 - values[None], n_resamples=RESAMPLES, rng=rng)  # one stratum: tasks
        out |= {f"{name}.share": share.value, f"{name}.low": share.low, f"{name}.high": share.high}
        if name != FIRST:
            more = stats.difference_estimate(1 - values[None], 1 - found[FIRST][None], n_resamples=RESAMPLES, rng=rng)
            out |= {f"{name}.more": more.value, f"{name}.more_low": more.low, f"{name}.more_high": more.high}
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each of SEEN."""
    rows = [["what is seen", "share foretold", "95 %", "more than by the last (95 %)"], ["---", *["---:"] * 3]]
    for name in SEEN:
        more = "–"
        if name != FIRST:
            more = verdict.difference(*(r[f"{name}.{key}"] for key in ("more", "more_low", "more_high")))
        interval = verdict.interval(r[f"{name}.low"], r[f"{name}.high"])
        rows.append([name, verdict.number(r[f"{name}.share"]), interval, more])
    last = f"{r['runs']} runs of {r['tasks']} recorded tasks of the training families, data `{r['data'][:12]}`."
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", last])


def measure(found: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks."""
    tasks = [past for past in results(engine("local"), read, found) if past is not None]
    tasks.sort(key=lambda task: task.regrets.tobytes())  # as workers finish is no order
    runs = sum(len(task.regrets) // len(AT) for task in tasks)
    return figures({name: errors(tasks, *how) for name, how in SEEN.items()}) | {"tasks": len(tasks), "runs": runs}


def main(argv: Sequence[str] | None = None) -> int:
    what = "What of a training's past helps to foretell its end."
    return command.of_collection(argv, what, OUT, PAGE, lambda found, _: measure(found), render)


if __name__ == "__main__":
    sys.exit(main())
