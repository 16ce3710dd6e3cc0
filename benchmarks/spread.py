"""Whether there is anything to win: how far the best learning rates of the benchmark's tasks lie apart.

    python -m benchmarks.spread            # 20 minutes, seconds from the cache; writes benchmarks/results/spread.json,
                                           # docs/benchmark.md, pipeline/calibrated.json
    python -m benchmarks.spread --check    # and fails where a bar is missed

On every task of every split the oracle's grid is trained: eight schedules from initial rates in half decades. If one
configuration did well everywhere, a benchmark could not tell a scheduler that adapts from a lucky constant. For every
split and optimizer, as <split>.<optimizer>.<figure>:

    tasks              of so many
    lowest, highest    best constant learning rate of a task: over the tasks that one suits, the lowest and the highest
    decades            between these two
    schedule, lr       the single best configuration, chosen on these very tasks
    mean, worst        its regret: over the tasks, and of the task where it is worst

and for every split, over its optimizers, <split>.mean and <split>.worst, <split>.families, how many, and of its tasks
<split>.<n_steps, epochs, batch_size, parameters>, lowest and highest. Of no split: quick, seeds, left_out (tasks on
which no training improves on its start) and torch. The single best configurations of the training split are the
calibrated schedule, a rival.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import command
from pipeline.benchmark import CALIBRATED, Bench, against_oracle
from pipeline.engines import engine
from pipeline.paths import BENCHMARK_CACHE
from pipeline.splits import MANIFEST, ROUNDS, SPLITS, Task, tasks
from pipeline.workloads.base import OPTIMIZERS
from pipeline.workloads.registry import names

OUT, PAGE = Path("benchmarks/results/spread.json"), Path("docs/benchmark.md")
SEEDS, TUNING_SEEDS = 5, 3
HOPELESS = 0.9  # regret of a task's best constant rate from which on no constant rate suits it
DECADES = 2.0  # bar, of every split and optimizer
HELD_OUT = {"mean": 0.04, "worst": 0.12}  # bars, of the single best configuration
QUICK = {"train": ("illconditioned",), "selection": ("diabetes",), "heldout": ("mnist_overfit",)}
RANGES = ("n_steps", "epochs", "batch_size", "parameters")


def bench(quick: bool) -> Bench:
    """The tasks of all splits."""
    chosen = [
        task for split in SPLITS for task in tasks(QUICK[split] if quick else names(split), 1 if quick else full(split))
    ]
    return Bench(chosen, 2 if quick else SEEDS, 2 if quick else TUNING_SEEDS, (), engine("local"), BENCHMARK_CACHE)


def full(split: str) -> int:
    """Tasks of every family."""
    return ROUNDS[split] * len(OPTIMIZERS)


def figures(rows: pd.DataFrame) -> dict[str, Any]:
    """The figures of all splits, flat."""
    out: dict[str, Any] = {}
    for split, part in rows[rows.kind == "grid"].groupby("split"):
        regrets = []
        for optimizer in part.optimizer.unique():
            found, regret = _of_optimizer(part.query("optimizer == @optimizer"))
            out |= {f"{split}.{optimizer}.{key}": value for key, value in found.items()}
            regrets.append(regret)
        every = np.concatenate(regrets)
        out |= {f"{split}.mean": float(every.mean()), f"{split}.worst": float(every.max())}
    return out


def _of_optimizer(rows: pd.DataFrame) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of one optimizer in one split, and the regrets (tasks,) of its single best configuration."""
    constant = rows[rows.method == "constant"].pivot_table(index="task", columns="lr0", values="regret")
    constant = constant[constant.min(axis=1) < HOPELESS]  # else the lowest rate, which changes nothing, is the best
    best = constant.columns.to_numpy(float)[constant.to_numpy().argmin(axis=1)]
    cells = rows.pivot_table(index="task", columns=["method", "lr0"], values="regret")
    chosen = int(cells.to_numpy().mean(axis=0).argmin())
    regret, (schedule, lr) = cells.to_numpy()[:, chosen], cells.columns[chosen]
    figures = {
        "tasks": len(cells), "lowest": float(best.min()), "highest": float(best.max()),
        "decades": round(float(np.log10(best.max() / best.min())), 3), "schedule": str(schedule), "lr": float(lr),
        "mean": float(regret.mean()), "worst": float(regret.max()),
    }  # fmt: skip
    return figures, regret


def entries(chosen: Sequence[Task]) -> list[dict[str, Any]]:
    """What the file of frozen tasks says of each of these."""
    frozen = json.loads(MANIFEST.read_text(encoding="utf-8"))["tasks"]
    return [next(e for e in frozen[task.family] if e["seed"] == task.seed) for task in chosen]


def ranges(chosen: Sequence[Task]) -> dict[str, list[float]]:
    """Lowest and highest of what the tasks of each split are."""
    told, out = [*zip(chosen, entries(chosen), strict=True)], {}
    for split in SPLITS:
        mine = [entry for task, entry in told if task.split == split]
        out |= {f"{split}.{what}": [f([e[what] for e in mine]) for f in (min, max)] for what in RANGES}
        out[f"{split}.families"] = len({t.family for t in chosen if t.split == split})
    return out


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat; the calibrated schedule goes to its file."""
    measured = bench(quick)
    rows = against_oracle(measured)
    left_out = len(measured.tasks) - rows.task.nunique()
    found = figures(rows) | ranges(measured.tasks)
    if not quick:
        CALIBRATED.write_text(json.dumps(calibrated(found), indent=1) + "\n", encoding="utf-8")
    return {"quick": quick, "seeds": TUNING_SEEDS, "left_out": left_out, "torch": torch.__version__} | found


def calibrated(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By optimizer the single best configuration of the training split."""
    return {o: {"schedule": found[f"train.{o}.schedule"], "lr0": found[f"train.{o}.lr"]} for o in OPTIMIZERS}


def missed(r: Mapping[str, Any]) -> list[str]:
    """What to say of every bar that is not met."""
    bars = {key: DECADES for key in r if key.endswith(".decades")}
    bars |= {f"heldout.{key}": bar for key, bar in HELD_OUT.items()}
    return [f"{key}: {r[key]:.3g}, want at least {bar:g}" for key, bar in bars.items() if r[key] < bar]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: what the tasks are; a row of each split and optimizer, and of each split."""
    sizes = [["split", "families", "steps", "epochs", "batch", "parameters"], ["---", *["---:"] * 5]]
    for split in SPLITS:
        spans = (r[f"{split}.{what}"] for what in RANGES)
        sizes.append([split, str(r[f"{split}.families"]), *(f"{low:,.4g} to {high:,.6g}" for low, high in spans)])
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
    tables = ["\n".join(f"| {' | '.join(row)} |" for row in table) for table in (sizes, rows)]
    return "\n\n".join([*tables, last])


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "How far best learning rates lie apart.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
