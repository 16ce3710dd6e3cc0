"""What shape the shipped policy's rate should have: how long it climbs to its level, and when it begins to fall.

    python -m experiments.policy.shapes    # a quarter of an hour, then cached; writes experiments/results/shapes.json,
                                           # docs/experiments.md

Copies of the shipped policy's file differ in `ActionEquation.warm_up` and `decay` alone, as SHAPES says. Each drives
all runs of the selection split, with its later moves and with its first level held. The policy learned without a
warm-up, and was not trained again. Figures, as <group>.<warm-up>.<decay>.<method>, for all tasks, weighted by the
shares of their regimes, and for each regime: mean regrets of `policy` and `hold`. Also <warm-up>.<decay>.minus,
minus_low and minus_high: the policy's regret minus that of the policy without a warm-up, and its 95 % interval, which
resamples seeds within tasks; and tasks, seeds, policy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pandas as pd

from benchmarks import command, spread
from experiments.policy import task_trainings
from experiments.policy.task_trainings import SPLIT
from lrpilot import load_policy
from lrpilot.manifest import KEY
from pipeline.config import load
from pipeline.evaluation import aggregates, stats
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.methods.policies import Learned
from pipeline.evaluation.oracle import oracles
from pipeline.paths import DEFAULT_MODEL
from pipeline.reporting import markdown, scores, verdict
from pipeline.workloads.base import REGIMES
from policy import graph

OUT, PAGE = Path("experiments/results/shapes.json"), Path("docs/experiments.md")
PLAIN = (0.0, 0.5)  # the shape that it learned in
SHAPES = (PLAIN, (0.02, 0.5), (0.05, 0.5), (0.1, 0.5), (0.05, 0.3), (0.05, 0.8))  # warm-up, decay
ENDS = ("", "_low", "_high")
METHODS = {"policy": None, "hold": "hold"}  # and their ablations


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    bench = spread.bench(SPLIT, quick)
    with copies(DEFAULT_MODEL / "policy.onnx") as files:
        rows = trained(bench, files)
    out = {"quick": quick, "seeds": bench.seeds, "policy": load_policy("default").manifest.graph}
    out |= {"tasks": int(rows.task.nunique())} | means(rows, bench.shares)
    tasks, plain = by_task(rows, named(*PLAIN))
    weights, resamples = aggregates.weights(tasks, rows, bench.shares), load(Path()).evaluate.bootstrap
    for shape in SHAPES:
        gap = stats.difference_estimate(
            by_task(rows, named(*shape))[1], plain, weights=weights, n_resamples=resamples, rng=np.random.default_rng(0)
        )
        bounds = zip(ENDS, (gap.value, gap.low, gap.high), strict=True)
        out |= {f"{named(*shape)}.minus{end}": value for end, value in bounds}
    return out


def named(warm_up: float, decay: float) -> str:
    return f"{warm_up:g}.{decay:g}"


@contextmanager
def copies(policy: Path) -> Iterator[dict[str, str]]:
    """Files of the policy in each of SHAPES, by its name."""
    manifest = load_policy(policy).manifest
    with TemporaryDirectory() as folder:
        out = dict[str, str]()
        for warm_up, decay in SHAPES:
            action = replace(manifest.protocol.action, warm_up=warm_up, decay=decay)
            changed = replace(manifest, protocol=replace(manifest.protocol, action=action))
            path = Path(folder) / f"{named(warm_up, decay)}.onnx"
            graph.save(onnx.load(policy), {KEY: changed.to_json()}, path)
            out[named(warm_up, decay)] = str(path)
        yield out


def trained(bench: Benchmark, files: Mapping[str, str]) -> pd.DataFrame:
    """Every run of every shape, with its regret: the column `shape` has the name of the shape."""
    _, best = oracles(bench)
    tuned = bench.compute(best, "oracle")
    parts = list[pd.DataFrame]()
    for shape, file in files.items():
        methods = [Learned("policy", name, file, epochs=True, ablation=ablation) for name, ablation in METHODS.items()]
        rows = bench.compute([run for task in bench.tasks for run in bench.runs(methods, task)], f"shape {shape}")
        judged = bench.with_regrets(pd.concat([rows, tuned], ignore_index=True))
        parts.append(judged[judged.kind == "policy"].assign(shape=shape))
    return pd.concat(parts, ignore_index=True)


def means(rows: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, float]:
    """Mean regrets, as <group>.<shape>.<method>."""
    named_rows = rows.assign(way=rows["shape"] + "." + rows.method)
    table = named_rows.pivot_table(index=["task", "regime"], columns="way", values="regret").reset_index()
    return task_trainings.means(table, shares)


def by_task(rows: pd.DataFrame, shape: str) -> tuple[list[str], np.ndarray]:
    """The tasks, and the policy's regrets (tasks, seeds) in this shape."""
    mine = rows[(rows["shape"] == shape) & (rows.method == "policy")]
    table = mine.pivot_table(index="task", columns="seed", values="regret")
    return [*table.index], table.to_numpy()


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each shape; cells of the policy, and for all tasks of its first level held, too."""
    groups = ["all", *(regime for regime in REGIMES if f"{regime}.{named(*PLAIN)}.policy" in r)]
    rows = [
        [
            verdict.percent(warm_up),
            verdict.percent(decay),
            *(verdict.number(r[f"{group}.{(name := named(warm_up, decay))}.policy"]) for group in groups),
            "–" if (warm_up, decay) == PLAIN else verdict.difference(*(r[f"{name}.minus{end}"] for end in ENDS)),
            verdict.number(r[f"all.{name}.hold"]),
        ]
        for warm_up, decay in SHAPES
    ]
    titles = ["climbs for", "falls for", *(scores.REGIMES.get(group, group) for group in groups)]
    scope = f"{r['tasks']} tasks of the {SPLIT} split, {r['seeds']} seeds. Policy `{r['policy'][:12]}`."
    table = markdown.table([*titles, "minus the first row (95 %)", "all, first level held"], rows)
    return f"{table}\n\n{scope}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "The shape of the shipped policy's rate.", OUT, PAGE, measure, render, lambda _: [])


if __name__ == "__main__":
    sys.exit(main())
