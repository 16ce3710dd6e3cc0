"""What shape the rate should have around the level that the policy names.

    python -m experiments.policy.envelopes    # half an hour, then cached; writes experiments/results/envelopes.json,
                                              # docs/experiments.md

Every run of the selection split trains from the rate that the shipped policy names, and from rates OFF decades from it,
under each of ENVELOPES. The policy's level is held. There is no probe, so all envelopes have all steps. Figures, as
<group>.<envelope>.<figure>, for all tasks, weighted by the shares of their regimes, and for each regime: mean regret of

    <off>            the rate that lies so far from the policy's
    best             the best of the rates that are tried, with hindsight: one for all seeds of a task

and tasks, seeds, policy.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command
from experiments.policy import envelope_trainings, task_trainings
from experiments.policy.envelope_trainings import ENVELOPES, OFF
from experiments.policy.task_trainings import SPLIT, Losses
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.splits import Task
from pipeline.reporting import markdown, scores, verdict
from pipeline.workloads.base import REGIMES

OUT, PAGE = Path("experiments/results/envelopes.json"), Path("docs/experiments.md")


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    return task_trainings.measure(quick, envelope_trainings, regrets, "envelopes")


def regrets(bench: Benchmark, outcomes: Mapping[Task, Losses]) -> pd.DataFrame:
    """A row of each task: its regime, and for each envelope the columns of OFF and `best`."""
    rows = list[dict[str, Any]]()
    for name, regime, regret in task_trainings.regrets(bench, outcomes):
        columns: dict[str, Any] = {"task": name, "regime": regime}
        for envelope, of_levels in regret.items():
            means = of_levels.mean(axis=1)
            columns |= {f"{envelope}.{off:g}": float(mean) for off, mean in zip(OFF, means, strict=True)}
            columns[f"{envelope}.best"] = float(np.min(means))
        rows.append(columns)
    return pd.DataFrame(rows)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each envelope. Cells: at the policy's level; at the best level of those tried."""
    groups = ["all", *(regime for regime in REGIMES if f"{regime}.{next(iter(ENVELOPES))}.best" in r)]
    rows = [
        [
            envelope,
            *(
                f"{verdict.number(r[f'{group}.{envelope}.0'])}; {verdict.number(r[f'{group}.{envelope}.best'])}"
                for group in groups
            ),
            *(verdict.number(r[f"all.{envelope}.{off:g}"]) for off in OFF if off),
        ]
        for envelope in ENVELOPES
    ]
    names = [scores.REGIMES.get(group, group) for group in groups]
    beside = [f"all, {off:+g} decades" for off in OFF if off]
    scope = f"{r['tasks']} tasks of the {SPLIT} split, {r['seeds']} seeds. Policy `{r['policy'][:12]}`."
    return f"{markdown.table(['envelope', *names, *beside], rows)}\n\n{scope}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "What shape the rate should have.", OUT, PAGE, measure, render, lambda _: [])


if __name__ == "__main__":
    sys.exit(main())
