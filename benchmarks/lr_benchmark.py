"""The benchmark: the policy, schedules, rivals, random search, controls, and a user's own scheduler.

    python -m benchmarks.lr_benchmark                                    # half an hour, one minute from the cache;
                                                                         # writes lr_benchmark.json and
                                                                         # trainings.parquet of benchmarks/results,
                                                                         # docs/benchmark.md, docs/images, and the
                                                                         # README's table
    python -m benchmarks.lr_benchmark --fast                             # minutes: a few short tasks, printed
    python -m benchmarks.lr_benchmark --scheduler my_module:my_factory   # with your own scheduler, printed

The policy is the one that lrpilot ships (`make promote` changes it). The state-blind control is that of the last repro.
`policy` is the hash of the policy's graph. Keys: heldout.<group>.<figure>, as `pipeline/evaluate.py` writes them.

- random_search_3 and _5: expected best of 3 or 5 trials, drawn from the oracle's whole grid and chosen by validation
  loss. A configuration that the thinned grid lacks counts as the cosine from its rate.
- worth: number of trials that random search needs to be as good as the policy (0: more than the grid has).
- <name>.time: time of a training in a plain loop, divided by that of the loop without a scheduler (untouched); pilot
  is PilotLR.
- constant.<group>.reached: share of the trainings whose validation loss reaches the final one of the task's best
  constant rate; .steps: median share of the steps until then (none: more than half never do).
- ordinary.<group>.within: of the pairs of task and seed in ordinary trainings, the share in which the policy's regret
  is at most 0.01 higher than the group's; .most: how much higher it is at most, as a task's mean; .reached and .steps:
  how often and how soon the policy reaches the group's mean final validation loss.
- trainings: number of trainings of the shipped policy, in all modes, in the population and in a plain loop;
  diverged: how many of them diverged.

The quick form trains no grid, so it lacks random search, worth and constant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import archive, command, spread
from benchmarks.archive import Archived
from benchmarks.lr_benchmark_page import PROFILED, SPLIT, UNTUNED, draw, render
from lrpilot import load_policy
from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluate import contrasts, per_method, roster, summarise
from pipeline.evaluation import aggregates, oracle, stats
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.compare import compare, contenders, existing, name_of
from pipeline.evaluation.methods.loops import LoopMethod, Rival, UserScheduler
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.rivals import RIVALS
from pipeline.evaluation.runs import Run, execute
from pipeline.evaluation.splits import Task
from pipeline.paths import BENCHMARK_CACHE, DEFAULT_MODEL, Paths
from pipeline.reporting import readme
from pipeline.reporting.result_keys import POLICY
from pipeline.result_cache import through

OUT, PAGE, IMAGES = Path("benchmarks/results/lr_benchmark.json"), Path("docs/benchmark.md"), Path("docs/images")
TRIALS = (3, 5)
WITHIN = 0.01  # regrets that differ by less are taken for equal
TIMED, ROUNDS = "mnist_mlp", 3  # the family on whose first task trainings are timed, and how often
FAST = 2  # seeds that judge, of the quick form
QUICK = 2  # families of each regime in the quick form


def held_out(root: Path, fast: bool) -> Archived:
    """All held-out tasks; or a few short ones with few seeds."""
    params = load(root)
    config, chosen = params.evaluate, spread.every_task(SPLIT)
    return Archived(
        shortest(chosen) if fast else chosen, params.regimes.shares, FAST if fast else spread.SEEDS,
        spread.TUNING_SEEDS, config.learning_rates, engine("local", config.workers), BENCHMARK_CACHE,
    )  # fmt: skip


def shortest(chosen: Sequence[Task]) -> list[Task]:
    """For each regime the tasks with the fewest steps, of `QUICK` families."""
    sized, first = zip(spread.entries(chosen), chosen, strict=True), dict[str, dict[str, Task]]()
    for said, task in sorted(sized, key=lambda pair: pair[0]["n_steps"]):
        of_regime = first.setdefault(said["regime"], {})
        if len(of_regime) < QUICK:
            of_regime.setdefault(task.family, task)
    return [task for of_regime in first.values() for task in of_regime.values()]


def methods(paths: Paths, schedulers: Sequence[str]) -> list[Method]:
    """Everything that is compared with the policy, except schedules and what is computed from other runs."""
    policy = DEFAULT_MODEL / "policy.onnx"
    return [
        *contenders(policy, paths.blind_policy),
        Learned("policy", "policy_steps", existing(policy)),
        PilotLoop("loop", "pilot", existing(policy)),
        Rival("loop", "untouched", rival="untouched"),
        *(Rival("rival", name, rival=name) for name in RIVALS if name != "untouched"),
        *(UserScheduler("rival", name, factory=name) for name in schedulers),
    ]


class Grid:
    """The oracle's whole grid, from which a random search draws."""

    def __init__(self, rows: pd.DataFrame, shares: Mapping[str, float]) -> None:
        self._tasks: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # losses and regrets, (seeds, configurations)
        for name, part in oracle.whole_grid(rows).groupby("task", sort=True):
            losses, regrets = (
                part.pivot(index="seed", columns=["method", "lr0"], values=value).to_numpy()
                for value in ("val_loss", "regret")
            )
            self._tasks[str(name)] = losses, regrets
        self.size = min(losses.shape[1] for losses, _ in self._tasks.values())
        self._weights = aggregates.weights(self._tasks, rows, shares)

    def search(self, trials: int) -> pd.DataFrame:
        """Expected regrets (tasks, seeds that choose) after a number of trials."""
        expected = [oracle.random_search(losses, regrets, trials) for losses, regrets in self._tasks.values()]
        return pd.DataFrame(expected, index=[*self._tasks])

    def worth(self, regret: float) -> int:
        """Trials until the mean regret, weighted like the policy's, is as low as this; 0: never."""
        means = (self.search(n).to_numpy().mean(axis=1) @ self._weights for n in range(1, self.size + 1))
        return next((n for n, mean in enumerate(means, 1) if mean <= regret), 0)


