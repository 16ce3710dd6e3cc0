"""Evaluate the policy on tasks it never saw, next to baselines, rivals and controls, with intervals.

Families belong to splits: "train" (recorded by the collection), "selection", "heldout". The policy is one frozen file
with no setting per task. `pipeline/evaluation/compare.py` defines what is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline import tracking
from pipeline.config import Params, arguments
from pipeline.engines import engine
from pipeline.evaluation import aggregates, stats
from pipeline.evaluation.aggregates import SCORES, judged, left_out, outcomes
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import calibrated, compare, contenders, name_of
from pipeline.evaluation.splits import tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import result_keys
from pipeline.reporting.headline import BY_REGIME, headline
from pipeline.reporting.result_keys import POLICY, ResultKey


def bench(params: Params) -> Benchmark:
    """The bench that the parameters describe."""
    config = params.evaluate
    return Benchmark(
        tasks(config.families, config.tasks_per_family), params.regimes.shares, config.seeds, config.tuning_seeds,
        config.learning_rates, engine("local", config.workers, device=config.device), BENCHMARK_CACHE, config.device,
    )  # fmt: skip


def per_method(rows: pd.DataFrame, score: str = "regret") -> Iterator[tuple[str, pd.DataFrame]]:
    """(group, regrets with a row per task and a column per seed) of what competes; a baseline's are means over its
    rates.

    Tasks without such a regret, for example without error rates, are left out, with a message.
    """
    without = sorted(rows.task[rows[score].isna()].unique())
    if without:
        print(f"evaluate: no {score} for {', '.join(without)}: no error rate, or no room to improve it", flush=True)
    for group, part in judged(rows.loc[~rows.task.isin(without)]).groupby("group", sort=True):
        yield str(group), part.pivot_table(index="task", columns="seed", values=score)


def contrasts(
    split: str,
    regrets: Mapping[str, pd.DataFrame],
    regimes: Mapping[str, str],
    shares: Mapping[str, float],
    bootstrap: int,
) -> dict[str, float]:
    """Flat figures of regrets (tasks, seeds) by method, and of their differences from the policy's; `regimes` are by
    task.

    `mean`, `policy_minus` and `policy_wins` weight every regime by its share; <regime>_mean and <regime>_policy_minus
    are those of one regime's tasks.
    """
    rng, out = np.random.default_rng(0), {}
    of_task = [regimes[task] for task in regrets[POLICY].index]
    policy, weights = regrets[POLICY].to_numpy(), stats.regime_weights(of_task, shares)
    parts = {regime: np.array(of_task) == regime for regime in shares if regime in of_task}
    for label, table in regrets.items():
        values = table.to_numpy()
        figures = stats.summary(values, weights=weights, n_resamples=bootstrap, rng=rng)
        for regime, mine in parts.items():
            mean = stats.mean_estimate(values[mine], n_resamples=bootstrap, rng=rng)
            figures |= {f"{regime}_mean": mean.value, f"{regime}_low": mean.low, f"{regime}_high": mean.high}
        if label != POLICY:
            gap = stats.difference_estimate(policy, values, weights=weights, n_resamples=bootstrap, rng=rng)
            figures |= {"policy_minus": gap.value, "policy_minus_low": gap.low, "policy_minus_high": gap.high,
                        "policy_wins": stats.share_won(policy, values, weights=weights),
                        "tasks_lost": float((policy.mean(axis=1) > values.mean(axis=1)).mean())}  # fmt: skip
            for regime, mine in parts.items():
                gap = stats.difference_estimate(policy[mine], values[mine], n_resamples=bootstrap, rng=rng)
                minus = {"": gap.value, "_low": gap.low, "_high": gap.high}
                figures |= {f"{regime}_policy_minus{end}": value for end, value in minus.items()}
        out |= result_keys.encode(split, label, {k: round(v, 4) for k, v in figures.items()})
    return out


def summarise(split: str, rows: pd.DataFrame, shares: Mapping[str, float], bootstrap: int) -> dict[str, Any]:
    """Flat metrics of one split, from its `rows`."""
    regimes = aggregates.regimes(rows)
    out: dict[str, Any] = contrasts(split, dict(per_method(rows)), regimes, shares, bootstrap)
    by_family = judged(rows).groupby(["group", "family"]).regret.mean().groupby("group").max()
    for label, value in by_family.items():
        out[ResultKey(split, str(label), "worst_family").encode()] = round(float(value), 4)
    for score in list(SCORES)[1:]:
        for label, table in per_method(rows, score):
            if len(table):
                weights = stats.regime_weights([regimes[task] for task in table.index], shares)
                mean = stats.mean_over_tasks(table.to_numpy().mean(axis=1), weights)
                out[ResultKey(split, label, score).encode()] = round(float(mean), 4)
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
    said: dict[str, Any] = {
        "tasks": int(rows.task.nunique()),
        "seeds": int(policy.seed.nunique()),
        "worst_task": aggregates.labels(rows)[policy.groupby("task").regret.mean().idxmax()],
    }
    of_task = [*regimes.values()]
    if without := [regime for regime in shares if regime not in of_task]:
        print(f"evaluate: {split} has no task of {', '.join(without)}: the other shares are scaled up", flush=True)
    weights = stats.regime_weights(of_task, shares)
    for regime in (regime for regime in shares if regime in of_task):
        share = weights[np.array(of_task) == regime].sum()
        said |= {f"tasks.{regime}": of_task.count(regime), f"share.{regime}": round(float(share), 4)}
    return out | {result_keys.of_split(split, what): value for what, value in said.items()}


def roster(measured: Benchmark, rows: pd.DataFrame) -> dict[str, Any]:
    """For every split how many tasks were asked for, and why tasks are missing in the rows."""
    known, out = measured.facts(), dict[str, Any]()
    for split, part in known.groupby("split"):
        label = aggregates.labels(part.reset_index())
        out[result_keys.of_split(str(split), "configured")] = len(part)
        for task, reason in left_out(part.index, rows).items():
            out[result_keys.of_split(str(split), f"left_out.{task}")] = f"{label[task]}: {reason}"
    return out


def in_words(summed_up: Mapping[str, Any]) -> str:
    """The headline of an evaluation as a sentence for a run's description."""
    figures = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in summed_up.items()}
    return (
        "Mean regret of the policy over the regimes by their shares {policy} ({policy_low} to {policy_high}, 95 %), on "
        "{tasks} tasks of the {split} families, {seeds} seeds each; worst task {worst}: {worst_task}."
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
        measured = bench(params)
        rows = compare(measured, contenders(paths.policy, paths.blind_policy))
        metrics: dict[str, Any] = {result_keys.BENCHMARK: name_of(measured)}
        for optimizer, method in calibrated().items():
            metrics[f"calibrated.{optimizer}"] = f"{method.schedule} {method.lr0:g}"
        means = []
        metrics |= roster(measured, rows)
        for split, part in rows.groupby("split"):
            metrics |= summarise(str(split), part, measured.shares, config.bootstrap)
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
        log.metrics({name: value for name, value in numbers.items() if name not in BY_REGIME})  # MLflow draws each
        log.describe(in_words(summed_up))
        log.table(table(metrics), "figures")
        log.tags({"benchmark": metrics["benchmark"]})
        log.artifact(paths.evaluation)


if __name__ == "__main__":
    main()
