"""Large trainings, a quarter to three million weights: the shipped policy, the textbook's defaults and rivals.

    python -m benchmarks.large             # the selection split: half an hour, seconds from the cache; writes
                                           # benchmarks/results/large_selection.json and its part of docs/large.md
    python -m benchmarks.large --heldout   # the held-out split, which chooses nothing
    python -m benchmarks.large --oracles   # the oracles of both, which are frozen: two hours

The oracle is the best cosine or WSD over half decades, chosen on a seed of its own. Keys:
<split>_large.<group>.<figure>, as `pipeline/evaluate.py` writes them; policy, the hash of the shipped graph; benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import command, spread
from lrpilot import load_policy
from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluate import roster, summarise
from pipeline.evaluation import oracle
from pipeline.evaluation.aggregates import judged
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import compare, existing, name_of
from pipeline.evaluation.methods.loops import Rival
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.rivals import NADAMW
from pipeline.paths import BENCHMARK_CACHE, DEFAULT_MODEL
from pipeline.reporting import markdown, result_keys, scores
from pipeline.reporting.result_keys import groups

RESULTS, PAGE = Path("benchmarks/results"), Path("docs/large.md")
SPLITS = ("selection_large", "heldout_large")
SEEDS, TUNING_SEEDS = 3, 1  # a second one would double the cost of the oracles
SCHEDULES = ("cosine", "wsd")  # of the oracles
RIVALS = (NADAMW, "schedule_free", "schedule_free_high", "prodigy", "prodigy_cosine")


def bench(split: str) -> Benchmark:
    """All tasks of a split."""
    return Benchmark(
        spread.every_task(split), load(Path()).regimes.shares, SEEDS, TUNING_SEEDS, (), engine("local"), BENCHMARK_CACHE
    )


def methods() -> list[Method]:
    """The policy as the README shows it, its first level held, without guards, told less, and the rivals."""
    policy = existing(DEFAULT_MODEL / "policy.onnx")
    return [
        Learned("policy", "policy", policy, epochs=True),
        Learned("policy", "policy_steps", policy),
        Learned("control", "hold", policy, epochs=True, ablation="hold"),
        Learned("control", "unguarded", policy, epochs=True, guarded=False),
        *(Rival("rival", name, rival=name) for name in RIVALS),
    ]


def measure(split: str) -> dict[str, Any]:
    """All figures of a split, flat, and the regret of every task and method: <task>.<group>."""
    large = bench(split)
    rows = compare(large, methods())
    fixed = {"benchmark": name_of(large), "policy": load_policy("default").manifest.graph}
    figures = summarise(split, rows, large.shares, load(Path()).evaluate.bootstrap)
    for group, part in judged(rows).groupby("group"):
        most = {"guard_acts": int(part.guard_acts.max()), "restarts": int(part.restarts.max())}
        figures |= result_keys.encode(split, str(group), most)
    return fixed | roster(large, rows) | figures


def freeze_oracles() -> None:
    """Train the grids of tasks without a valid entry in oracles.json, one by one, and write the winners there."""
    for split in SPLITS:
        large = bench(split)
        done = oracle.frozen_winners(large.tasks)
        for task in large.tasks:
            if task.name not in done:
                alone = replace(large, tasks=[task])
                tuned = oracle.train_grids(alone, alone.tasks, SCHEDULES)
                oracle.freeze({task: oracle.winners(tuned, alone.facts())[task.name]})


def render(r: Mapping[str, Any], split: str) -> str:
    """Markdown: a row of each method."""
    of, rows = groups(r)[split], []
    for group in sorted(of, key=lambda group: of[group]["mean"]):
        figures = of[group]
        cells = [f"{figures[key]:.3f}" for key in ("mean", "low", "high", "worst")]
        acts = [str(figures[key]) for key in ("guard_acts", "restarts")]
        rows.append([scores.NAMES.get(group, group), cells[0], f"{cells[1]} to {cells[2]}", cells[3], *acts])
    head = ["method", "mean regret", "95 %", "worst task", "most guard acts", "most restarts"]
    table = markdown.table(head, rows, "lrrrrr")
    return f"{table}\n\n{scores.scope(r, split)}. Policy `{r['policy'][:12]}`, benchmark `{r['benchmark']}`."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Large trainings.")
    parser.add_argument("--heldout", action="store_true", help="the held-out split in place of the selection split")
    parser.add_argument(
        "--oracles", action="store_true", help="train the grids that oracles.json lacks, and freeze their winners"
    )
    args = parser.parse_args(argv)
    if args.oracles:
        freeze_oracles()
        return 0
    split = SPLITS[args.heldout]
    results = measure(split)
    name = "large_heldout" if args.heldout else "large_selection"
    command.write(results, render(results, split), RESULTS / f"{name}.json", PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