def figures(rows: pd.DataFrame, shares: Mapping[str, float], bootstrap: int) -> dict[str, Any]:
    """All figures, flat; without those of grids if none was trained."""
    out = summarise(SPLIT, rows, shares, bootstrap)
    shipped = rows[(rows.kind == "policy") | ((rows.kind == "loop") & (rows.method == "pilot"))]
    out |= {"trainings": len(shipped), "diverged": int((~np.isfinite(shipped.test_loss)).sum())}
    out |= {"torch": torch.__version__}
    out |= beside_untuned(rows)
    return out | (of_grids(rows, shares, bootstrap) if (rows.kind == "grid").any() else {})


def of_grids(rows: pd.DataFrame, shares: Mapping[str, float], bootstrap: int) -> dict[str, Any]:
    """The cost of random search, and how often methods reach the best constant rate."""
    every, policy, out = Grid(rows, shares), dict(per_method(rows))[POLICY], dict[str, Any]()
    for trials in TRIALS:  # searched on other seeds than the policy is judged on: these pairs share the task alone
        searched = every.search(trials)
        paired = searched.iloc[:, np.arange(policy.shape[1]) % searched.shape[1]]
        by_method = {POLICY: policy, f"rival.random_search_{trials}": paired}
        out |= contrasts(SPLIT, by_method, aggregates.regimes(rows), shares, bootstrap)
    mean = policy.to_numpy().mean(axis=1) @ aggregates.weights(policy.index, rows, shares)
    return out | to_best_constant(rows) | {"worth": every.worth(float(mean))}


def to_best_constant(rows: pd.DataFrame) -> dict[str, float]:
    """For each group how many trainings reach the final validation loss of the best constant rate, and how soon."""
    constant = rows[(rows.kind == "grid") & (rows.method == "constant")]
    ends = constant.assign(val_loss=constant.val_loss.fillna(np.inf)).groupby(["task", "lr0"]).val_loss.mean()
    target, judged, out = ends.groupby("task").min(), aggregates.judged(rows), dict[str, float]()
    for group, part in judged.loc[judged.group.isin(PROFILED)].groupby("group"):
        out |= {f"constant.{group}.{figure}": value for figure, value in _sooner(part, target).items()}
    return out


