"""The policy beside rivals that are no schedule, beside random search, and beside anybody's own scheduler.

    python -m benchmarks.peers                                    # 15 minutes; writes benchmarks/results/peers.json,
                                                                  # docs/benchmark.md
    python -m benchmarks.peers --scheduler my_module:my_factory   # one's own as well, printed; --only prodigy leaves
                                                                  # the other rivals out

It takes tasks, seeds, oracles and the policy's runs from the last `evaluate` (artifacts/evaluation.parquet) and trains
the rivals of `pipeline/rivals.py` on the same tasks, from the same weights, through the same batches. Keys, for every
method: <method>.mean, .low, .high (95 % interval), .iqm, .worst (task); but for the policy, .minus, .minus_low,
.minus_high (the policy's regret minus the method's) and .wins (share of pairs in which the policy has the lower one);
of a rival, .seconds per training. random_search_3 and _5 are the expected best of so many trials, drawn from the
grid of the oracle and chosen by validation loss; worth is the number of trials that search needs to come as far as the
policy (0: more than the grid has). And tasks, seeds, benchmark (the hash of what was run), torch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import command
from pipeline import rivals, search, stats
from pipeline.benchmark import VAL_EXAMPLES, Task
from pipeline.config import EvaluateConfig, load
from pipeline.engines import engine, progress, results
from pipeline.paths import Paths

OUT, PAGE = Path("benchmarks/results/peers.json"), Path("docs/benchmark.md")
SHOWN = {  # of the evaluation's methods, and what the table calls them
    ("policy", "policy"): "**learned policy**", ("policy", "policy_val"): "learned policy + validation loss",
    ("rival", "calibrated"): "calibrated schedule", ("rival", "finder_steepest"): "LR finder (steepest descent)",
    ("rival", "finder_tenth"): "LR finder (tenth of blow-up)",
}  # fmt: skip
NAMES = {
    "plateau": "ReduceLROnPlateau", "greedy": "GreedyLR (transformers)", "schedule_free": "schedule-free AdamW / SGD",
    "prodigy": "Prodigy", "prodigy_cosine": "Prodigy + cosine", "d_adaptation": "D-Adaptation Adam / SGD",
    "d_adaptation_cosine": "D-Adaptation + cosine", "random_search_3": "random search, 3 trials",
    "random_search_5": "random search, 5 trials",
}  # fmt: skip
TRIALS = (3, 5)


@dataclass(frozen=True)
class Job:
    """One rival on one task with one seed."""

    task: Task
    milestones: tuple[int, ...]
    rival: str  # of RIVALS, or module:factory
    seed: int


def recipe(name: str) -> rivals.Recipe:
    """Of a rival by name, or of a scheduler's factory by module:factory. Raises SystemExit for what there is not."""
    if name in rivals.RIVALS:
        return rivals.RIVALS[name]
    module, _, factory = name.partition(":")
    try:
        return rivals.of_scheduler(getattr(importlib.import_module(module), factory))
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(
            f"--scheduler {name!r}: {error}; want module:factory, where factory(optimizer, total_steps) makes one"
        ) from None


