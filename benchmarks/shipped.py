"""The shipped policy on the selection split, by what it is told, with its later moves and without.

    python -m benchmarks.shipped          # a quarter of an hour, seconds from the cache; writes
                                          # benchmarks/results/shipped.json and its part of docs/benchmark.md
    python -m benchmarks.shipped --check  # and fails if holding the first level is better

These figures choose what a release ships; the held-out split chooses nothing. Keys: selection.<group>.<figure>, as
`pipeline/evaluate.py` writes them; policy, the hash of the shipped graph; benchmark.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import command, spread
from benchmarks.lr_benchmark_page import regimes
from lrpilot import load_policy
from pipeline.config import load
from pipeline.evaluate import roster, summarise
from pipeline.evaluation.compare import compare, existing, name_of
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.policies import Learned
from pipeline.paths import DEFAULT_MODEL
from pipeline.reporting import scores
from pipeline.reporting.result_keys import ResultKey

OUT, PAGE = Path("benchmarks/results/shipped.json"), Path("docs/benchmark.md")
SPLIT = "selection"


def methods() -> list[Method]:
    """The policy, and its first level held: as the README shows it, and told only the loss and the number of steps."""
    policy = existing(DEFAULT_MODEL / "policy.onnx")
    return [
        Learned("policy", "policy", policy, epochs=True),
        Learned("policy", "policy_val", policy, epochs=True, validation=True),
        Learned("policy", "policy_steps", policy),
        Learned("policy", "policy_val_steps", policy, validation=True),
        Learned("control", "hold", policy, epochs=True, ablation="hold"),
        Learned("control", "unguarded", policy, epochs=True, guarded=False),
        Learned("control", "hold_steps", policy, ablation="hold"),
    ]


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    bench = spread.bench(SPLIT, quick)
    rows = compare(bench, methods())
    fixed = {"quick": quick, "benchmark": name_of(bench), "policy": load_policy("default").manifest.graph}
    return fixed | roster(bench, rows) | summarise(SPLIT, rows, bench.shares, load(Path()).evaluate.bootstrap)


def missed(r: Mapping[str, Any]) -> list[str]:
    """A message if the policy's first level, held, is better than the policy."""
    gap = {end: r[ResultKey(SPLIT, scores.HOLD, f"policy_minus{end}").encode()] for end in ("", "_low", "_high")}
    if gap["_low"] <= 0:
        return []
    return [f"holding wins: the policy's regret is {gap['']:.3f} higher ({gap['_low']:.3f} to {gap['_high']:.3f})"]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each method, a column of each regime."""
    return (
        f"{regimes(r, SPLIT)}\n\n{scores.scope(r, SPLIT)}. Policy `{r['policy'][:12]}`, benchmark `{r['benchmark']}`."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "The shipped policy on the selection split.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