def beside_untuned(rows: pd.DataFrame) -> dict[str, float]:
    """The policy in ordinary trainings, pair by pair beside what people use untuned."""
    ordinary, out = rows.query("regime == 'ordinary'"), dict[str, float]()
    judged, regrets = aggregates.judged(ordinary), dict(per_method(ordinary))
    policy = judged.query("group == @POLICY")
    for group, part in judged.loc[judged.group.isin(UNTUNED)].groupby("group"):
        excess = regrets[POLICY] - regrets[str(group)]
        out[f"ordinary.{group}.within"] = round(float((excess <= WITHIN).to_numpy().mean()), 4)
        out[f"ordinary.{group}.most"] = round(float(excess.mean(axis=1).max()), 4)
        target = part.assign(val_loss=part.val_loss.fillna(np.inf)).groupby("task").val_loss.mean()
        out |= {f"ordinary.{group}.{figure}": value for figure, value in _sooner(policy, target).items()}
    return out


def _sooner(part: pd.DataFrame, target: pd.Series) -> dict[str, float]:
    """How often runs reach the target of their task, and the median share of their steps until then, if half do."""
    steps = np.concatenate([
        stats.steps_to_threshold(of.milestones.iloc[0], np.stack(of.val_curve.to_list()), target[task]) / of.n_steps
        for task, of in part.groupby("task")
    ])  # fmt: skip
    median = float(np.median(np.nan_to_num(steps, nan=np.inf)))
    out = {"reached": round(float(np.isfinite(steps).mean()), 4)}
    if np.isfinite(median):
        out["steps"] = round(median, 4)
    return out


def times(bench: Benchmark, chosen: Sequence[Method]) -> dict[str, float]:
    """<name>.time for every method in a plain loop: time of a training divided by that of the loop without a scheduler.

    It is the median of ROUNDS rounds after a first one. In each round all methods train in turn, in this process. The
    result is cached with the trainings, so a run from the cache reports the times of the machine that trained them.
    """
    task = next(task for task in bench.tasks if task.family == TIMED)
    runs = [Run(task, method, 0) for method in chosen if isinstance(method, LoopMethod)]

    def rounds(_: Sequence[str]) -> Iterator[dict[str, list[list[float]]]]:
        threads = torch.get_num_threads()
        yield {"seconds": [[execute([run])[0]["seconds"] for run in runs] for _ in range(ROUNDS + 1)][1:]}
        torch.set_num_threads(threads)

    results = through(bench.cache, {"seconds": ("times", ROUNDS, *(run.key() for run in runs))}, rounds)
    table, loops = np.array(results["seconds"]), [run.method.name for run in runs]
    ratio = np.median(table / table[:, [loops.index("untouched")]], axis=0)
    return {f"{name}.time": round(float(value), 3) for name, value in zip(loops, ratio, strict=True)}


def measure(root: Path, bench: Benchmark, schedulers: Sequence[str], fast: bool) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train what the cache lacks. Returns all figures, and the runs behind them.

    The quick form trains no grid and reports no wall times.
    """
    paths, config = Paths(root), load(root).evaluate
    chosen = methods(paths, schedulers)
    rows = compare(bench, chosen, grids=not fast)
    fixed = {"benchmark": name_of(bench), "policy": load_policy("default").manifest.graph} | roster(bench, rows)
    return figures(rows, bench.shares, config.bootstrap) | ({} if fast else times(bench, chosen)) | fixed, rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The policy, schedules, rivals and your own scheduler.")
    parser.add_argument(
        "--root", type=Path, default=Path("."), help="root of the profile whose control is judged (default: .)"
    )
    parser.add_argument("--fast", action="store_true", help="a few short tasks of each regime, on two seeds")
    parser.add_argument("--scheduler", action="append", default=[], metavar="MODULE:FACTORY", help="your scheduler")
    parser.add_argument("--out", type=Path, help=f"where the figures go (default: {OUT}, or nowhere with an option)")
    args = parser.parse_args(argv)
    for name in args.scheduler:
        try:
            UserScheduler("rival", name, name).recipe()  # an error now, not in a worker
        except (ImportError, AttributeError, ValueError) as error:
            raise SystemExit(
                f"--scheduler {name!r}: {error}; want module:factory, where factory(optimizer, total_steps) makes one"
            ) from None
    whole = not args.scheduler and not args.fast and args.root == Path(".") and args.out is None
    bench = held_out(args.root, args.fast)
    try:
        results, rows = measure(args.root, bench, args.scheduler, args.fast)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    if whole:
        archive.store(bench.cache, bench.keys)
        draw(results, rows, IMAGES)
        readme.update(results, aggregates.with_groups(rows))
    if whole or args.out is not None:
        command.write(results, render(results), args.out or OUT, PAGE if whole else None)
    else:
        print(render(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
