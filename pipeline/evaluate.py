"""Judge the policy on tasks it never saw, beside baselines, rivals and controls, with intervals.

Families belong to splits: "train" (recorded by the collection; their tasks also choose the calibrated schedule),
"selection", "heldout". The policy is one frozen file with no setting per task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline import stats, tracking
from pipeline.benchmark import (
    HALF_DECADES,
    MEMBERS,
    SCHEDULES,
    Job,
    Method,
    Task,
    exists,
    grid,
    initial_losses,
    run,
)
from pipeline.config import EvaluateConfig, load
from pipeline.engines import Engine, engine, progress, results
from pipeline.outcomes import at_initial_rates, outcomes, with_groups
from pipeline.paths import Paths, parse_root
from pipeline.workloads.registry import family

CALIBRATION_SEEDS = 2
TARGET = 0.1  # steps to target: share of the oracle's gain that may still be missing
RIVALS = (Method("rival", "finder_steepest"), Method("rival", "finder_tenth"))


def tasks(families: Iterable[str], per_family: int, seed: int) -> list[Task]:
    """The frozen tasks of some families: each family's depend on its name, the count and the seed alone."""
    out = []
    for name in families:
        digest = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4])
        seeds = np.random.default_rng(digest).integers(2**31, size=per_family)
        out += [Task(family(name).split, name, int(s)) for s in seeds]
    return out


