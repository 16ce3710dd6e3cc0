"""The rate of the rival NAdamW with warm-up and cosine: one for all trainings, chosen on the training split.

    python -m benchmarks.nadamw_rate    # after benchmarks.spread, whose grids it finds in the cache; writes
                                        # benchmarks/results/nadamw_rate.json, its part of docs/benchmark.md, and the
                                        # rival's entry of pipeline/evaluation/calibrated.json

It trains the split's frozen tasks from every rate of RATES. The chosen rate has the lowest mean regret over regimes,
weighted by their shares in params.yaml. Keys: <rate>.mean, <rate>.<regime>, rate (the chosen one), tasks, seeds, quick
and torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks import command, spread
from pipeline.evaluation.methods.loops import Rival
from pipeline.evaluation.oracle import oracles
from pipeline.evaluation.rivals import CALIBRATED, NADAMW, nadamw_settings
from pipeline.reporting import markdown
from pipeline.workloads.base import REGIMES

OUT, PAGE = Path("benchmarks/results/nadamw_rate.json"), Path("docs/benchmark.md")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = 2


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    bench = replace(spread.bench("train", quick), seeds=SEEDS)
    _, runs = oracles(bench)
    rivals = [Rival("rival", NADAMW, rival=NADAMW, lr0=rate) for rate in RATES]
    runs += [run for task in bench.tasks for run in bench.runs(rivals, task)]
    rows = bench.with_regrets(bench.compute(runs, "nadamw"))
    mine = rows.query("kind == 'rival'")
    means = by_regime(mine, bench.shares)
    out = {f"{rate:g}.{name}": float(v) for name in means for rate, v in zip(means.index, means[name], strict=True)}
    facts = {"tasks": int(mine.task.nunique()), "seeds": SEEDS, "quick": quick, "torch": torch.__version__}
    return out | {"rate": RATES[int(means["mean"].to_numpy().argmin())]} | facts


def by_regime(rows: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """For each rate `lr0` the mean regret of each regime with tasks, and their `mean` by shares."""
    means = rows.groupby(["lr0", "regime", "task"]).regret.mean().groupby(["lr0", "regime"]).mean().unstack()
    weights = pd.Series(shares)[means.columns]
    return means.assign(mean=means @ weights / weights.sum())


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each rate."""
    columns = [name for name in (*REGIMES, "mean") if f"{RATES[0]:g}.{name}" in r]
    rows = [[f"{rate:g}", *(f"{r[f'{rate:g}.{name}']:.3f}" for name in columns)] for rate in RATES]
    table = markdown.table(["rate", *columns], rows, "r" * (len(columns) + 1))
    return f"{table}\n\nChosen: {r['rate']:g}, on {r['tasks']} tasks of the training split, {r['seeds']} seeds each."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The rate of NAdamW, chosen on the training split.")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where the figures go (default: {OUT})")
    parser.add_argument("--quick", action="store_true", help="one task, to see that it works; nothing is frozen")
    args = parser.parse_args(argv)
    results = measure(args.quick)
    command.write(results, render(results), args.out, PAGE if args.out == OUT else None)
    if not args.quick:
        frozen = json.loads(CALIBRATED.read_text(encoding="utf-8"))
        frozen[NADAMW] = nadamw_settings() | {"lr0": results["rate"]}
        CALIBRATED.write_text(json.dumps(frozen, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
