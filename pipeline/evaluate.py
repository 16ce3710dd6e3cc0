"""Judge the policy on tasks it never saw, beside baselines, rivals and controls, with intervals.

Families belong to splits: "train" (recorded by the collection), "selection", "heldout". The policy is one frozen file
with no setting per task. What is run stands in `pipeline/evaluation/compare.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline import tracking
from pipeline.config import EvaluateConfig, load
from pipeline.engines import engine
from pipeline.evaluation import stats
from pipeline.evaluation.aggregates import judged, outcomes
from pipeline.evaluation.bench import Bench, name_of
from pipeline.evaluation.compare import calibrated, compare, contenders
from pipeline.evaluation.regrets import SCORES
from pipeline.evaluation.splits import tasks
from pipeline.paths import BENCHMARK_CACHE, parse_root


def bench(config: EvaluateConfig) -> Bench:
    """What the parameters ask for."""
    return Bench(
        tasks(config.families, config.tasks_per_family), config.seeds, config.tuning_seeds, config.learning_rates,
        engine("local", config.workers, device=config.device), BENCHMARK_CACHE, config.device,
    )  # fmt: skip


def per_method(rows: pd.DataFrame, score: str = "regret") -> Iterable[tuple[str, np.ndarray]]:
    """(group, regrets (tasks, seeds)) of what competes; a baseline's are means over its initial rates.

    Tasks that have no such regret, as one without error rates, are left out.
    """
    for group, part in judged(rows).groupby("group", sort=True):
        table = part.pivot_table(index="task", columns="seed", values=score, dropna=False)
        yield str(group), table.dropna().to_numpy()


def contrasts(regrets: Mapping[str, np.ndarray], bootstrap: int) -> dict[str, float]:
    """Flat figures of regrets (tasks, seeds) by method, and of what the policy's differ by."""
    rng, out, policy = np.random.default_rng(0), {}, regrets["policy"]
    for label, values in regrets.items():
        summary = stats.summary(values, n_resamples=bootstrap, rng=rng)
        out |= {f"{label}.{k}": round(v, 4) for k, v in summary.items()}
        if label != "policy":
            gap = stats.difference_estimate(policy, values, n_resamples=bootstrap, rng=rng)
            out |= {f"{label}.policy_minus": round(gap.value, 4), f"{label}.policy_minus_low": round(gap.low, 4),
                    f"{label}.policy_minus_high": round(gap.high, 4)}  # fmt: skip
            out[f"{label}.policy_wins"] = round(stats.share_won(policy, values), 4)
    return out


def summarise(rows: pd.DataFrame, bootstrap: int) -> dict[str, Any]:
    """Flat metrics of one split."""
    out: dict[str, Any] = contrasts(dict(per_method(rows)), bootstrap)
    by_family = judged(rows).groupby(["group", "family"]).regret.mean().groupby("group").max()
    out |= {f"{label}.worst_family": round(float(value), 4) for label, value in by_family.items()}
    for score in list(SCORES)[1:]:
        of_score = dict(per_method(rows, score))
        out |= {f"{label}.{score}": round(float(v.mean()), 4) for label, v in of_score.items() if v.size}
    for label, o in outcomes(judged(rows)).items():
        figures = {
            "median_error_gap": o.error_gap,
            "median_val_loss": o.val_loss,
            "target_share_of_steps": o.steps,
            "target_epochs": o.epochs,
            "target_reached": o.reached,
        }
        out |= {f"{label}.{k}": round(v, 4) for k, v in figures.items() if np.isfinite(v)}
        out[f"{label}.diverged"] = round(o.diverged * o.runs)
    for name, part in rows[rows.kind == "baseline"].groupby("method"):
        table = part.groupby(["task", "lr0"]).regret.mean().unstack().to_numpy()
        out[f"baseline.{name}.sensitivity"] = round(float(stats.sensitivity(table).mean()), 4)
    out["policy.sensitivity"] = 0.0  # the initial rate is no input of the pilot
    out["tasks"] = int(rows.task.nunique())
    return out


def main() -> None:
    paths = parse_root(__doc__)
    config = load(paths.root).evaluate
    with tracking.stage(paths, "evaluate", asdict(config)) as log:
        measured = bench(config)
        rows = compare(measured, contenders(paths.policy, paths.blind_policy))
        metrics: dict[str, Any] = {"benchmark": name_of(measured)}
        for optimizer, method in calibrated().items():
            metrics[f"calibrated.{optimizer}"] = f"{method.schedule} {method.lr0:g}"
        means = []
        for split, part in rows.groupby("split"):
            figures = summarise(part, config.bootstrap)
            metrics |= {f"{split}.{k}": v for k, v in figures.items()}
            means += [(split, k.removesuffix(".mean"), v) for k, v in figures.items() if k.endswith(".mean")]
        for path in (paths.evaluation, paths.regret_plot):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(paths.evaluation, compression="zstd")
        plot = pd.DataFrame(means, columns=["split", "method", "regret"])
        plot.to_csv(paths.regret_plot, index=False, lineterminator="\n")
        log.write(metrics, paths.evaluate_metrics)
        log.tags({"benchmark": metrics["benchmark"]})
        log.artifact(paths.evaluation)


if __name__ == "__main__":
    main()
