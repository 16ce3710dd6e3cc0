"""Summarise the runs: a row per training, the plan's tables, flat metrics."""

from __future__ import annotations

import json
from dataclasses import asdict

from experiments.original.pages import plan_tables, summary
from experiments.original.plan.config import load
from experiments.original.plan.paths import original_root
from pipeline import tracking

TOTALS = ("pairs", "pilot_at_or_below_best", "pilot_below_means")  # the figures that are of no pair alone


def main() -> None:
    paths = original_root(__doc__)
    params = load(paths.root)
    with tracking.stage(paths, "table", {"thresholds": params.plan.thresholds, "plan": asdict(params.plan)}) as log:
        results = [json.loads(path.read_text()) for path in sorted(paths.runs.glob("*.json"))]
        order = (
            {name: i for i, name in enumerate(params.plan.pairs)},
            {s: i for i, s in enumerate(params.plan.schedulers)},
        )
        results.sort(
            key=lambda r: (
                order[0][r["dataset"]], params.plan.pairs[r["dataset"]].index(r["model"]), r["epochs"],
                order[1][r["scheduler"]], r["learning_rate"], r["seed"],
            )
        )  # fmt: skip
        rows = summary.rows(results, params.plan.thresholds)
        by_pair = summary.summarise(rows)
        for path in (paths.rows, paths.results):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(paths.rows, compression="zstd")
        paths.results.write_text(plan_tables.document(by_pair) + "\n", encoding="utf-8")
        metrics = summary.flat(by_pair)
        log.write(metrics, paths.table_metrics)
        log.metrics({name: metrics[name] for name in TOTALS})
        log.artifact(paths.results)
        log.artifact(paths.rows)


if __name__ == "__main__":
    main()
