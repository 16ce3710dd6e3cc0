"""Record trainings under schedules and random actions, for the plan's agents to learn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from experiments.original.plan.config import load
from experiments.original.plan.paths import original_root
from experiments.original.trainings.recordings import recorded
from experiments.original.trainings.result_files import compute
from pipeline import tracking


def main() -> None:
    paths = original_root(__doc__)
    params = load(paths.root)
    with tracking.stage(paths, "record", asdict(params.record)) as log:
        results = compute(recorded(params, paths), paths.recordings, params.training, "record")
        kinds = Counter(result["scheduler"] for result in results)
        metrics = {
            "trainings": len(results), "decisions": sum("action" in row for r in results for row in r["curve"]),
            "diverged": sum(result["diverged"] for result in results),
            **{f"trainings.{kind}": count for kind, count in sorted(kinds.items())},
        }  # fmt: skip
        log.write(metrics, paths.record_metrics)
        log.metrics({name: metrics[name] for name in ("trainings", "decisions", "diverged")})


if __name__ == "__main__":
    main()
