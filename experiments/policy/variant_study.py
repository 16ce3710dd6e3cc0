"""How good policies are by how they were made: variants, trained on the last collection, on the selection split.

    python -m experiments.policy.variant_study reward    # minutes; writes experiments/results/variants/reward.json,
                                                         # and the part of docs/experiment_tables.md that has its
                                                         # name; no name: lists them

Every variant trains one agent for each of SEEDS. Each agent is a policy of its own, which shows the effect of training
seeds; the mean of them is one more policy. A policy runs on all tasks of the selection split: by default (it knows the
training loss and the size of the data), with the validation loss, and without the size of the data. Keys, for every
variant: <variant>.mean, .low, .high (95 % interval, training seeds and evaluation seeds resampled), .<regime> (mean
of its tasks; results from before regimes were shown lack it), .worst (family),
.best (checkpoint), .error, .val (validation loss shown), .steps (size of the data hidden), .agents (mean of each),
.together (the policy that is the mean of them), .promised (the value that the critics of each predict for its first
actions on the recorded tasks, in units of the reward; null without critics), and except for the first variant, .minus,
.minus_low, .minus_high (its regret minus the first's). Trainings and policies are cached, as the trainings of the
benchmark are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from benchmarks import command, spread
from experiments.policy.variant import DISTILLED, Variant
from experiments.policy.variant_policies import WORK, agents_of, make, policies_of
from experiments.policy.variants import EXPERIMENTS
from pipeline.agent_training import Agent
from pipeline.config import Params, load
from pipeline.engines import engine
from pipeline.evaluation import aggregates, stats
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.policies import Learned, Ruled
from pipeline.evaluation.oracle import oracles
from pipeline.paths import AGENT_CACHE, BENCHMARK_CACHE, Paths
from pipeline.reporting import markdown, scores, verdict
from pipeline.result_cache import open_cache
from policy import trajectories

RESULTS, PAGE = Path("experiments/results/variants"), Path("docs/experiment_tables.md")
SPLIT = "selection"
RUNS = 2  # evaluation seeds: those of training matter more
TOGETHER = "together"  # as it comes, of all training seeds in one
MODES = {  # whether it knows the size of the data, and the validation loss
    "policy": (True, False), "val": (True, True), "steps": (False, False), TOGETHER: (True, False),
}  # fmt: skip
RESAMPLES = 2000


def methods(variants: Sequence[Variant], params: Params, data: str) -> list[Method]:
    """The methods to run: every policy of every variant in every mode, named <number of the variant>.<of the
    policy>.
    """
    out: list[Method] = []
    for mode, (epochs, validation) in MODES.items():
        for i, variant in enumerate(variants):
            if mode == TOGETHER and (variant.agents or variant.rule):
                continue
            made = policies_of(variant.together() if mode == TOGETHER else variant, params, data)
            out += [
                Learned(
                    mode,
                    f"{i}.{j}",
                    policy=str(WORK / f"{name}.onnx"),
                    unprobed=variant.unprobed,
                    epochs=epochs,
                    validation=validation,
                )
                for j, name in enumerate(made)
            ]
            out += [Ruled(mode, f"{i}.0", rule=variant.rule)] if variant.rule else []
    return out


def judge(judged: Sequence[Method], shares: Mapping[str, float]) -> pd.DataFrame:
    """All their runs on the selection split, with their regrets."""
    bench = Benchmark(
        spread.every_task(SPLIT), shares, RUNS, spread.TUNING_SEEDS, (), engine("local"), BENCHMARK_CACHE
    )  # fmt: skip
    _, runs = oracles(bench)
    runs += [r for t in bench.tasks for r in bench.runs(judged, t)]
    rows = bench.with_regrets(bench.compute(runs, "experiment"))
    split = rows.method[rows.kind != "oracle"].str.partition(".")
    return rows.assign(variant=split[0].astype(float), agent=split[2].astype(float))


def predicted(variant: Variant, params: Params, data: str) -> list[float] | None:
    """The values that the critics of each of a variant's agents predict; None if it has none."""
    if variant.rule or variant.agents == DISTILLED:
        return None
    with open_cache(AGENT_CACHE) as cache:
        values = [cast(Agent, cache[agent.key()]).first_value for agent in agents_of(variant, params, data)]
    return None if None in values else [value for value in values if value is not None]


