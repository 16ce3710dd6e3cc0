"""Whether short trainings at a few levels, each with a decay of its own, find a better level than the policy names.

    python -m experiments.policy.short_trials    # minutes; writes experiments/results/short_trials.json,
                                                 # docs/experiments.md

The shipped policy names a rate for every run of the selection split. Levels that lie OFF decades from it are tried.
Each one trains from the start for a share of the steps, under linear decay. The level whose trial ends with the lowest
validation loss is trained in full, under linear decay. Figures, as <group>.<name>, for all tasks, weighted by the
shares of their regimes, and for each regime: mean regret of

    own                                  the rate that the policy names
    best                                 the best of the rates that are tried, with hindsight
    free.<share>                         the rate that trials of that length choose, if trials cost no steps
    paid.<share>                         the same, if the training is shorter by the steps of all trials but one
    agree.<share>                        no regret: the share of the runs in which the trials choose the best rate

and tasks, seeds, policy. Trials are judged by the validation loss, which knows more than the training loss. So this is
the most that they can be worth.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command
from experiments.policy import task_trainings, trial_levels
from experiments.policy.task_trainings import SPLIT, Losses
from experiments.policy.trial_levels import OFF, SHARES
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.splits import Task
from pipeline.reporting import markdown, scores, verdict
from pipeline.workloads.base import REGIMES

OUT, PAGE = Path("experiments/results/short_trials.json"), Path("docs/experiments.md")
TRIAL = "trial"  # what the validation losses of short trainings are named by, before their share


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    return task_trainings.measure(quick, trial_levels, regrets, "trials")


def regrets(bench: Benchmark, outcomes: Mapping[Task, Losses]) -> pd.DataFrame:
    """A row of each task and seed: its regime, and the columns `own`, `best`, and of each share `free`, `paid` and
    `agree`.
    """
    parts, trials = list[pd.DataFrame](), {task.name: of_task for task, of_task in outcomes.items()}
    tested = {
        task: {way: loss for way, loss in of_task.items() if not way.startswith(TRIAL)}
        for task, of_task in outcomes.items()
    }
    for name, regime, regret in task_trainings.regrets(bench, tested):
        full = regret["full"]
        columns = {"own": full[OFF.index(0.0)], "best": full.min(axis=0)}
        for share in SHARES:
            trial = trials[name][f"{TRIAL}.{share:g}"]
            chosen = np.where(np.isfinite(trial), trial, np.inf).argmin(axis=0), np.arange(trial.shape[1])
            columns |= {
                f"free.{share:g}": full[chosen], f"paid.{share:g}": regret[f"shorter.{share:g}"][chosen],
                f"agree.{share:g}": full[chosen] == columns["best"],
            }  # fmt: skip
        parts.append(pd.DataFrame(columns).assign(task=name, regime=regime))
    return pd.concat(parts, ignore_index=True)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each way to choose the level, a column of each regime."""
    groups = ["all", *(regime for regime in REGIMES if f"{regime}.own" in r)]
    titles = {"own": "the policy's level", "best": "the best of the levels, with hindsight"}
    for share in SHARES:
        titles[f"free.{share:g}"] = f"chosen by trials of {share:.0%} of the steps, at no cost"
        titles[f"paid.{share:g}"] = f"chosen by trials of {share:.0%} of the steps, which are paid for"
    rows = [[title, *(verdict.number(r[f"{group}.{name}"]) for group in groups)] for name, title in titles.items()]
    for share in SHARES:
        agreed = (f"{r[f'{group}.agree.{share:g}']:.0%}" for group in groups)
        rows.append([f"trials of {share:.0%} of the steps choose the best level", *agreed])
    names = [scores.REGIMES.get(group, group) for group in groups]
    scope = f"{r['tasks']} tasks of the {SPLIT} split, {r['seeds']} seeds. Policy `{r['policy'][:12]}`."
    return f"{markdown.table(['level', *names], rows, 'l' + 'r' * len(groups))}\n\n{scope}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "What short trials of several levels are worth.", OUT, PAGE, measure, render, lambda _: [])


if __name__ == "__main__":
    sys.exit(main())
