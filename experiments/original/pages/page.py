"""The original experiment at a size for two cores: its tables, from the runs of `make repro PROFILE=plan-mid`.

    python -m experiments.original.pages.page    # writes experiments/results/original.json and its page in docs

`make original` trains, and then calls it. Keys of the file: `pairs`, as `summary.py` beside it computes them,
`policy` (the graph that the pilots followed), and where and how long it ran.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks import command
from benchmarks.environment import processor
from experiments.original.pages import plan_tables, summary
from experiments.original.plan.paths import OriginalPaths
from lrpilot import load_policy

OUT, PAGE = Path("experiments/results/original.json"), Path("docs/original-experiment.md")
ROOT = Path("profiles/plan-mid")


def measure(root: Path) -> dict[str, Any]:
    """The figures of a profile that has run. Raises SystemExit if it has not."""
    paths = OriginalPaths(root)
    if not paths.rows.is_file():
        raise SystemExit(f"{paths.rows}: not there; run `make repro PROFILE={root.name}`, or `make original`")
    rows = pd.read_parquet(paths.rows)
    recorded = json.loads(paths.record_metrics.read_text(encoding="utf-8"))
    return {
        "policy": load_policy("default").manifest.graph, "trainings": len(rows),
        "torch": torch.__version__, "processor": processor(), "device": "cpu",
        "recorded": recorded["trainings"], "train_hours": round(float(rows.train_runtime.sum()) / 3600, 2),
        "steps_min": int(rows.steps.min()), "steps_max": int(rows.steps.max()),
        "pairs": summary.summarise(rows),
    }  # fmt: skip


def render(results: Mapping[str, Any]) -> str:
    """The part of the page."""
    last = (
        f"{results['trainings']} trainings of {results['steps_min']} to {results['steps_max']} optimizer steps, "
        f"{results['train_hours']:g} hours of one core, and {results['recorded']} more that the agents learned from; "
        f"the pilots follow graph `{results['policy'][:12]}`. Measured with torch {results['torch']}, one thread per "
        f"training, {results['processor']}. On a GPU: not measured."
    )
    return f"{plan_tables.document(results['pairs'], '###')}\n\n{last}"


def main() -> int:
    results = measure(ROOT)
    command.write(results, render(results), OUT, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
