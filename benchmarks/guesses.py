"""How a first guess of the learning rate changes the regret, by how far it is off.

    python -m benchmarks.guesses           # half an hour, seconds from the cache; writes
                                           # benchmarks/results/guesses.json and its part of docs/benchmark.md
    python -m benchmarks.guesses --check   # and fails where a bar is missed

In every task of the ordinary regime the shipped policy gets the rate of the task's oracle, times 10^d, as a first
guess. A cosine starts from the same rate. The widths of the guess were chosen on recorded tasks
(docs/experiments.md). Keys: <split>.<guess | cosine>.<d>.<figure>. Figures are mean; for guesses gap,
gap_low, gap_high (minus the policy without a guess, paired); and, where there is a cosine, ahead, ahead_low, ahead_high
(minus the cosine). Also <split>.none.mean and <split>.tasks, seeds, policy, quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command, spread
from lrpilot import load_policy
from pipeline.config import load
from pipeline.evaluation import stats
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import existing
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.methods.schedules import Scheduled
from pipeline.evaluation.oracle import oracles
from pipeline.paths import DEFAULT_MODEL
from pipeline.reporting import markdown, verdict
from pipeline.workloads.families import family

OUT, PAGE = Path("benchmarks/results/guesses.json"), Path("docs/benchmark.md")
SPLITS = ("selection", "heldout")
REGIME = "ordinary"
OFF = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # decades
NEAR = (-0.5, 0.0, 0.5)  # at which a cosine starts from the guess
SEEDS = 3
SCORE = "test_loss"  # whose oracle's rate is the one to guess
BARS = {  # of the held-out split: regret at a right guess, gap at others, gap far off, and to the cosine
    "right": 0.03, "near": 0.0, "far": 0.03, "cosine": 0.02,
}  # fmt: skip


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    out: dict[str, Any] = {"quick": quick, "policy": load_policy("default").manifest.graph}
    for split in SPLITS:
        every = spread.bench(split, quick)
        chosen = [task for task in every.tasks if quick or family(task.family).regime == REGIME]
        bench = replace(every, tasks=chosen, seeds=min(every.seeds, SEEDS))
        out |= {"seeds": bench.seeds} | figures(split, judged(bench), load(Path()).evaluate.bootstrap)
    return out


def judged(bench: Benchmark) -> pd.DataFrame:
    """All runs, with their regrets."""
    _, runs = oracles(bench)
    rates = {run.task: run.method.initial_rate for run in runs if run.method.name == SCORE}
    for task, rate in rates.items():
        runs += bench.runs(methods(float(rate or 0.0)), task)
    return bench.with_regrets(bench.compute(runs, "guesses"))


def methods(rate: float) -> Iterator[Method]:
    """The methods of a task whose oracle has this rate."""
    policy = existing(DEFAULT_MODEL / "policy.onnx")
    yield Learned("policy", "none", policy, epochs=True)
    for off in OFF:
        yield Learned("policy", f"guess.{off:g}", policy, epochs=True, guess=rate * 10**off)
    for off in NEAR:
        yield Scheduled("baseline", f"cosine.{off:g}", schedule="cosine", lr0=rate * 10**off)


def figures(split: str, rows: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """The figures of one split, flat. All tasks count alike."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    tables = {
        str(name): part.pivot(index="task", columns="seed", values="regret").to_numpy()
        for name, part in rows[rows.kind.isin(["policy", "baseline"])].groupby("method")
    }

    def gap(key: str, mine: np.ndarray, base: np.ndarray) -> None:
        found = stats.difference_estimate(mine, base, n_resamples=resamples, rng=rng)
        out.update({key: found.value, f"{key}_low": found.low, f"{key}_high": found.high})

    for name, table in tables.items():
        out[f"{split}.{name}.mean"] = float(table.mean())
    for off in OFF:
        mine = tables[f"guess.{off:g}"]
        gap(f"{split}.guess.{off:g}.gap", mine, tables["none"])
        if off in NEAR:
            gap(f"{split}.guess.{off:g}.ahead", mine, tables[f"cosine.{off:g}"])
    return out | {f"{split}.tasks": int(rows.task.nunique())}


def missed(r: Mapping[str, Any]) -> Iterator[str]:
    """A message for every bar that is missed on the held-out split."""
    of = {key.removeprefix("heldout."): value for key, value in r.items() if key.startswith("heldout.")}
    if of["guess.0.mean"] > BARS["right"]:
        yield f"a right guess: regret {of['guess.0.mean']:.3f}, want at most {BARS['right']}"
    for off in OFF:
        gap = of[f"guess.{off:g}.gap"]
        most = BARS["far"] if abs(off) == max(OFF) else BARS["near"]
        if off and gap > most:
            yield f"{off:+g} decades off: {gap:+.3f} beside no guess, want at most {most:+g}"
        if off in NEAR and (high := of[f"guess.{off:g}.ahead_high"]) > BARS["cosine"]:
            yield f"{off:+g} decades off: up to {high:+.3f} beside the cosine, want at most {BARS['cosine']:+g}"


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each guess, columns of each split."""
    columns = ("regret", "minus no guess (95 %)", "cosine from the guess", "minus the cosine (95 %)")
    heads = ["guess off by", *(f"{split}: {column}" for split in SPLITS for column in columns)]
    rows = [
        ["no guess", *(cell for split in SPLITS for cell in (verdict.number(r[f"{split}.none.mean"]), "–", "–", "–"))]
    ]
    for off in OFF:
        cells = [cell for split in SPLITS for cell in _cells(r, split, off)]
        rows.append([f"{off:+g} decades" if off else "0 (right guess)", *cells])
    tasks = ", ".join(f"{split} {r[f'{split}.tasks']}" for split in SPLITS)
    return f"{markdown.table(heads, rows)}\n\nTasks: {tasks}; {r['seeds']} seeds. Policy `{r['policy'][:12]}`."


def _cells(r: Mapping[str, Any], split: str, off: float) -> list[str]:
    key = f"{split}.guess.{off:g}"

    def difference(name: str) -> str:
        return verdict.difference(*(r[f"{key}.{name}{end}"] for end in ("", "_low", "_high")))

    beside = ["–", "–"]
    if off in NEAR:
        beside = [verdict.number(r[f"{split}.cosine.{off:g}.mean"]), difference("ahead")]
    return [verdict.number(r[f"{key}.mean"]), difference("gap"), *beside]


def main(argv: list[str] | None = None) -> int:
    what = "What a first guess of the learning rate changes."
    return command.run(argv, what, OUT, PAGE, measure, render, lambda r: [*missed(r)])


if __name__ == "__main__":
    sys.exit(main())
