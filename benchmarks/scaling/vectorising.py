"""What vectorising buys a collection: member-steps per second of a population against one training at a time.

    python -m benchmarks.scaling.vectorising            # 6 minutes; writes docs/scaling.md and
                                                        # benchmarks/results/vectorising.json
    python -m benchmarks.scaling.vectorising --check    # and fails where a bar is missed

Every kind of model has one workload, the family's draw of median cost among its first fifteen. All loops run in one
process on one thread, a whole training (or population) after the other in an order shuffled anew in every round: same
initial weights, batches, optimizer and learning rates. Member-steps per second of processor time, as <kind>.<figure>:

    bare_per_s           population of 64: training steps, one validation before and one after them
    telemetered_per_s    the same inside `simulate`: pilot, probe, sketches, losses, behaviour
    telemetered_16_per_s the same with 16 members
    recorded_per_s       64 members, and a validation at every decision, as in a recorded training
    plain_per_s          one training at a time in the loop that everybody writes, `torch.optim`, no telemetry
    gym_per_s            one training at a time in an environment (`StepEnv`)

and from them, medians over `rounds` of paired ratios, each with _low and _high of its 95 % interval:

    over_plain, over_plain_16    telemetered over plain, with 64 and with 16 members
    over_gym                     recorded over gym: both validate, at every decision and at every step
    recorded_over_plain          recorded over plain: one validates, the other does not
    telemetry_share              what telemetry adds to a bare step, in bare steps
    validation_share             what the validations at decisions add to a telemetered step, in bare steps

with workload, family, optimizer, parameters, batch_size, n_steps. Of no kind: quick, load_average (of one minute,
before anything ran), torch, numpy, onnxruntime, python, processor, threads; and, but for --quick, workers_meaningful
(0: the machine had other work, or one core) and, where that is 1, workers_speedup (items per second of two workers over
one, with _low and _high) and what two workers record of the first `mix_tasks` tasks that params.yaml asks for:
mix_runs, mix_runs_per_hour, by the wall. Where there is a GPU, for the kinds of GPU_AT_LEAST: <kind>.gpu_per_s,
member-steps per second of the wall of GPU_MEMBERS members, and <kind>.gpu_over_core, over telemetered_per_s.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import command
from benchmarks.environment import environment
from benchmarks.scaling.training_loops import bare, drive, plain, recorded
from benchmarks.scaling.two_workers import workers
from benchmarks.timing import clock, estimate
from pipeline.engines import settle
from pipeline.reporting import markdown
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family

OUT, PAGE = Path("benchmarks/results/vectorising.json"), Path("docs/scaling.md")
KINDS = {  # kind -> family, and what the draw's name holds
    "mlp": ("digits_mlp", ""),
    "deep_mlp": ("classification", ""),
    "linear": ("illconditioned", ""),
    "bag": ("topics_bag", ""),
    "gru": ("markov_rnn", "gru"),
    "transformer": ("markov_transformer", ""),
    "cnn": ("photos_cnn", ""),
    "batch_norm_cnn": ("pictures_conv", "batchnorm"),
    "vit": ("pictures_vit", ""),
    "gpt": ("grammar_lm", "gpt"),
    "table": ("mixed_table", "batchnorm"),
}
AT_LEAST = {  # over_plain
    "mlp": 5.0, "deep_mlp": 5.0, "gru": 1.5, "transformer": 1.5, "cnn": 1.0, "batch_norm_cnn": 2.0, "vit": 2.0,
    "gpt": 2.0, "table": 2.0,
}  # fmt: skip
TELEMETRY = 0.15  # telemetry_share, at most
BARS = {f"{kind}.over_plain": bar for kind, bar in AT_LEAST.items()} | {
    f"{kind}.telemetry_share": TELEMETRY for kind in KINDS
}
GPU_AT_LEAST = {"mlp": 50.0, "deep_mlp": 50.0}  # gpu_over_core
GPU_MEMBERS = 4096
OF_WORKERS = {"workers_speedup": 1.85, "mix_runs_per_hour": 20_000}
SINGLE = 2  # trainings of each one-at-a-time loop in a round


@dataclass(frozen=True)
class Effort:
    """How much is measured of one workload."""

    n_steps: int
    members: int  # of a population
    few: int  # of a small one
    rounds: tuple[int, int]  # at least, at most
    seconds: float  # wall time after which no round above the least begins
    draws: int = 15  # of a family, of which the one of median cost is taken


FULL = Effort(n_steps=300, members=64, few=16, rounds=(2, 9), seconds=12.0)
QUICK = Effort(n_steps=20, members=3, few=2, rounds=(2, 2), seconds=0.0, draws=5)


def typical(kind: str, effort: Effort) -> Workload:
    """The draw of median cost (parameters x batch size) among the first of the kind's family."""
    name, holds = KINDS[kind]
    draws = (family(name).sample(np.random.default_rng(seed)) for seed in range(effort.draws))
    by_cost = sorted((w for w in draws if holds in w.name), key=lambda w: parameters(w) * w.batch_size)
    return replace(by_cost[len(by_cost) // 2], n_steps=effort.n_steps)


def parameters(workload: Workload) -> int:
    return sum(p.numel() for p in workload.initialise(0).parameters())


def compare(workload: Workload, effort: Effort) -> dict[str, Any]:
    """The figures of one workload."""
    seeds, few, singles = range(effort.members), range(effort.few), range(SINGLE)
    record = recorded(workload, seeds, False)
    assert record.lr_curve is not None
    rates = record.lr_curve
    if record.probe is not None:  # it is rolled back: without that, its rates would end most trainings
        probed = record.probe.loss.shape[1]
        rates[:probed] = rates[probed]
    loops: dict[str, tuple[int, Callable[[], object]]] = {  # members, what trains them
        "bare": (len(seeds), lambda: bare(workload, seeds, rates)),
        "telemetered": (len(seeds), lambda: recorded(workload, seeds, False)),
        "recorded": (len(seeds), lambda: recorded(workload, seeds, True)),
        "telemetered_16": (len(few), lambda: recorded(workload, few, False)),
        "plain": (SINGLE, lambda: [plain(workload, seed, rates[:, seed]) for seed in singles]),
        "gym": (SINGLE, lambda: [drive(workload, seed, rates[:, seed]) for seed in singles]),
    }
    names, order = list(loops), np.random.default_rng(0)
    taken: list[dict[str, float]] = []  # seconds per member-step
    start = time.monotonic()
    while len(taken) < effort.rounds[0] or (
        len(taken) < effort.rounds[1] and time.monotonic() - start < effort.seconds
    ):
        gc.collect()
        shuffled = [names[i] for i in order.permutation(len(names))]
        taken.append({name: clock(loops[name][1]) / loops[name][0] / workload.n_steps for name in shuffled})
    time_of = {name: np.array([row[name] for row in taken]) for name in names}
    added = time_of["telemetered"] - time_of["bare"]
    validation = time_of["recorded"] - time_of["telemetered"]
    return {
        "workload": workload.name, "family": workload.family, "optimizer": workload.optimizer,
        "parameters": parameters(workload), "batch_size": workload.batch_size, "n_steps": workload.n_steps,
        "rounds": len(taken),
        **{f"{name}_per_s": float(1 / np.median(t)) for name, t in time_of.items()},
        **estimate("over_plain", time_of["plain"] / time_of["telemetered"]),
        **estimate("over_plain_16", time_of["plain"] / time_of["telemetered_16"]),
        **estimate("over_gym", time_of["gym"] / time_of["recorded"]),
        **estimate("recorded_over_plain", time_of["plain"] / time_of["recorded"]),
        **estimate("telemetry_share", added / time_of["bare"]),
        **estimate("validation_share", validation / time_of["bare"]),
    }  # fmt: skip


def on_device(workload: Workload, members: int, device: str) -> float:
    """Member-steps per second of the wall, telemetry included, of the second of two populations."""
    walls: list[float] = []
    for _ in range(2):
        begin = time.perf_counter()
        recorded(workload, range(members), False, device)
        walls.append(time.perf_counter() - begin)
    return members * workload.n_steps / walls[1]


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    settle()  # as workers are
    torch.set_flush_denormal(True)  # else a step's time depends on how far the training got
    load, effort = os.getloadavg()[0], QUICK if quick else FULL
    results: dict[str, Any] = {"quick": quick, "load_average": load, **environment()}
    if not quick:
        results |= workers(load)
    for kind in KINDS:
        figures = compare(typical(kind, effort), effort)
        results |= {f"{kind}.{key}": value for key, value in figures.items()}
    for kind in GPU_AT_LEAST if torch.cuda.is_available() else ():
        per_s = on_device(typical(kind, effort), effort.members if quick else GPU_MEMBERS, "cuda")
        results |= {f"{kind}.gpu_per_s": per_s, f"{kind}.gpu_over_core": per_s / results[f"{kind}.telemetered_per_s"]}
    return results


def missed(results: Mapping[str, Any]) -> list[str]:
    """What to say of every bar that is not met."""
    misses: list[str] = []
    bars = dict(BARS)
    if results.get("workers_meaningful"):
        bars |= OF_WORKERS
    bars |= {key: bar for kind, bar in GPU_AT_LEAST.items() if (key := f"{kind}.gpu_over_core") in results}
    for key, bar in bars.items():
        most = key.endswith("_share")
        if results[key] > bar if most else results[key] < bar:
            misses.append(f"{key}: {results[key]:.3g}, want at {'most' if most else 'least'} {bar:g}")
    return misses


def render(results: Mapping[str, Any]) -> str:
    """Markdown: a row of each kind, and where it was measured."""
    head = [
        "workload", "parameters × batch", "plain", "population", "population / plain", "95 % interval",
        "with 16 members", "recorded / environment", "telemetry", "validation",
    ]  # fmt: skip
    rows = []
    for kind in KINDS:
        r = {k.removeprefix(f"{kind}."): v for k, v in results.items() if k.startswith(f"{kind}.")}
        rows.append([
            f"`{r['workload']}`", f"{r['parameters']:,} × {r['batch_size']}", f"{r['plain_per_s']:,.0f}",
            f"{r['telemetered_per_s']:,.0f}", f"{r['over_plain']:.2f}",
            f"{r['over_plain_low']:.2f} to {r['over_plain_high']:.2f}", f"{r['over_plain_16']:.2f}",
            f"{r['over_gym']:.2f}", percent(r["telemetry_share"]), percent(r["validation_share"]),
        ])  # fmt: skip
    last = f"Measured with torch {results['torch']}, {results['threads']} thread, {results['processor']}."
    if results.get("workers_meaningful"):
        last += (
            f" Two workers do {results['workers_speedup']:.2f} times the work of one "
            f"({results['workers_speedup_low']:.2f} to {results['workers_speedup_high']:.2f}) and record "
            f"{results['mix_runs_per_hour']:,.0f} trainings of the default mix an hour."
        )
    elif "workers_meaningful" in results:
        last += f" Workers not measured: the load average was {results['load_average']:.1f} before the benchmark."
    gpu = [f"{kind} {r:.0f}" for kind in GPU_AT_LEAST if (r := results.get(f"{kind}.gpu_over_core")) is not None]
    last += f" {GPU_MEMBERS:,} members on a GPU over one core: {', '.join(gpu)}." if gpu else " No GPU to measure."
    return f"{markdown.table(head, rows)}\n\n{last}"


def percent(share: float) -> str:
    return f"{100 * share:+.0f} %".replace("-", "\N{MINUS SIGN}")


def main(argv: Sequence[str] | None = None) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of trainings that diverge
        return command.run(argv, "What vectorising buys a collection.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
