"""Fine-tuned encoders: what each run of the shipped policy ends with, and how many are sent back.

    python -m benchmarks.encoders          # minutes, seconds from the cache; writes benchmarks/results/encoders.json,
                                           # its part of docs/benchmark.md
    python -m benchmarks.encoders --check  # and fails if a run misses more than BAR, or begins again

Encoders are the networks for which a rate that is too high is worst. One task of each split fine-tunes one; that of the
training split belongs to a family that the policy learned from. Keys: <family>.<method>.<mean | worst>, of regrets over
seeds, with methods policy (knows the size of the data), policy_steps (does not) and default (textbook); <family>.again,
runs of `policy` that are sent back; seeds, policy, quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command, spread
from lrpilot import load_policy
from lrpilot.pilot import Pilot
from pipeline.evaluation.compare import compare, existing
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.splits import Task, full, tasks
from pipeline.paths import DEFAULT_MODEL
from pipeline.reporting import markdown
from pipeline.simulation.simulate import simulate

OUT, PAGE = Path("benchmarks/results/encoders.json"), Path("docs/benchmark.md")
FAMILIES = {"train": "finetune_encoder", "selection": "commands_encoder", "heldout": "reports_encoder"}
METHODS = {"policy": "policy", "policy_steps": "policy, not told of the data", "default": "textbook default"}
BAR = 0.3  # regret of a run of the policy, at most


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    policy = existing(DEFAULT_MODEL / "policy.onnx")
    out: dict[str, Any] = {"quick": quick, "policy": load_policy("default").manifest.graph}
    for split, name in FAMILIES.items():
        bench = spread.bench(split, quick)
        if not quick:
            bench = replace(bench, tasks=tasks([name], full(name)))
        again = sum(sent_back(task, bench.seeds) for task in bench.tasks)
        told = Learned("policy", "policy", policy, epochs=True)
        rows = compare(bench, [told, Learned("policy", "policy_steps", policy)])
        out |= {"seeds": bench.seeds, f"{name}.again": again} | figures(name, rows)
    return out


def sent_back(task: Task, seeds: int) -> int:
    """How many runs of the shipped policy, told the size of the data, are sent back to earlier weights."""
    policy, again = load_policy("default"), np.zeros(seeds, bool)

    def act(pilot: Pilot, which: np.ndarray) -> None:
        pilot.decide(policy, which)
        again[pilot.restarts] = True

    simulate(task.sample(), range(seeds), policy.protocol, act, show_validation=False)
    return int(again.sum())


def figures(name: str, rows: pd.DataFrame) -> dict[str, float]:
    """The figures of the runs of one family, flat."""
    regret = rows[rows.kind.isin(["policy", "textbook"])].groupby("method").regret
    return {f"{name}.{method}.{figure}": float(regret.agg(how)[method])
            for method in METHODS for figure, how in (("mean", "mean"), ("worst", "max"))}  # fmt: skip


def missed(r: Mapping[str, Any]) -> Iterator[str]:
    """A message for every bar that is missed."""
    for name in FAMILIES.values():
        if (worst := r[f"{name}.policy.worst"]) > BAR:
            yield f"{name}: a run has regret {worst:.3f}, want at most {BAR:g}"
        if again := r[f"{name}.again"]:
            yield f"{name}: {again} of {r['seeds']} runs are sent back to earlier weights, want none"


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each family."""
    rows = [
        [f"`{name}`", split, *(cell(r, f"{name}.{method}") for method in METHODS), f"{r[f'{name}.again']}"]
        for split, name in FAMILIES.items()
    ]  # fmt: skip
    head = ["family", "split", *METHODS.values(), "runs sent back"]
    scope = f"Mean regret of {r['seeds']} seeds, and that of the worst. Policy `{r['policy'][:12]}`."
    return f"{markdown.table(head, rows, 'llrrrr')}\n\n{scope}"


def cell(r: Mapping[str, Any], key: str) -> str:
    return f"{r[f'{key}.mean']:.3f}; {r[f'{key}.worst']:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(
        argv, "Fine-tuned encoders under the shipped policy.", OUT, PAGE, measure, render, lambda r: [*missed(r)]
    )


if __name__ == "__main__":
    sys.exit(main())
