"""Whether there is anything to win: how far the best learning rates of the benchmark's tasks lie apart.

    python -m benchmarks.spread            # an hour, seconds from the cache; writes benchmarks/results/spread.json,
                                           # docs/benchmark.md, and of pipeline/evaluation calibrated.json, oracles.json
    python -m benchmarks.spread --check    # and fails where a bar is missed

On every task of every split the oracle's grid is trained: eight schedules from initial rates in half decades, thinned
as `pipeline/evaluation/oracle.py` says. If one configuration did well everywhere, a benchmark could not tell a
scheduler that adapts from a lucky constant. For every split and optimizer, as <split>.<optimizer>.<figure>, and for the
tasks of one regime under Adam and AdamW together, as <split>.<regime>.<figure>:

    tasks              of so many
    lowest, highest    best constant learning rate of a task: over the tasks that one suits, the lowest and the highest
    decades            between these two
    schedule, lr       the single best configuration, chosen on these very tasks
    mean, worst        its regret: over the tasks, weighted by their regimes, and of the task where it is worst

and for every split, over its optimizers, <split>.mean and <split>.worst, <split>.families, how many, <split>.seeds of
each configuration, and of its tasks <split>.<n_steps, epochs, batch_size, parameters>, lowest and highest. Of no split:
quick, left_out (tasks on which no training improves on its start) and torch. The single best configurations of the
training split are the calibrated schedule, a rival; the winners on the tasks of the other splits are their oracles.
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
from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.config import load
from pipeline.engines import engine
from pipeline.evaluation import aggregates, oracle
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.oracle import Winners, against_oracle
from pipeline.evaluation.rivals import CALIBRATED, NADAMW, nadamw_settings
from pipeline.evaluation.splits import KINDS, SPLITS, Task, entry, full, tasks
from pipeline.paths import BENCHMARK_CACHE
from pipeline.reporting import markdown
from pipeline.workloads.base import REGIMES
from pipeline.workloads.families import names

OUT, PAGE = Path("benchmarks/results/spread.json"), Path("docs/benchmark.md")
SEEDS, TUNING_SEEDS = 5, 3
CHOOSE = {"train": 2, "selection": TUNING_SEEDS, "heldout": TUNING_SEEDS}  # seeds of the grids
HOPELESS = 0.9  # regret of a task's best constant rate from which on no constant rate suits it
DECADES = {"heldout.adam": 2.0, "heldout.adamw": 2.0, "heldout.sgd": 2.0, "heldout.ordinary": 1.5}  # bars
HELD_OUT = {"mean": 0.04, "worst": 0.12}  # bars, of the single best configuration
QUICK = {"train": ("illconditioned",), "selection": ("diabetes",), "heldout": ("mnist_overfit",)}
RANGES = ("n_steps", "epochs", "batch_size", "parameters")


def bench(split: str, quick: bool) -> Benchmark:
    """The tasks of a split."""
    return Benchmark(
        tasks(QUICK[split], 1) if quick else every_task(split), load(Path()).regimes.shares,
        2 if quick else SEEDS, 2 if quick else CHOOSE[split], (), engine("local"), BENCHMARK_CACHE,
    )  # fmt: skip


def every_task(split: str) -> list[Task]:
    """All tasks of a split."""
    return [task for name in names(split) for task in tasks([name], full(name))]


def figures(rows: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, Any]:
    """The figures of all splits, flat; of rows with whole grids."""
    out: dict[str, Any] = {}
    for split in rows.split.unique():
        part = rows.query("kind == 'grid' and split == @split")
        adam = part.query("optimizer in ('adam', 'adamw')")
        for regime in adam.regime.unique():
            of_constants = constants(adam.query("regime == @regime"))
            out |= {f"{split}.{regime}.{key}": value for key, value in of_constants.items()}
        every: dict[str, float] = {}
        for optimizer in part.optimizer.unique():
            mine = part.query("optimizer == @optimizer")
            single, regret = single_best(mine, shares)
            out |= {f"{split}.{optimizer}.{key}": value for key, value in (constants(mine) | single).items()}
            every |= regret
        weights = aggregates.weights(every, part, shares)
        regret = np.array([*every.values()])
        out |= {f"{split}.mean": float(regret @ weights), f"{split}.worst": float(regret.max())}
    return out


def constants(rows: pd.DataFrame) -> dict[str, Any]:
    """How far apart the best constant rates of tasks lie."""
    constant = rows[rows.method == "constant"].pivot_table(index="task", columns="lr0", values="regret")
    suited = constant[constant.min(axis=1) < HOPELESS]  # else the lowest rate, which changes nothing, is the best
    if suited.empty:
        return {"tasks": len(constant), "lowest": None, "highest": None, "decades": 0.0}
    best = constant.columns.to_numpy(float)[suited.to_numpy().argmin(axis=1)]
    decades = round(float(np.log10(best.max() / best.min())), 3)
    return {"tasks": len(constant), "lowest": float(best.min()), "highest": float(best.max()), "decades": decades}


def single_best(rows: pd.DataFrame, shares: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, float]]:
    """The configuration that is best on average over all tasks of one optimizer, and its regrets by task."""
    cells = rows.pivot_table(index="task", columns=["method", "lr0"], values="regret")
    means = aggregates.weights(cells.index, rows, shares) @ cells.to_numpy()
    chosen = int(means.argmin())
    regret, (schedule, lr) = cells.to_numpy()[:, chosen], cells.columns[chosen]
    figures = {"schedule": str(schedule), "lr": float(lr), "mean": float(means.min()), "worst": float(regret.max())}
    return figures, dict(zip(cells.index, regret.tolist(), strict=True))


def entries(chosen: Sequence[Task]) -> list[dict[str, Any]]:
    """The entries of these tasks in the file of frozen tasks. Raises KeyError for a task without one."""
    said = {task: entry(task) for task in chosen}
    if missing := [task.name for task, of_task in said.items() if of_task is None]:
        raise KeyError(f"splits.json lacks {', '.join(missing)}; run `python -m pipeline.evaluation.splits`")
    return [of_task for of_task in said.values() if of_task is not None]


def sizes(split: str, measured: Benchmark) -> dict[str, Any]:
    """Lowest and highest values of the properties of a split's tasks; its families and seeds."""
    mine = entries(measured.tasks)
    out: dict[str, Any] = {f"{split}.{what}": [f([e[what] for e in mine]) for f in (min, max)] for what in RANGES}
    families = len({task.family for task in measured.tasks})
    return out | {f"{split}.families": families, f"{split}.seeds": measured.tuning_seeds}


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat; the calibrated schedule and the oracles go to their files."""
    benches = {split: bench(split, quick) for split in SPLITS}
    judged, best = [], dict[Task, Winners]()
    for split, measured in benches.items():
        rows, won = against_oracle(measured)
        judged.append(rows)
        best |= won if split != "train" else {}
    rows = oracle.whole_grid(pd.concat(judged, ignore_index=True))
    left_out = sum(len(measured.tasks) for measured in benches.values()) - rows.task.nunique()
    out = {"quick": quick, "left_out": left_out, "torch": torch.__version__}
    out |= figures(rows, load(Path()).regimes.shares)
    for split, measured in benches.items():
        out |= sizes(split, measured)
    if not quick:
        nadamw = {NADAMW: nadamw_settings()}  # benchmarks.nadamw_rate writes it
        CALIBRATED.write_text(json.dumps(calibrated(out) | nadamw, indent=1) + "\n", encoding="utf-8")
        if changed := oracle.changed_winners(best):
            print(f"spread: oracles.json changes for {', '.join(changed)}", flush=True)
        oracle.freeze(best)
    return out


def calibrated(r: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each optimizer the single best configuration on the training split."""
    return {o: {"schedule": r[f"train.{o}.schedule"], "lr0": r[f"train.{o}.lr"]} for o in KINDS}


