"""What an agent's critics know about tasks that they did not learn from.

    python -m experiments.policy.overfit_critics    # 20 minutes, from the last `make repro`; writes
                                                    # experiments/results/overfit_critics.json, docs/experiments.md

Agents learn from four of five recorded tasks. In these tasks and in the others, their critics predict the return of the
rest of a run for the action at every decision, and the prediction is compared with the actual return. A critic that
predicts more in tasks that it learned from than in others overfits them. Figures: <variant>.<figure>

    seen                share of the variance of returns that is predicted in tasks that were learned from
    unseen, low, high   in the others, with a 95 % interval over them
    first               in the others, at their first decisions alone

and tasks, data. Shares are means over SEEDS of training.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.variant_policies import WORK
from experiments.policy.variants import FULL
from pipeline.config import Params, load
from pipeline.engines import engine, progress, results
from pipeline.evaluation import stats
from pipeline.reporting import markdown, verdict
from policy import agents
from policy.settings import TrainConfig
from policy.store import Masks, Store, View, build

OUT, PAGE = Path("experiments/results/overfit_critics.json"), Path("docs/experiments.md")
SEEDS = (20, 21)  # of training
PARTS = 5  # of the tasks, one of which is not learned from
RUNS = 2000  # of each kind, at most, that critics are asked about
STORES = {"learned": False, "others": True}  # folders; whether their tasks are held out
RESAMPLES = 2000
VARIANTS: dict[str, dict[str, Any]] = {
    "full returns": FULL,
    "3,000 steps": FULL | {"steps": 3000},
    "2 × 32": FULL | {"hidden": (32, 32)},
    "dropout 0.1": FULL | {"dropout": 0.1},
    "dropout 0.2": FULL | {"dropout": 0.2},
    "dropout 0.3": FULL | {"dropout": 0.3},
    "8-step, α 2.5": {"n_step": 8, "alpha": 2.5},  # whose critics say what the agent would get, not what the run got
}

Errors = tuple[np.ndarray, np.ndarray]  # (tasks,) mean squared errors in units of the variance: all, first decisions


def part(files: Sequence[Path], held_out: bool) -> list[Path]:
    """The recorded tasks that are learned from, or the held-out ones: the first one of every PARTS, by name."""
    ordered = sorted(files, key=lambda path: path.name)
    return [path for i, path in enumerate(ordered) if (i % PARTS == 0) == held_out]


def returns(view: View, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """(n,) returns of the rest of the run, for the decisions `rows` (n,), which belong to `runs` (n,)."""
    before = np.append(0.0, np.cumsum(view.store.rewards, dtype=np.float64))
    return before[view.store.starts[runs + 1]] - before[rows]


def errors(algorithm: Any, view: View) -> Errors:
    """For each task the errors of its critics' predictions, in units of the returns' variance over all tasks."""
    tasks = np.repeat(np.arange(len(view.store.tasks)), view.store.tasks)
    chosen = np.unique(np.linspace(0, len(tasks) - 1, RUNS).astype(int))
    rows, runs = view.rows_of(chosen)
    returned = returns(view, rows, runs)
    predicted = algorithm.predict_value(view.observations(rows, runs), view.store.actions[rows][:, None])
    first = rows == view.store.starts[runs]

    def by_task(which: np.ndarray) -> np.ndarray:
        squares = (predicted - returned)[which] ** 2 / returned[which].var()
        task = np.unique(tasks[runs[which]], return_inverse=True)[1]
        return np.bincount(task, squares) / np.bincount(task)

    return by_task(np.ones(len(rows), bool)), by_task(first)


def train(job: tuple[str, TrainConfig, int], folder: Path) -> tuple[str, Errors, Errors]:
    """Train the agent of (variant, parameters, seed). Returns its variant, its errors on tasks it learned from, and on
    others.
    """
    name, config, seed = job
    masks = Masks(config.mask_validation, config.mask_epochs)
    mine, others = (Store.open(folder / p).masked(masks, seed).limited(config.features) for p in STORES)
    algorithm = agents.train(mine, config, seed)
    return name, errors(algorithm, mine), errors(algorithm, others)


def figures(trained: Sequence[tuple[str, Errors, Errors]], names: Iterable[str]) -> dict[str, Any]:
    """All figures, flat, from the results of `train`."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for name in names:
        own = np.mean([np.mean(mine[0]) for label, mine, _ in trained if label == name])
        others = [theirs for label, _, theirs in trained if label == name]
        share = stats.mean_estimate(
            1 - np.mean([every for every, _ in others], axis=0)[None], n_resamples=RESAMPLES, rng=rng
        )
        out |= {
            f"{name}.seen": float(1 - own), f"{name}.unseen": share.value,
            f"{name}.low": share.low, f"{name}.high": share.high,
            f"{name}.first": float(1 - np.mean([np.mean(first) for _, first in others])),
        }  # fmt: skip
    return out


def measure(files: Sequence[Path], variants: Mapping[str, Mapping[str, Any]], params: Params) -> dict[str, Any]:
    """All figures of recorded tasks, for variants of the training parameters in `params`."""
    pool = engine("local")
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        for name, held_out in STORES.items():
            (store := Path(folder, name)).mkdir()
            build(part(files, held_out), params.reward, store, partial(results, pool))
        jobs = [(name, replace(params.train, **of), seed) for name, of in variants.items() for seed in SEEDS]
        work = partial(train, folder=Path(folder))
        done = results(pool, work, jobs)
        trained = list(progress(done, len(jobs), "train", lambda _: 1.0, "agents"))
    return figures(trained, variants) | {"tasks": len(files)}


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each variant."""
    header = ["agents with", "predicted in tasks they learned from", "predicted in other tasks", "95 %",
              "in other tasks, at the first decision"]  # fmt: skip
    rows = []
    for name in (key.removesuffix(".seen") for key in r if key.endswith(".seen")):
        interval = verdict.interval(r[f"{name}.low"], r[f"{name}.high"])
        shares = [verdict.number(r[f"{name}.{key}"]) for key in ("seen", "unseen", "first")]
        rows.append([name, *shares[:2], interval, shares[2]])
    collection = f"{r['tasks']} recorded tasks of the training families, data `{r['data'][:12]}`."
    return f"{markdown.table(header, rows)}\n\n{collection}"


def main(argv: Sequence[str] | None = None) -> int:
    what = "What an agent's critics know of tasks that they did not learn from."
    return command.of_collection(
        argv, what, OUT, PAGE, lambda files, root: measure(files, VARIANTS, load(root)), render
    )


if __name__ == "__main__":
    sys.exit(main())