def figures(rows: pd.DataFrame, labels: Sequence[str], shares: Mapping[str, float]) -> dict[str, Any]:
    """All figures, flat. Means over tasks weight every regime by its share, except those of checkpoints and errors."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    shown, regimes = rows.query("kind == 'policy'"), aggregates.regimes(rows)
    weights = stats.regime_weights([regimes[task] for task in sorted(regimes)], shares)

    def mean(part: pd.DataFrame) -> float:
        return float(part.groupby("task", sort=True).regret.mean().to_numpy() @ weights)

    # (tasks, training seeds x evaluation seeds): both are resampled, within each task
    tables = [
        part.pivot(index="task", columns=["agent", "seed"], values="regret").to_numpy()
        for _, part in shown.groupby("variant")
    ]
    for i, (label, table) in enumerate(zip(labels, tables, strict=True)):
        mine = shown.query("variant == @i")
        estimate = stats.mean_estimate(table, weights=weights, n_resamples=RESAMPLES, rng=rng)
        by_regime = mine.groupby(["regime", "task"]).regret.mean().groupby("regime").mean()
        regrets = {kind: mean(part) for kind, part in rows.query("variant == @i").groupby("kind")}
        out |= {
            f"{label}.mean": estimate.value, f"{label}.low": estimate.low, f"{label}.high": estimate.high,
            **{f"{label}.{regime}": float(by_regime[regime]) for regime in by_regime.index},
            f"{label}.worst": float(mine.groupby("family").regret.mean().max()),
            f"{label}.best": float(mine.best_regret.mean()), f"{label}.error": float(mine.error_regret.mean()),
            f"{label}.val": regrets["val"], f"{label}.steps": regrets["steps"],
            f"{label}.together": regrets.get(TOGETHER),
            f"{label}.agents": [mean(part) for _, part in mine.groupby("agent")],
        }  # fmt: skip
        if i:
            beside = np.tile(table, (1, tables[0].shape[1] // table.shape[1]))  # one policy beside several agents
            gap = stats.difference_estimate(beside, tables[0], weights=weights, n_resamples=RESAMPLES, rng=rng)
            out |= {f"{label}.minus": gap.value, f"{label}.minus_low": gap.low, f"{label}.minus_high": gap.high}
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each variant. Without figures of the three together, there is no column for them."""
    variants: dict[str, dict[str, Any]] = {}
    for label, _, figure in (key.rpartition(".") for key in r if "." in key):
        variants.setdefault(label, {})[figure] = r[f"{label}.{figure}"]
    rows = [_row(label, of) for label, of in variants.items()]
    table = markdown.table([*rows[0]], [[*row.values()] for row in rows])
    tasks = f"{r['tasks']} tasks of the {SPLIT} split, {r['runs']} evaluation seeds, data `{r['data'][:12]}`."
    return f"{table}\n\n{tasks}"


def _row(label: str, of: Mapping[str, Any]) -> dict[str, str]:
    """A variant's cells by the headers of their columns."""
    gap, value = (of.get(key) for key in ("minus", "minus_low", "minus_high")), of["promised"]
    return {
        "variant": label, "mean regret": verdict.number(of["mean"]), "95 %": verdict.interval(of["low"], of["high"]),
        **{title: verdict.number(of[regime]) for regime, title in scores.REGIMES.items() if regime in of},
        "single agents": ", ".join(f"{regret:.3f}" for regret in of["agents"]),
        **({"the three together": verdict.number(of["together"])} if "together" in of else {}),
        "minus the first (95 %)": verdict.difference(*gap) if "minus" in of else "–",
        "worst family": verdict.number(of["worst"], 2), "best checkpoint": verdict.number(of["best"], 2),
        "error": verdict.number(of["error"], 2), "with validation loss": verdict.number(of["val"]),
        "not told of the data": verdict.number(of["steps"]),
        "predicted value": verdict.number(None if value is None else float(np.mean(value))),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a policy is worth by how it was made.")
    parser.add_argument("name", nargs="?", choices=[*EXPERIMENTS], help="of the experiment; without it, all are listed")
    parser.add_argument("--root", type=Path, default=Path("."), help="root of the recorded profile (default: .)")
    args = parser.parse_args(argv)
    if args.name is None:
        print(*(f"{name:12} {item.question}" for name, item in EXPERIMENTS.items()), sep="\n")
        return 0
    experiment = EXPERIMENTS[args.name]
    labels = [*experiment.variants]
    variants, params = [*experiment.variants.values()], load(args.root)
    make(variants, args.root)
    data = trajectories.fingerprint(trajectories.files(Paths(args.root).trajectories))
    shares = params.regimes.shares
    rows = judge(methods(variants, params, data), shares)
    flat = figures(rows, labels, shares) | {"tasks": int(rows.task.nunique()), "runs": RUNS, "data": data}
    flat |= {f"{label}.promised": predicted(v, params, data) for label, v in experiment.variants.items()}
    command.write(flat, render(flat), RESULTS / f"{args.name}.json", PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
