"""The benchmark: a tuned grid as the oracle, schedules, rivals and controls, all on the same tasks and seeds.

Grids are trained on seeds of their own. The winner of a grid is then trained again on the seeds that all methods are
judged on: those did not choose it, and its losses pair with everybody's (common random numbers).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.engines import Engine
from pipeline.evaluation import searched_schedule, stats
from pipeline.evaluation.run_cache import compute, facts
from pipeline.evaluation.splits import Task
from pipeline.evaluation.trial import Method, Run

SCHEDULES = ("constant", "step", "exponential", "cosine", "onecycle", "warmup_cosine", "linear", "wsd")
HALF_DECADES = tuple(float(f"{m}e{e}") for e in range(-5, 2) for m in (1, 3))  # 1e-5, 3e-5, ... 3e1
HIGHEST = {"adam": 0.3, "adamw": 0.3, "sgd": 10.0}  # of the grid; a textbook grid for SGD reaches further up
TUNING = 1000  # the first of the seeds that choose
TARGET = 0.1  # steps to target: share of the oracle's gain that may still be missing
SCORES = {  # column of normalised regret -> what of
    "regret": "test_loss",  # at the end
    "best_regret": "best_loss",  # of the milestone with the lowest validation loss
    "error_regret": "test_error",
    "best_error_regret": "best_error",
}
ROOM = 0.02  # of an error rate, between untrained and oracle: below, its regret is noise
CALIBRATED = Path(__file__).with_name("calibrated.json")


@dataclass(frozen=True)
class Bench:
    """Where and how much is trained."""

    tasks: Sequence[Task]
    seeds: int  # that methods are judged on
    tuning_seeds: int
    learning_rates: Sequence[float]  # initial ones of the baselines
    workers: Engine
    cache: Path
    device: str = "cpu"

    def runs(self, methods: Iterable[Method], task: Task, seeds: Iterable[int] | None = None) -> list[Run]:
        judged = range(self.seeds) if seeds is None else seeds
        return [Run(task, method, seed, self.device) for method in methods for seed in judged]

    def compute(self, runs: Sequence[Run], what: str) -> pd.DataFrame:
        return compute(runs, self.workers, self.cache, what)

    def facts(self) -> pd.DataFrame:
        return facts(self.tasks, self.seeds, self.device, self.cache)


def grid(optimizer: str) -> list[Method]:
    """The tuned grid: every schedule from every initial (highest) learning rate."""
    rates = [lr for lr in HALF_DECADES if lr <= HIGHEST[optimizer]]
    return [Method("grid", name, lr, schedule=name) for name in SCHEDULES for lr in rates]


def with_facts(rows: pd.DataFrame, bench: Bench) -> pd.DataFrame:
    """The rows with what is known of their tasks."""
    return rows.join(bench.facts().drop(columns="split"), "task", validate="m:1")


def train_grid(bench: Bench) -> pd.DataFrame:
    """The grids of all tasks, on the seeds that choose."""
    optimizer = bench.facts().optimizer
    seeds = range(TUNING, TUNING + bench.tuning_seeds)
    return bench.compute([r for t in bench.tasks for r in bench.runs(grid(optimizer[t.name]), t, seeds)], "grid")


def winners(tuned: pd.DataFrame, known: pd.DataFrame, score: str) -> dict[str, Method]:
    """By task the configuration of its grid that is best on average over the seeds that choose.

    A run that diverged or ended above where it began counts as where it began.
    """
    start = known.initial_error if score.endswith("error") else known.initial_loss
    tuned = tuned[tuned.task.map(start).notna()]
    values = tuned[score].fillna(np.inf).clip(upper=tuned.task.map(start))
    means = tuned.assign(value=values).groupby(["task", "method", "lr0"]).value.mean()
    chosen = means.groupby("task").idxmin()
    return {task: Method("oracle", score, lr0, schedule=name) for task, name, lr0 in chosen}


def oracles(bench: Bench, tuned: pd.DataFrame) -> tuple[dict[str, Method], list[Run]]:
    """By task the winner of the test loss; and the runs of the winners of all scores, on the judged seeds."""
    best = {score: winners(tuned, bench.facts(), score) for score in SCORES.values()}
    runs = [r for t in bench.tasks for won in best.values() if t.name in won for r in bench.runs([won[t.name]], t)]
    return best["test_loss"], runs


def against_oracle(bench: Bench) -> pd.DataFrame:
    """The grids of all tasks, with their regrets."""
    tuned = train_grid(bench)
    _, runs = oracles(bench, tuned)
    return add_regret(with_facts(pd.concat([tuned, bench.compute(runs, "oracle")], ignore_index=True), bench))


def compare(bench: Bench, methods: Sequence[Method], *, search: bool = False) -> pd.DataFrame:
    """All methods, schedules, the oracles of every score, the replay of the policy's mean curve; one row per run.

    With `search`, a near-optimal schedule of each task too. Rows carry what is known of their task, and regrets.
    """
    known, tuned = bench.facts(), train_grid(bench)
    asked = [Method("baseline", n, lr, schedule=n) for n in SCHEDULES for lr in bench.learning_rates]
    best, first = oracles(bench, tuned)
    default = calibrated()
    first += [r for t in bench.tasks for r in bench.runs([*asked, *methods, default[known.optimizer[t.name]]], t)]
    rows = bench.compute(first, "compare")
    curves = mean_curves(
        rows[(rows.kind == "policy") & (rows.method == "policy")].join(known[["optimizer", "n_steps"]], "task")
    )
    second = [r for t in bench.tasks for r in bench.runs([curves[known.optimizer[t.name]]], t)]
    if search:
        shapes = searched_schedule.search(bench, best)
        second += [run for task in bench.tasks for run in bench.runs([shapes[task.name]], task)]
    rows = pd.concat([rows, bench.compute(second, "replay"), tuned], ignore_index=True)
    return add_regret(with_facts(rows, bench))


def calibrated() -> dict[str, Method]:
    """By optimizer the schedule and rate that is best on average over tasks of the training families, frozen."""
    chosen = json.loads(CALIBRATED.read_text(encoding="utf-8"))
    return {
        optimizer: Method("rival", "calibrated", entry["lr0"], schedule=entry["schedule"])
        for optimizer, entry in chosen.items()
    }


def mean_curves(rows: pd.DataFrame) -> dict[str, Method]:
    """By optimizer the replay of the policy's learning rate, the geometric mean over its runs.

    A probe is rolled back, so its rates are none of the training's: the first rate after it stands in their place.
    """
    curves: dict[str, list[np.ndarray]] = {}
    for optimizer, probed, curve in zip(rows.optimizer, rows.probe_steps / rows.n_steps, rows.lr_curve, strict=True):
        log_lr = np.log10(np.maximum(np.asarray(curve), 1e-12))
        after = int(np.ceil(probed * (len(log_lr) - 1)))
        log_lr[:after] = log_lr[after]
        curves.setdefault(str(optimizer), []).append(log_lr)
    return {
        optimizer: Method("control", "mean_lr", curve=tuple(np.mean(found, axis=0).tolist()))
        for optimizer, found in curves.items()
    }


def add_regret(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the regrets of `SCORES`, the gap of the error rate to the oracle's, steps and epochs to target.

    A task without room for regret, which no tuned training improves on, is left out, with a message.
    """
    kept = []
    for name, part in rows.groupby("task", sort=True):
        oracle = {score: _oracle(part, score) for score in SCORES.values()}
        if not oracle["test_loss"] < part.initial_loss.iloc[0]:
            print(f"benchmark: {name} left out: no tuned training improves on its start", flush=True)
            continue
        of_oracle = part[(part.kind == "oracle") & (part.method == "test_loss")]
        target = of_oracle.val_loss.mean()
        target += TARGET * (part.initial_loss.iloc[0] - target)
        reached = stats.steps_to_threshold(part.milestones.iloc[0], np.stack(part.val_curve.to_list()), target)
        regrets = {column: _regret(part, score, oracle[score]) for column, score in SCORES.items()}
        kept.append(part.assign(
            oracle_loss=oracle["test_loss"], **regrets, steps_to_target=reached,
            epochs_to_target=reached / part.steps_per_epoch, error_gap=part.test_error - oracle["test_error"],
        ))  # fmt: skip
    return pd.concat(kept, ignore_index=True)


