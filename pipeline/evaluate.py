"""Judge the policy on tasks it never saw, beside baselines, rivals and controls, with intervals.

Families belong to splits: "train" (recorded by the collection), "selection", "heldout". The policy is one frozen file
with no setting per task. What is run stands in `pipeline/evaluation/compare.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline import tracking
from pipeline.config import EvaluateConfig, arguments
from pipeline.engines import engine
from pipeline.evaluation import labels, stats
from pipeline.evaluation.aggregates import judged, outcomes
from pipeline.evaluation.bench import Bench, name_of
from pipeline.evaluation.compare import calibrated, compare, contenders
from pipeline.evaluation.regrets import SCORES, left_out
from pipeline.evaluation.splits import tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import result_keys
from pipeline.reporting.headline import headline
from pipeline.reporting.result_keys import POLICY, ResultKey


def bench(config: EvaluateConfig) -> Bench:
    """What the parameters ask for."""
    return Bench(
        tasks(config.families, config.tasks_per_family), config.seeds, config.tuning_seeds, config.learning_rates,
        engine("local", config.workers, device=config.device), BENCHMARK_CACHE, config.device,
    )  # fmt: skip


def per_method(rows: pd.DataFrame, score: str = "regret") -> Iterator[tuple[str, np.ndarray]]:
    """(group, regrets (tasks, seeds)) of what competes; a baseline's are means over its initial rates.

    Tasks that have no such regret, as those without error rates, are left out, with a message.
    """
    without = sorted(rows.task[rows[score].isna()].unique())
    if without:
        print(f"evaluate: {score} is not of {', '.join(without)}: no error rate, or one without room", flush=True)
    for group, part in judged(rows.loc[~rows.task.isin(without)]).groupby("group", sort=True):
        yield str(group), part.pivot_table(index="task", columns="seed", values=score).to_numpy()


def contrasts(split: str, regrets: Mapping[str, np.ndarray], bootstrap: int) -> dict[str, float]:
    """Flat figures of regrets (tasks, seeds) by method, and of what the policy's differ by."""
    rng, out, policy = np.random.default_rng(0), {}, regrets[POLICY]
    for label, values in regrets.items():
        figures = stats.summary(values, n_resamples=bootstrap, rng=rng)
        if label != POLICY:
            gap = stats.difference_estimate(policy, values, n_resamples=bootstrap, rng=rng)
            figures |= {"policy_minus": gap.value, "policy_minus_low": gap.low, "policy_minus_high": gap.high,
                        "policy_wins": stats.share_won(policy, values),
                        "tasks_lost": float((policy.mean(axis=1) > values.mean(axis=1)).mean())}  # fmt: skip
        out |= result_keys.encode(split, label, {k: round(v, 4) for k, v in figures.items()})
    return out


def summarise(split: str, rows: pd.DataFrame, bootstrap: int) -> dict[str, Any]:
    """Flat metrics of one split, of which `rows` are."""
    out: dict[str, Any] = contrasts(split, dict(per_method(rows)), bootstrap)
    by_family = judged(rows).groupby(["group", "family"]).regret.mean().groupby("group").max()
    for label, value in by_family.items():
        out[ResultKey(split, str(label), "worst_family").encode()] = round(float(value), 4)
    for score in list(SCORES)[1:]:
        for label, values in per_method(rows, score):
            if values.size:
                out[ResultKey(split, label, score).encode()] = round(float(values.mean()), 4)
    for label, o in outcomes(judged(rows)).items():
        figures = {
            "median_error_gap": o.error_gap,
            "median_val_loss": o.val_loss,
            "target_share_of_steps": o.steps,
            "target_epochs": o.epochs,
            "target_reached": o.reached,
        }
        finite = {k: round(v, 4) for k, v in figures.items() if np.isfinite(v)}
        out |= result_keys.encode(split, label, finite | {"diverged": round(o.diverged * o.runs)})
    for name, part in rows[rows.kind == "baseline"].groupby("method"):
        table = part.groupby(["task", "lr0"]).regret.mean().unstack().to_numpy()
        spread = round(float(stats.sensitivity(table).mean()), 4)
        out[ResultKey(split, f"baseline.{name}", "sensitivity").encode()] = spread
    # the initial rate is no input of the pilot
    out[ResultKey(split, POLICY, "sensitivity").encode()] = 0.0
    policy = rows[(rows.kind == "policy") & (rows.method == POLICY)]
    said = {
        "tasks": int(rows.task.nunique()),
        "seeds": int(policy.seed.nunique()),
        "worst_task": labels.of_runs(rows)[policy.groupby("task").regret.mean().idxmax()],
    }
    return out | {result_keys.of_split(split, what): value for what, value in said.items()}


def roster(measured: Bench, rows: pd.DataFrame) -> dict[str, Any]:
    """Of every split how many tasks were asked for, and why the rows are not of all of them."""
    known, out = measured.facts(), dict[str, Any]()
    for split, part in known.groupby("split"):
        label = labels.labels(part)
        out[result_keys.of_split(str(split), "configured")] = len(part)
        for task, reason in left_out(part.index, rows).items():
            out[result_keys.of_split(str(split), f"left_out.{task}")] = f"{label[task]}: {reason}"
    return out


def in_words(summed_up: Mapping[str, Any]) -> str:
    """The headline of an evaluation as a sentence of a run's description."""
    figures = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in summed_up.items()}
    return (
        "Mean regret of the policy {policy} ({policy_low} to {policy_high}, 95 %) on {tasks} tasks of the {split} "
        "families, {seeds} seeds each; worst task {worst}: {worst_task}."
    ).format_map(figures)


def table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """All figures of the methods: a row per split and method, a column per statistic."""
    by_split = result_keys.groups(metrics)
    rows = [
        {"split": split, "method": group, **figures}
        for split, by_group in by_split.items()
        for group, figures in by_group.items()
    ]
    return pd.DataFrame(rows).sort_values(["split", "mean"])


def main() -> None:
    paths, params = arguments(__doc__)
    config = params.evaluate
    with tracking.stage(paths, "evaluate", asdict(config)) as log:
        measured = bench(config)
        rows = compare(measured, contenders(paths.policy, paths.blind_policy))
        metrics: dict[str, Any] = {result_keys.BENCHMARK: name_of(measured)}
        for optimizer, method in calibrated().items():
            metrics[f"calibrated.{optimizer}"] = f"{method.schedule} {method.lr0:g}"
        means = []
        metrics |= roster(measured, rows)
        for split, part in rows.groupby("split"):
            metrics |= summarise(str(split), part, config.bootstrap)
        for split, by_group in result_keys.groups(metrics).items():
            means += [(split, group, figures["mean"]) for group, figures in by_group.items()]
        for path in (paths.evaluation, paths.regret_plot):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(paths.evaluation, compression="zstd")
        plot = pd.DataFrame(means, columns=["split", "method", "regret"])
        plot.to_csv(paths.regret_plot, index=False, lineterminator="\n")
        log.write(metrics, paths.evaluate_metrics)
        summed_up = headline(metrics, rows)
        numbers = {name: value for name, value in summed_up.items() if isinstance(value, float)}
        log.write(numbers, paths.headline)
        log.metrics(numbers)
        log.describe(in_words(summed_up))
        log.table(table(metrics), "figures")
        log.tags({"benchmark": metrics["benchmark"]})
        log.artifact(paths.evaluation)


if __name__ == "__main__":
    main()
