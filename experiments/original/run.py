"""Run every cell of the plan: each pair of data set and model, scheduler, initial learning rate and seed."""

from __future__ import annotations

from dataclasses import asdict

from experiments.original.plan.config import load
from experiments.original.plan.paths import original_root
from experiments.original.trainings.cells import cells
from experiments.original.trainings.result_files import compute
from pipeline import tracking


def main() -> None:
    paths = original_root(__doc__)
    params = load(paths.root)
    with tracking.stage(paths, "run", asdict(params.plan) | {"training": asdict(params.training)}) as log:
        results = compute(cells(params, paths), paths.runs, params.training, "run")
        metrics = {
            "trainings": len(results), "diverged": sum(result["diverged"] for result in results),
            "train_hours": round(sum(result["train_runtime"] for result in results) / 3600, 3),
        }  # fmt: skip
        log.write(metrics, paths.run_metrics)
        log.metrics(metrics)


if __name__ == "__main__":
    main()