def run(job: Job) -> dict[str, Any]:
    """A row: what the training came to."""
    torch.set_num_threads(1)
    workload, begin = job.task.sample(), time.perf_counter()
    found = rivals.train(workload, [job.seed], recipe(job.rival), VAL_EXAMPLES, job.milestones)
    assert found.test_loss is not None
    return {
        "task": job.task.name, "method": job.rival, "seed": job.seed, "test_loss": float(found.test_loss[0]),
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def plan(rows: pd.DataFrame, names: Sequence[str]) -> list[Job]:
    """Every rival on the tasks and seeds of the evaluation."""
    jobs = []
    for name, part in rows.groupby("task", sort=True):
        head = part.iloc[0]
        task, points = Task(head.split, head.family, int(str(name).rpartition("-")[2])), tuple(head.milestones.tolist())
        jobs += [Job(task, points, rival, int(seed)) for rival in names for seed in sorted(part.seed.unique())]
    return jobs


def add_regret(found: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Regrets by the oracles of the evaluation."""
    facts = rows.groupby("task")[["oracle_loss", "initial_loss"]].first()
    loss, oracle, initial = found.test_loss, found.task.map(facts.oracle_loss), found.task.map(facts.initial_loss)
    return found.assign(regret=stats.normalised_regret(loss, oracle, initial))


def table(part: pd.DataFrame) -> np.ndarray:
    """Regrets (tasks, seeds), in the order of their names."""
    return part.pivot_table(index="task", columns="seed", values="regret").to_numpy()


class Grid:
    """The oracle's grid, as a random search meets it."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._tasks: list[tuple[np.ndarray, np.ndarray]] = []  # validation losses and regrets, (seeds, configurations)
        for _, part in rows[rows.kind == "baseline"].groupby("task", sort=True):
            losses, regrets = (
                part.pivot(index="seed", columns=["method", "lr0"], values=value).to_numpy()
                for value in ("val_loss", "regret")
            )
            self._tasks.append((losses, regrets))
        self.size = min(losses.shape[1] for losses, _ in self._tasks)

    def search(self, trials: int) -> np.ndarray:
        """Expected regrets (tasks, seeds) of so many trials."""
        return np.stack([search.random_search(losses, regrets, trials) for losses, regrets in self._tasks])

    def worth(self, regret: float) -> int:
        """Trials until the mean regret is as low as that; 0: never."""
        return next((n for n in range(1, self.size + 1) if self.search(n).mean() <= regret), 0)


def figures(rows: pd.DataFrame, found: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """All figures, flat."""
    methods = {name: table(rows.query("kind == @kind and method == @name")) for kind, name in SHOWN}
    methods |= {str(name): table(part) for name, part in found.groupby("method", sort=False)}
    grid = Grid(rows)
    methods |= {f"random_search_{n}": grid.search(n) for n in TRIALS}
    policy, rng, out = methods["policy"], np.random.default_rng(config.seed), dict[str, Any]()
    for name, regrets in methods.items():
        summary = stats.summary(regrets, n_resamples=config.bootstrap, rng=rng)
        out |= {f"{name}.{key}": value for key, value in summary.items()}
        if name != "policy":
            gap = stats.difference_estimate(policy, regrets, n_resamples=config.bootstrap, rng=rng)
            out |= {f"{name}.minus": gap.value, f"{name}.minus_low": gap.low, f"{name}.minus_high": gap.high}
            out[f"{name}.wins"] = stats.share_won(policy, regrets)
    out |= {f"{name}.seconds": float(part.seconds.mean()) for name, part in found.groupby("method")}
    worth, (tasks, seeds) = grid.worth(policy.mean()), policy.shape
    return out | {"worth": worth, "tasks": tasks, "seeds": seeds, "torch": torch.__version__}


def measure(root: Path, names: Sequence[str]) -> dict[str, Any]:
    """Train the rivals on the tasks of the last evaluation; all figures."""
    paths = Paths(root)
    if not paths.evaluation.exists():
        raise SystemExit(f"{paths.evaluation}: no such file; run `make repro` first, which evaluates the policy")
    rows, config = pd.read_parquet(paths.evaluation), load(root).evaluate
    jobs = plan(rows, names)
    done = results(engine("local", config.workers).imap_unordered(run, jobs))
    found = pd.DataFrame([*progress(done, len(jobs), "peers", lambda _: 1.0, "trainings")])
    found = add_regret(found, rows).sort_values(["method", "task", "seed"])
    benchmark = json.loads(paths.evaluate_metrics.read_text())["benchmark"]
    return figures(rows, found, config) | {"benchmark": benchmark}


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each method by its mean, and what the policy is worth."""
    head = ["method", "mean regret", "95 % interval", "policy minus it (95 %)", "policy wins", "worst task"]
    rows = [head, ["---", *["---:"] * 5]]
    labels = {name: label for (_, name), label in SHOWN.items()} | NAMES
    for name in sorted((key.removesuffix(".mean") for key in r if key.endswith(".mean")), key=lambda n: r[f"{n}.mean"]):
        mean, low, high, worst = (f"{r[f'{name}.{key}']:.3f}" for key in ("mean", "low", "high", "worst"))
        gap, wins = "–", "–"
        if name != "policy":
            gap = f"{r[f'{name}.minus']:+.3f} ({r[f'{name}.minus_low']:+.3f} to {r[f'{name}.minus_high']:+.3f})"
            wins = f"{100 * r[f'{name}.wins']:.0f} %"
        label, gap = labels.get(name, f"`{name}`"), gap.replace("-", "\N{MINUS SIGN}")
        rows.append([label, mean, f"{low} to {high}", gap, wins, worst])
    worth = f"{r['worth']} trials" if r["worth"] else "more trials than the grid has"
    last = (
        f"{r['tasks']} tasks, {r['seeds']} seeds each, benchmark `{r['benchmark']}`. Random search over schedules and "
        f"rates of the grid needs {worth} to come as far as the policy. Measured with torch {r['torch']}."
    )
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", last])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The policy beside rivals that are no schedule, and your own.")
    parser.add_argument("--root", type=Path, default=Path("."), help="of the profile that was evaluated (default: .)")
    parser.add_argument("--scheduler", action="append", default=[], metavar="MODULE:FACTORY", help="your own as well")
    parser.add_argument("--only", nargs="*", choices=[*rivals.RIVALS], help="these rivals alone (default: all)")
    parser.add_argument("--out", type=Path, help=f"where the figures go (default: {OUT}, or nowhere with an option)")
    args = parser.parse_args(argv)
    for name in args.scheduler:
        recipe(name)  # an error now, not in a worker
    whole = not args.scheduler and args.only is None and args.root == Path(".") and args.out is None
    chosen = [*(rivals.RIVALS if args.only is None else args.only), *args.scheduler]
    found = measure(args.root, chosen)
    if whole or args.out is not None:
        command.write(found, render(found), args.out or OUT, PAGE if whole else None)
    else:
        print(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