def _oracle(part: pd.DataFrame, score: str) -> float:
    """Mean score of the tuned winner; a run that ended above where it began counts as where it began. nan: no such."""
    found = part[(part.kind == "oracle") & (part.method == score)]
    start = found.initial_error if score.endswith("error") else found.initial_loss
    return float(found[score].fillna(np.inf).clip(upper=start).mean())


def _regret(part: pd.DataFrame, score: str, oracle: float) -> np.ndarray:
    """nan where an error rate has no room."""
    if not score.endswith("error"):
        return stats.normalised_regret(part[score], oracle, part.initial_loss)
    if not part.initial_error.iloc[0] - oracle > ROOM:
        return np.full(len(part), np.nan)
    return stats.normalised_regret(part[score], oracle, part.initial_error)


def contenders(policy: Path, blind: Path) -> list[Method]:
    """The policy as it comes and shown the validation loss, its controls, and the LR finders, which need no rate.

    As it comes, in a loop over a DataLoader, it knows the training loss and the size of the data.

    Raises FileNotFoundError where there is no policy.
    """
    learned = exists(policy)
    return [
        Method("policy", "policy", policy=learned, epochs=True),
        Method("policy", "policy_val", policy=learned, epochs=True, validation=True),
        Method("control", "random_init", rule="random_init"),
        Method("control", "state_blind", policy=exists(blind)),
        Method("rival", "finder_steepest", rule="finder_steepest"),
        Method("rival", "finder_tenth", rule="finder_tenth"),
    ]


def exists(path: Path) -> str:
    """`path` as a string, for a `Method`; FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy; run the export stage first")
    return str(path)


def name_of(bench: Bench) -> str:
    """Hash of what is judged, on what: figures of equal names compare."""
    known = bench.facts()
    fixed = {
        "tasks": sorted(known.index), "workloads": sorted(known.workload), "seeds": bench.seeds,
        "tuning_seeds": bench.tuning_seeds, "schedules": SCHEDULES, "rates": HALF_DECADES, "highest": HIGHEST,
        "initial": bench.learning_rates,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]