def jobs(task: Task, methods: Sequence[Method], n_seeds: int, device: str) -> list[Job]:
    """The grid in slices that fit a population; every other method alone."""
    seeds = tuple(range(n_seeds))
    per_job = max(MEMBERS // n_seeds, 1)
    scheduled = [m for m in methods if m.lr0 is not None]
    slices = [tuple(scheduled[i : i + per_job]) for i in range(0, len(scheduled), per_job)]
    return [Job(task, part, seeds, device) for part in (*slices, *((m,) for m in methods if m.lr0 is None))]


def compute(work: list[Job], workers: Engine, what: str) -> pd.DataFrame:
    """Rows of all jobs, in a fixed order."""
    total = sum(len(j.methods) * len(j.seeds) for j in work)
    parts = list(progress(results(workers.imap_unordered(run, work)), total, what, len, "runs"))
    return pd.concat(parts).sort_values(["split", "task", "kind", "method", "lr0", "seed"], ignore_index=True)


def add_regret(rows: pd.DataFrame, initial: dict[str, float]) -> pd.DataFrame:
    """Add oracle, regret (test loss), error regret and steps to target; tasks without room for regret are left out."""
    kept = []
    for name, part in rows.groupby("task", sort=True):
        grid_loss = _matrix(part[part.kind == "baseline"], "test_loss")
        oracle = stats.leave_one_seed_out(grid_loss, initial[str(name)])
        if not oracle.loss < initial[str(name)]:
            print(f"evaluate: {name} left out: no tuned training improves on its start", flush=True)
            continue
        regret = stats.normalised_regret(part.test_loss, oracle.loss, initial[str(name)])
        best = _matrix(part[part.kind == "baseline"], "val_loss")[oracle.chosen, np.arange(len(oracle.chosen))].mean()
        target = best + TARGET * (initial[str(name)] - best)
        reached = stats.steps_to_threshold(part.milestones.iloc[0], np.stack(part.val_curve.to_list()), target)
        best_error = _matrix(part[part.kind == "baseline"], "test_error")[oracle.chosen, np.arange(len(oracle.chosen))]
        kept.append(part.assign(
            oracle_loss=oracle.loss, initial_loss=initial[str(name)], regret=regret, steps_to_target=reached,
            epochs_to_target=reached / part.steps_per_epoch, error_gap=part.test_error - best_error.mean(),
        ))  # fmt: skip
    return pd.concat(kept, ignore_index=True)


def _matrix(part: pd.DataFrame, value: str) -> np.ndarray:
    """(configurations, seeds) of `value`."""
    return part.pivot_table(index=["method", "lr0"], columns="seed", values=value, dropna=False, sort=True).to_numpy()


def calibrated(rows: pd.DataFrame) -> dict[str, Method]:
    """The schedule and rate that is best on average over the tasks of `rows`, per optimizer."""
    base = rows[rows.kind == "baseline"]
    mean = base.groupby(["optimizer", "method", "lr0"]).regret.mean().reset_index()
    # A rate that only some tasks' grids hold is no default for all of them.
    complete = base.groupby(["optimizer", "method", "lr0"]).task.nunique().reset_index(name="n")
    mean = mean.merge(complete).merge(base.groupby("optimizer").task.nunique().reset_index(name="all"))
    best = mean[mean.n == mean["all"]].sort_values("regret").groupby("optimizer").first()
    return {str(o): Method("baseline", str(r.method), float(r.lr0)) for o, r in best.iterrows()}


def mean_curves(rows: pd.DataFrame) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """log10 of the policy's learning rate, averaged over its runs, by optimizer.

    A probe is rolled back, so its rates are none of the training's: the first rate after it stands in their place.
    """
    part = rows[rows.kind == "policy"]
    curves = {str(o): [] for o in part.optimizer.unique()}
    for optimizer, probed, curve in zip(part.optimizer, part.probe_steps / part.n_steps, part.lr_curve, strict=True):
        log_lr = np.log10(np.maximum(np.asarray(curve), 1e-12))
        after = int(np.ceil(probed * (len(log_lr) - 1)))
        log_lr[:after] = log_lr[after]
        curves[str(optimizer)].append(log_lr)
    return tuple((optimizer, tuple(np.mean(found, axis=0))) for optimizer, found in sorted(curves.items()))


def per_method(rows: pd.DataFrame, lr0s: Sequence[float]) -> Iterable[tuple[str, np.ndarray]]:
    """("kind.name", regrets (tasks, seeds)); a baseline's are means over the initial rates `lr0s`."""
    for (kind, name), part in at_initial_rates(rows, lr0s).groupby(["kind", "method"], sort=True):
        table = part.groupby(["task", "seed"]).regret.mean().unstack()
        yield (str(kind) if kind == name else f"{kind}.{name}"), table.to_numpy()


def summarise(rows: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Flat metrics of one split."""
    rng, out = np.random.default_rng(config.seed), {}
    regrets = dict(per_method(rows, config.learning_rates))
    policy = regrets["policy"]
    for name, values in regrets.items():
        label = name.removeprefix("policy.") if name != "policy" else name
        summary = stats.summary(values, n_resamples=config.bootstrap, rng=rng)
        out |= {f"{label}.{k}": round(v, 4) for k, v in summary.items()}
        if name != "policy":
            gap = stats.difference_estimate(policy, values, n_resamples=config.bootstrap, rng=rng)
            out |= {f"{label}.policy_minus": round(gap.value, 4), f"{label}.policy_minus_low": round(gap.low, 4),
                    f"{label}.policy_minus_high": round(gap.high, 4)}  # fmt: skip
            out[f"{label}.policy_wins"] = round(stats.share_won(policy, values), 4)
    for label, o in outcomes(with_groups(at_initial_rates(rows, config.learning_rates))).items():
        figures = {
            "median_error_gap": o.error_gap,
            "median_val_loss": o.val_loss,
            "target_share_of_steps": o.steps,
            "target_epochs": o.epochs,
            "target_reached": o.reached,
        }
        out |= {f"{label}.{k}": round(v, 4) for k, v in figures.items() if np.isfinite(v)}
        out[f"{label}.diverged"] = round(o.diverged * o.runs)
    base = rows[(rows.kind == "baseline") & rows.lr0.isin(config.learning_rates)]
    for name, part in base.groupby("method"):
        table = part.groupby(["task", "lr0"]).regret.mean().unstack().to_numpy()
        out[f"baseline.{name}.sensitivity"] = round(float(stats.sensitivity(table).mean()), 4)
    out["policy.sensitivity"] = 0.0  # the initial rate is no input of the pilot
    out["tasks"] = int(rows.task.nunique())
    return out


def compare(
    all_tasks: list[Task], paths: Paths, config: EvaluateConfig, default: dict[str, Method], workers: Engine
) -> pd.DataFrame:
    """Run everything on the given tasks: one row per run, with its regret."""
    facts = _facts(all_tasks, config.seeds, config.device)
    policy = exists(paths.policy)
    others = (
        Method("policy", "policy", policy=policy),
        Method("policy", "policy_val", policy=policy, validation=True),
        Method("control", "random_init"),
        Method("control", "state_blind", policy=exists(paths.blind_policy)),
        *RIVALS,
    )
    work = [
        job
        for t in all_tasks
        for job in jobs(
            t, (*grid(facts[t.name]["optimizer"], config.learning_rates), *others), config.seeds, config.device
        )
    ]
    rows = compute(work, workers, "evaluate")
    curves = mean_curves(rows[rows.method == "policy"])
    seeds = tuple(range(config.seeds))
    replay = [Job(t, (Method("control", "mean_lr"),), seeds, config.device, curves) for t in all_tasks]
    rows = pd.concat([rows, compute(replay, workers, "replay")], ignore_index=True)
    rows = add_regret(rows, {name: f["initial_loss"] for name, f in facts.items()})
    return pd.concat([rows, calibrated_rival(rows, default)], ignore_index=True)


def _facts(all_tasks: list[Task], n_seeds: int, device: str) -> dict[str, dict[str, Any]]:
    return {t.name: initial_losses(t, range(n_seeds), device) for t in all_tasks}


def calibrated_rival(rows: pd.DataFrame, default: dict[str, Method]) -> pd.DataFrame:
    """The grid's runs of each optimizer's calibrated configuration, as a rival; empty unless all have one."""
    if unknown := sorted(set(rows.optimizer) - set(default)):
        print(f"evaluate: rival calibrated left out: no calibration task uses {', '.join(unknown)}", flush=True)
        return rows.iloc[:0]
    chosen = {(optimizer, method.name, method.lr0) for optimizer, method in default.items()}
    of_chosen = [key in chosen for key in zip(rows.optimizer, rows.method, rows.lr0, strict=True)]
    return rows[of_chosen].assign(kind="rival", method="calibrated", lr0=np.nan)


def calibrate(families: Iterable[str], config: EvaluateConfig, workers: Engine) -> dict[str, Method]:
    """Run the grid on tasks of the training families and choose the calibrated schedule."""
    all_tasks = tasks(families, config.calibration_tasks, config.seed)
    facts = _facts(all_tasks, CALIBRATION_SEEDS, config.device)
    work = [
        j
        for t in all_tasks
        for j in jobs(t, grid(facts[t.name]["optimizer"], config.learning_rates), CALIBRATION_SEEDS, config.device)
    ]
    rows = compute(work, workers, "calibrate")
    return calibrated(add_regret(rows, {name: f["initial_loss"] for name, f in facts.items()}))


def main() -> None:
    paths = parse_root(__doc__)
    params = load(paths.root)
    config = params.evaluate
    with tracking.stage(paths, "evaluate", asdict(config)) as log:
        workers = engine("local", config.workers, device=config.device)
        default = calibrate(params.collect.families, config, workers)
        rows = compare(tasks(config.families, config.tasks_per_family, config.seed), paths, config, default, workers)
        metrics: dict[str, Any] = {"benchmark": _benchmark(rows, config)}
        for optimizer, method in sorted(default.items()):
            metrics[f"calibrated.{optimizer}"] = f"{method.name} {method.lr0:g}"
        means = []
        for split, part in rows.groupby("split"):
            found = summarise(part, config)
            metrics |= {f"{split}.{k}": v for k, v in found.items()}
            means += [(split, k.removesuffix(".mean"), v) for k, v in found.items() if k.endswith(".mean")]
        for path in (paths.evaluation, paths.evaluate_metrics, paths.regret_plot):
            path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(paths.evaluation, compression="zstd")
        paths.evaluate_metrics.write_text(json.dumps(metrics, indent=1) + "\n")
        plot = pd.DataFrame(means, columns=["split", "method", "regret"])
        plot.to_csv(paths.regret_plot, index=False, lineterminator="\n")
        log.metrics({k: v for k, v in metrics.items() if not isinstance(v, str)})
        log.tags({"benchmark": metrics["benchmark"]})
        log.artifact(paths.evaluation)


def _benchmark(rows: pd.DataFrame, config: EvaluateConfig) -> str:
    """Hash of what was run: figures of equal benchmarks are comparable."""
    names = sorted(rows.task.unique().tolist() + rows.workload.unique().tolist())
    fixed = {"tasks": names, "seeds": config.seeds, "schedules": SCHEDULES, "rates": HALF_DECADES}
    fixed |= {"initial": config.learning_rates}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
