"""Do observations before the last one help to predict how a training ends? This measures what a memory could be worth.

    python -m experiments.policy.predict_end    # minutes, from the last `make repro`; writes
                                                # experiments/results/predict_end.json, docs/experiments.md

The end of a recorded run that holds its level depends on the run itself and not on later decisions. Gradient-boosted
trees learn its final regret from observations on the way, at each of AT, and answer for tasks that they were not fitted
on. A policy sees only the last observation. Other predictors also get the ones before it, and the validation loss.
Figures, as <what is observed>.<figure>:

    share, low, high               of the variance between runs that is predicted, with a 95 % interval over the tasks
    more, more_low, more_high      the same minus that of the last observation, paired

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
from experiments.policy.held_levels import ends, holding
from experiments.policy.trees import SPLITS, folds, trees
from pipeline.engines import engine, results
from pipeline.evaluation import stats
from pipeline.reporting import markdown, verdict
from policy import trajectories
from policy.observations import TaskRecording, observations

OUT, PAGE = Path("experiments/results/predict_end.json"), Path("docs/experiments.md")
AT = (10, 18, 26, 34)  # decisions, of 44
MEMORY = 8  # observations, the last one among them
RESAMPLES = 2000
INPUTS = {  # observations, and whether they hold the validation loss
    "the last observation": (1, False),
    "the last two": (2, False),
    "the last four": (4, False),
    "the last eight": (8, False),
    "the last, with the validation loss": (1, True),
    "the last four, with the validation loss": (4, True),
}
FIRST = next(iter(INPUTS))


@dataclass(frozen=True)
class Past:
    """Observations of a task's runs that held their level, n = runs x decisions, and how the runs ended."""

    hidden: np.ndarray  # (n, MEMORY, F), latest first, without the validation loss
    shown: np.ndarray  # (n, MEMORY, F), with it
    regrets: np.ndarray  # (n,)

    def inputs(self, memory: int, validation: bool) -> np.ndarray:
        """(n, memory * F): the last `memory` observations."""
        return (self.shown if validation else self.hidden)[:, :memory].reshape(len(self.regrets), -1)


def read(path: Path) -> Past | None:
    """The past of a recorded task; None if fewer than two runs held their level to the end."""
    table = trajectories.read(path)
    task = TaskRecording(table)
    runs = np.flatnonzero(holding(table) & ~task.diverged)
    if len(runs) < 2 or task.length <= AT[-1] + 1:
        return None
    none = np.zeros((task.length, task.runs), bool)
    hidden, shown = (
        np.concatenate([values[at : at - MEMORY : -1].swapaxes(0, 1) for at in AT])
        for values in (observations(task, show)[:, runs] for show in (none, ~none))
    )
    return Past(hidden, shown, np.tile(ends(task)[runs], len(AT)))


def errors(tasks: Sequence[Past], memory: int, validation: bool) -> np.ndarray:
    """(tasks,) mean squared errors of the predictions, in units of the variance between all runs."""
    inputs, targets = [task.inputs(memory, validation) for task in tasks], [task.regrets for task in tasks]
    out = np.zeros(len(tasks))
    for split in range(SPLITS):
        fold = folds(len(tasks), split)
        for k in np.unique(fold):
            fit, held_out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            model = trees().fit(np.concatenate([inputs[i] for i in fit]), np.concatenate([targets[i] for i in fit]))
            for i in held_out:
                out[i] += np.mean((model.predict(inputs[i]) - targets[i]) ** 2) / SPLITS
    middle = np.mean([values.mean() for values in targets])  # every task counts the same
    return out / np.mean([np.mean((values - middle) ** 2) for values in targets])


def figures(by_inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All figures, flat, of the errors (tasks,) by what is observed."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for name, values in by_inputs.items():
        share = stats.mean_estimate(1 - values[None], n_resamples=RESAMPLES, rng=rng)  # one stratum: tasks
        out |= {f"{name}.share": share.value, f"{name}.low": share.low, f"{name}.high": share.high}
        if name != FIRST:
            last = 1 - by_inputs[FIRST][None]
            more = stats.difference_estimate(1 - values[None], last, n_resamples=RESAMPLES, rng=rng)
            out |= {f"{name}.more": more.value, f"{name}.more_low": more.low, f"{name}.more_high": more.high}
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each of INPUTS."""
    rows = []
    for name in INPUTS:
        more = "–"
        if name != FIRST:
            more = verdict.difference(*(r[f"{name}.{key}"] for key in ("more", "more_low", "more_high")))
        interval = verdict.interval(r[f"{name}.low"], r[f"{name}.high"])
        rows.append([name, verdict.number(r[f"{name}.share"]), interval, more])
    head = ["what is observed", "share of the variance predicted", "95 %", "minus the last alone (95 %)"]
    table = markdown.table(head, rows)
    collection = f"{r['runs']} runs of {r['tasks']} recorded tasks of the training families, data `{r['data'][:12]}`."
    return f"{table}\n\n{collection}"


def measure(files: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks."""
    tasks = [past for past in results(engine("local"), read, files) if past is not None]
    tasks.sort(key=lambda task: task.regrets.tobytes())  # as workers finish is no order
    runs = sum(len(task.regrets) // len(AT) for task in tasks)
    return figures({name: errors(tasks, *how) for name, how in INPUTS.items()}) | {"tasks": len(tasks), "runs": runs}


def main(argv: Sequence[str] | None = None) -> int:
    what = "What of a training's past helps to predict its end."
    return command.of_collection(argv, what, OUT, PAGE, lambda files, _: measure(files), render)


if __name__ == "__main__":
    sys.exit(main())
