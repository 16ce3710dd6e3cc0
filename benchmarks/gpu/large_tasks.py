"""The benchmark's large tasks on a GPU: the policy, its controls and schedules.

The rivals are left out, for their loops train on the CPU alone; `benchmarks/large.py` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import large
from lrpilot import load_policy
from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluate import roster, summarise
from pipeline.evaluation.compare import compare, name_of
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.splits import tasks
from pipeline.reporting import markdown, scores
from pipeline.reporting.result_keys import POLICY, groups


def measure(quick: bool, device: str) -> dict[str, Any]:
    """All figures of the large tasks of the selection split, flat, as `pipeline/evaluate.py` has them. With `quick`, of
    one small task.
    """
    bench = replace(large.bench(large.SPLITS[0]), workers=engine("local", device=device), device=device)
    if quick:
        bench = replace(bench, tasks=tasks(["diabetes"], 1), seeds=2)
    rows = compare(bench, [method for method in large.methods() if isinstance(method, Learned)])
    fixed = {"benchmark": name_of(bench), "policy": load_policy("default").manifest.graph}
    split = bench.tasks[0].split
    return fixed | roster(bench, rows) | summarise(split, rows, bench.shares, load(Path()).evaluate.bootstrap)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each method, the lowest regret first, and where it was trained."""
    (split,) = groups(r)
    rows = []
    for score in scores.table(r, split):
        name = f"**{score.name}**" if score.group == POLICY else score.name
        rows.append([name, f"{score.mean:.3f}", f"{score.low:.3f} to {score.high:.3f}", f"{score.worst:.3f}"])
    table = markdown.table(["method", "mean regret", "95 %", "worst task"], rows)
    about = f"Policy `{r['policy'][:12]}`, benchmark `{r['benchmark']}`, trained on {r['device']}."
    return f"{table}\n\n{scores.scope(r, split)}. {about}"
