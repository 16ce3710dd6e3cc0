"""Whether there is anything to win: how far the best learning rates of the benchmark's tasks lie apart.

    python -m benchmarks.spread            # 45 minutes, seconds from the cache; writes benchmarks/results/spread.json,
                                           # docs/benchmark.md, pipeline/evaluation/calibrated.json
    python -m benchmarks.spread --check    # and fails where a bar is missed

On every task of every split the oracle's grid is trained: eight schedules from initial rates in half decades. If one
configuration did well everywhere, a benchmark could not tell a scheduler that adapts from a lucky constant. For every
split and optimizer, as <split>.<optimizer>.<figure>:

    tasks              of so many
    lowest, highest    best constant learning rate of a task: over the tasks that one suits, the lowest and the highest
    decades            between these two
    schedule, lr       the single best configuration, chosen on these very tasks
    mean, worst        its regret: over the tasks, and of the task where it is worst

and for every split, over its optimizers, <split>.mean and <split>.worst, <split>.families, how many, <split>.seeds of
each configuration, and of its tasks <split>.<n_steps, epochs, batch_size, parameters>, lowest and highest. Of no split:
quick, left_out (tasks on which no training improves on its start) and torch. The single best configurations of the
training split are the calibrated schedule, a rival.
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
from pipeline.engines import engine
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.oracle import against_oracle
from pipeline.evaluation.rivals import CALIBRATED, NADAMW, nadamw_settings
from pipeline.evaluation.splits import MANIFEST, ROUNDS, SPLITS, Task, tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import markdown
from pipeline.workloads.base import OPTIMIZERS
from pipeline.workloads.families import names

OUT, PAGE = Path("benchmarks/results/spread.json"), Path("docs/benchmark.md")
SEEDS, TUNING_SEEDS = 5, 3
CHOOSE = {"train": 2, "selection": 2, "heldout": TUNING_SEEDS}  # seeds of the grids; held-out ones judge others too
HOPELESS = 0.9  # regret of a task's best constant rate from which on no constant rate suits it
DECADES = 2.0  # bar, of every split and optimizer
HELD_OUT = {"mean": 0.04, "worst": 0.12}  # bars, of the single best configuration
QUICK = {"train": ("illconditioned",), "selection": ("diabetes",), "heldout": ("mnist_overfit",)}
RANGES = ("n_steps", "epochs", "batch_size", "parameters")


def bench(split: str, quick: bool) -> Bench:
    """The tasks of a split."""
    chosen = tasks(QUICK[split] if quick else names(split), 1 if quick else full(split))
    return Bench(chosen, 2 if quick else SEEDS, 2 if quick else CHOOSE[split], (), engine("local"), BENCHMARK_CACHE)


def full(split: str) -> int:
    """Tasks of every family."""
    return ROUNDS[split] * len(OPTIMIZERS)


def figures(rows: pd.DataFrame) -> dict[str, Any]:
    """The figures of all splits, flat."""
    out: dict[str, Any] = {}
    for split, part in rows[rows.kind == "grid"].groupby("split"):
        regrets = []
        for optimizer in part.optimizer.unique():
            single, regret = _of_optimizer(part.query("optimizer == @optimizer"))
            out |= {f"{split}.{optimizer}.{key}": value for key, value in single.items()}
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


def sizes(split: str, measured: Bench) -> dict[str, Any]:
    """Lowest and highest of what the tasks of a split are; its families and seeds."""
    mine = entries(measured.tasks)
    out: dict[str, Any] = {f"{split}.{what}": [f([e[what] for e in mine]) for f in (min, max)] for what in RANGES}
    families = len({task.family for task in measured.tasks})
    return out | {f"{split}.families": families, f"{split}.seeds": measured.tuning_seeds}


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat; the calibrated schedule goes to its file."""
    benches = {split: bench(split, quick) for split in SPLITS}
    rows = pd.concat([against_oracle(measured) for measured in benches.values()], ignore_index=True)
    left_out = sum(len(measured.tasks) for measured in benches.values()) - rows.task.nunique()
    out = {"quick": quick, "left_out": left_out, "torch": torch.__version__} | figures(rows)
    for split, measured in benches.items():
        out |= sizes(split, measured)
    if not quick:
        nadamw = {NADAMW: nadamw_settings()}  # benchmarks.nadamw_rate writes it
        CALIBRATED.write_text(json.dumps(calibrated(out) | nadamw, indent=1) + "\n", encoding="utf-8")
    return out


def calibrated(r: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By optimizer the single best configuration of the training split."""
    return {o: {"schedule": r[f"train.{o}.schedule"], "lr0": r[f"train.{o}.lr"]} for o in OPTIMIZERS}


def missed(r: Mapping[str, Any]) -> list[str]:
    """What to say of every bar that is not met."""
    bars = {key: DECADES for key in r if key.endswith(".decades")}
    bars |= {f"heldout.{key}": bar for key, bar in HELD_OUT.items()}
    return [f"{key}: {r[key]:.3g}, want at least {bar:g}" for key, bar in bars.items() if r[key] < bar]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: what the tasks are; a row of each split and optimizer, and of each split."""
    head = ["split", "families", "steps", "epochs", "batch", "parameters", "seeds"]
    splits = []
    for split in SPLITS:
        spans = (r[f"{split}.{what}"] for what in RANGES)
        ranges = (f"{low:,.4g} to {high:,.6g}" for low, high in spans)
        splits.append([split, str(r[f"{split}.families"]), *ranges, str(r[f"{split}.seeds"])])
    tops = ["split", "optimizer", "tasks", "best constant rate", "decades", "single best", "mean regret", "worst task"]
    rows = []
    for split in SPLITS:
        for optimizer in (o for o in OPTIMIZERS if f"{split}.{o}.tasks" in r):
            of = {k.rpartition(".")[2]: v for k, v in r.items() if k.startswith(f"{split}.{optimizer}.")}
            span, single = f"{of['lowest']:g} to {of['highest']:g}", f"{of['schedule']}, {of['lr']:g}"
            mean, worst = f"{of['mean']:.3f}", f"{of['worst']:.3f}"
            rows.append([split, optimizer, f"{of['tasks']}", span, f"{of['decades']:.1f}", single, mean, worst])
        if f"{split}.mean" in r:
            mean, worst = (f"{r[f'{split}.{key}']:.3f}" for key in ("mean", "worst"))
            rows.append([f"**{split}**", "all", "", "", "", "one per optimizer", mean, worst])
    last = f"Seeds: of each configuration. Tasks left out: {r['left_out']}; torch {r['torch']}."
    return "\n\n".join([markdown.table(head, splits), markdown.table(tops, rows, "llrrrrrr"), last])


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "How far best learning rates lie apart.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
