"""Whether there is anything to win: how far the best learning rates of the benchmark's tasks lie apart.

    python -m benchmarks.spread            # 10 minutes; writes benchmarks/results/spread.json, docs/benchmark.md
    python -m benchmarks.spread --check    # and fails where a bar is missed

On every task of every split the oracle's grid is trained: seven schedules from initial rates in half decades. If one
configuration did well everywhere, a benchmark could not tell a scheduler that adapts from a lucky constant. For every
split and optimizer, as <split>.<optimizer>.<figure>:

    tasks              of so many
    lowest, highest    best constant learning rate of a task: over the tasks, the lowest and the highest
    decades            between these two
    schedule, lr       the single best configuration, chosen on these very tasks
    mean, worst        its regret: over the tasks, and of the task where it is worst

and for every split, over its optimizers, <split>.mean and <split>.worst. Of no split: quick, seeds, left_out (tasks on
which no training improves on its start) and torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import command
from pipeline.benchmark import Task, grid, initial_losses
from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluate import add_regret, compute, jobs, tasks
from pipeline.workloads.base import OPTIMIZERS
from pipeline.workloads.registry import names

OUT, PAGE = Path("benchmarks/results/spread.json"), Path("docs/benchmark.md")
SPLITS = ("train", "selection", "heldout")
PER_FAMILY, SEEDS = 4, 2
DECADES = 2.0  # bar, of every split and optimizer
HELD_OUT = {"mean": 0.04, "worst": 0.12}  # bars, of the single best configuration
QUICK = {"train": ("illconditioned",), "selection": ("diabetes",), "heldout": ("mnist_overfit",)}


def plan(quick: bool) -> list[Task]:
    """The tasks of all splits, drawn as the evaluation draws its own."""
    seed, families = load(Path()).evaluate.seed, QUICK if quick else {split: names(split) for split in SPLITS}
    return [task for split in SPLITS for task in tasks(families[split], 2 if quick else PER_FAMILY, seed)]


def train(all_tasks: Sequence[Task]) -> pd.DataFrame:
    """The grid on all tasks; one row per run, with its regret."""
    facts = {task.name: initial_losses(task, range(SEEDS), "cpu") for task in all_tasks}
    work = [job for t in all_tasks for job in jobs(t, grid(facts[t.name]["optimizer"], []), SEEDS, "cpu")]
    rows = compute(work, engine("local"), "spread")
    return add_regret(rows, {name: fact["initial_loss"] for name, fact in facts.items()})


def figures(rows: pd.DataFrame) -> dict[str, Any]:
    """The figures of all splits, flat."""
    out: dict[str, Any] = {}
    for split, part in rows.groupby("split"):
        regrets = []
        for optimizer, mine in part.groupby("optimizer"):
            found, regret = _of_optimizer(mine)
            out |= {f"{split}.{optimizer}.{key}": value for key, value in found.items()}
            regrets.append(regret)
        every = np.concatenate(regrets)
        out |= {f"{split}.mean": float(every.mean()), f"{split}.worst": float(every.max())}
    return out


def _of_optimizer(rows: pd.DataFrame) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of one optimizer in one split, and the regrets (tasks,) of its single best configuration."""
    constant = rows[rows.method == "constant"].pivot_table(index="task", columns="lr0", values="regret")
    best = constant.columns.to_numpy(float)[constant.to_numpy().argmin(axis=1)]
    cells = rows.pivot_table(index="task", columns=["method", "lr0"], values="regret")
    chosen = int(cells.to_numpy().mean(axis=0).argmin())
    regret, (schedule, lr) = cells.to_numpy()[:, chosen], cells.columns[chosen]
    figures = {
        "tasks": len(cells), "lowest": float(best.min()), "highest": float(best.max()),
        "decades": float(np.log10(best.max() / best.min())), "schedule": str(schedule), "lr": float(lr),
        "mean": float(regret.mean()), "worst": float(regret.max()),
    }  # fmt: skip
    return figures, regret


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    all_tasks = plan(quick)
    rows = train(all_tasks)
    left_out = len(all_tasks) - rows.task.nunique()
    return {"quick": quick, "seeds": SEEDS, "left_out": left_out, "torch": torch.__version__} | figures(rows)


def missed(r: Mapping[str, Any]) -> list[str]:
    """What to say of every bar that is not met."""
    bars = {key: DECADES for key in r if key.endswith(".decades")}
    bars |= {f"heldout.{key}": bar for key, bar in HELD_OUT.items()}
    return [f"{key}: {r[key]:.3g}, want at least {bar:g}" for key, bar in bars.items() if r[key] < bar]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each split and optimizer, and of each split."""
    head = ["split", "optimizer", "tasks", "best constant rate", "decades", "single best", "mean regret", "worst task"]
    rows = [head, ["---", "---", *["---:"] * 6]]
    for split in SPLITS:
        for optimizer in (o for o in OPTIMIZERS if f"{split}.{o}.tasks" in r):
            found = {k.rpartition(".")[2]: v for k, v in r.items() if k.startswith(f"{split}.{optimizer}.")}
            span = f"{found['lowest']:g} to {found['highest']:g}"
            single = f"{found['schedule']}, {found['lr']:g}"
            mean, worst = f"{found['mean']:.3f}", f"{found['worst']:.3f}"
            rows.append([split, optimizer, f"{found['tasks']}", span, f"{found['decades']:.1f}", single, mean, worst])
        if f"{split}.mean" in r:
            mean, worst = (f"{r[f'{split}.{key}']:.3f}" for key in ("mean", "worst"))
            rows.append([f"**{split}**", "all", "", "", "", "one per optimizer", mean, worst])
    last = f"{r['seeds']} seeds of each configuration; tasks left out: {r['left_out']}; torch {r['torch']}."
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", last])


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "How far best learning rates lie apart.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
