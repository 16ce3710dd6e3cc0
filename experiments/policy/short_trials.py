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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command, spread
from experiments.policy.trial_levels import OFF, SHARES, Losses, key, train
from lrpilot import load_policy
from pipeline.engines import engine, progress, results
from pipeline.evaluation import aggregates, stats
from pipeline.evaluation.bench import Bench, with_facts
from pipeline.evaluation.compare import existing
from pipeline.evaluation.oracle import oracles
from pipeline.evaluation.regrets import add_regret
from pipeline.evaluation.run_cache import through
from pipeline.evaluation.splits import Task
from pipeline.paths import BENCHMARK_CACHE, DEFAULT_MODEL
from pipeline.reporting import markdown, scores, verdict
from pipeline.workloads.base import REGIMES

OUT, PAGE = Path("experiments/results/short_trials.json"), Path("docs/experiments.md")
SPLIT, SEEDS = "selection", 3


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    bench = spread.bench(SPLIT, quick)
    bench = replace(bench, seeds=min(bench.seeds, SEEDS))
    policy = existing(DEFAULT_MODEL / "policy.onnx")
    rows = regrets(bench, trained(bench.tasks, policy, bench.seeds))
    fixed = {"quick": quick, "seeds": bench.seeds, "policy": load_policy("default").manifest.graph}
    return fixed | {"tasks": int(rows.task.nunique())} | figures(rows, bench.shares)


def trained(tasks: Sequence[Task], policy: str, seeds: int) -> dict[Task, Losses]:
    """The result of `train` for each task. Those that the cache lacks are trained, and cached as they end."""

    def compute(missing: Sequence[Task]) -> Iterator[dict[Task, Losses]]:
        outcomes = results(engine("local"), partial(train, policy=policy, seeds=seeds), missing)
        for task, losses in progress(outcomes, len(missing), "trials", lambda _: 1.0, "tasks"):
            yield {task: losses}

    return through(BENCHMARK_CACHE, {task: key(task, policy, seeds) for task in tasks}, compute)


def regrets(bench: Bench, outcomes: Mapping[Task, Losses]) -> pd.DataFrame:
    """A row of each task and seed: its regime, and the columns `own`, `best`, and of each share `free`, `paid` and
    `agree`. Tasks on which no tuned training improves are left out.
    """
    _, runs = oracles(bench)
    judged = add_regret(with_facts(bench.compute(runs, "oracle"), bench))
    known, parts = bench.facts(), list[pd.DataFrame]()
    best = dict(zip(judged.task, judged.oracle_loss, strict=True))
    for task, of_task in outcomes.items():
        if (name := task.name) not in best:
            continue
        start = float(known.initial_loss[name])
        regret = {
            which: stats.normalised_regret(loss, float(best[name]), start)
            for which, loss in of_task.items() if not which.startswith("trial")
        }  # fmt: skip
        columns, full = {"own": regret["full"][OFF.index(0.0)], "best": regret["full"].min(axis=0)}, regret["full"]
        for share in SHARES:
            trial = of_task[f"trial.{share:g}"]
            chosen = np.where(np.isfinite(trial), trial, np.inf).argmin(axis=0), np.arange(trial.shape[1])
            columns |= {
                f"free.{share:g}": full[chosen], f"paid.{share:g}": regret[f"shorter.{share:g}"][chosen],
                f"agree.{share:g}": full[chosen] == columns["best"],
            }  # fmt: skip
        parts.append(pd.DataFrame(columns).assign(task=name, regime=str(known.regime[name])))
    return pd.concat(parts, ignore_index=True)


def figures(rows: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, float]:
    """Means over tasks of the columns of `regrets`, for all tasks and each regime."""
    names = [str(name) for name in rows.columns if name not in ("task", "regime")]
    of_task = aggregates.regimes(rows)
    means = pd.DataFrame(rows.groupby("task")[names].mean())
    regime = np.array([of_task[str(task)] for task in means.index])
    groups = {"all": aggregates.weights(means.index, rows, shares) @ means.to_numpy()}
    groups |= {str(name): means.to_numpy()[regime == name].mean(axis=0) for name in np.unique(regime)}
    return {
        f"{group}.{name}": float(v) for group, values in groups.items() for name, v in zip(names, values, strict=True)
    }


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