def missed(r: Mapping[str, Any]) -> list[str]:
    """A message for every bar that is missed."""
    bars = {f"{key}.decades": bar for key, bar in DECADES.items()}
    bars |= {f"heldout.{key}": bar for key, bar in HELD_OUT.items()}
    return [f"{key}: {r[key]:.3g}, want at least {bar:g}" for key, bar in bars.items() if r.get(key, bar) < bar]


def render(r: Mapping[str, Any]) -> str:
    """Markdown: what the tasks are; a row of each split and optimizer, and of each split."""
    head = ["split", "families", "steps", "epochs", "batch", "parameters", "seeds"]
    splits = []
    for split in SPLITS:
        spans = (r[f"{split}.{what}"] for what in RANGES)
        ranges = (f"{low:,.4g} to {high:,.6g}" for low, high in spans)
        splits.append([split, str(r[f"{split}.families"]), *ranges, str(r[f"{split}.seeds"])])
    tops = ["split", "tasks of", "tasks", "best constant rate", "decades", "single best", "mean regret", "worst task"]
    rows = []
    for split in SPLITS:
        for part in (part for part in (*OPTIMIZERS, *REGIMES) if f"{split}.{part}.tasks" in r):
            of = {k.rpartition(".")[2]: v for k, v in r.items() if k.startswith(f"{split}.{part}.")}
            span = f"{of['lowest']:g} to {of['highest']:g}" if of["lowest"] else "–"
            cells = ["", "", ""]
            if "schedule" in of:
                cells = [f"{of['schedule']}, {of['lr']:g}", *(f"{of[key]:.3f}" for key in ("mean", "worst"))]
            name = part if part in OPTIMIZERS else f"{part}, adam and adamw"
            rows.append([split, name, f"{of['tasks']}", span, f"{of['decades']:.1f}", *cells])
        if f"{split}.mean" in r:
            mean, worst = (f"{r[f'{split}.{key}']:.3f}" for key in ("mean", "worst"))
            rows.append([f"**{split}**", "all", "", "", "", "one per optimizer", mean, worst])
    last = f"Seeds are per configuration. Tasks left out: {r['left_out']}. Measured with torch {r['torch']}."
    return "\n\n".join([markdown.table(head, splits), markdown.table(tops, rows, "llrrrrrr"), last])


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "How far best learning rates lie apart.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
