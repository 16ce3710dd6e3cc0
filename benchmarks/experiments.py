"""What a policy is worth by how it was made: variants, trained on the last collection, judged on the selection split.

    python -m benchmarks.experiments reward    # minutes; writes benchmarks/results/experiments/reward.json and the part
                                               # of docs/experiments.md that has its name; no name: lists them

Every variant trains one agent for each of SEEDS; each agent is a policy of its own, so what training seeds change is
seen. A policy runs on all tasks of the selection split: as it comes (told the training loss and the size of the
data), shown the validation loss, and not told of the data. Keys, for every variant: <variant>.mean, .low, .high (95 %
interval, training seeds and evaluation seeds resampled), .worst (family), .best (checkpoint), .error, .val
(validation loss shown), .steps (not told how many data there are), .agents (mean of each), and but for the first,
.minus, .minus_low, .minus_high (its regret minus the first's). Trainings are kept, as those of the benchmark are, and
policies in .experiments_cache, by the hash of what they were made of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import command, spread
from lrpilot.actions import ActionEquation
from lrpilot.features import NAMES, VERSION
from lrpilot.manifest import FORMAT, Manifest
from lrpilot.pilot import Protocol
from pipeline import sources, stats, verdict
from pipeline.benchmark import Bench, add_regret, oracles, train_grid, with_facts
from pipeline.config import FEATURES, Params, RewardConfig, TrainConfig, load
from pipeline.engines import engine, progress, results
from pipeline.export import GOLDEN
from pipeline.paths import BENCHMARK_CACHE, Paths
from pipeline.splits import tasks
from pipeline.trial import Method
from pipeline.workloads.registry import names
from policy import agents, export, trajectories
from policy.dataset import mask
from policy.mdp import Reward
from policy.store import Masks, Store, build

RESULTS, PAGE = Path("benchmarks/results/experiments"), Path("docs/experiments.md")
POLICIES, STORE = Path(".experiments_cache"), "store"
SPLIT = "selection"
SEEDS = (10, 11, 12)  # of training
RUNS = 3  # evaluation seeds
CODE = ("policy/*.py", "benchmarks/experiments.py")
RESAMPLES = 2000


@dataclass(frozen=True)
class Variant:
    """How a policy is made: what differs from params.yaml."""

    train: Mapping[str, Any] = field(default_factory=dict)
    reward: Mapping[str, Any] = field(default_factory=dict)
    action: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0  # of the recorded tasks of each family
    families: int | None = None  # only so many of them
    later: float = 1.0  # what actions after the first one are multiplied by


@dataclass(frozen=True)
class Experiment:
    """A question, and the variants that answer it; the first is what the others are compared with."""

    question: str
    variants: Mapping[str, Variant]


PLAIN = Variant()
OPEN = ("clock", "epochs", "probe")  # nothing of what a policy itself does to a training

EXPERIMENTS = {
    "algorithm": Experiment(
        "Which of d3rlpy's algorithms?",
        {
            "TD3+BC, full returns, α 8": PLAIN,
            "TD3+BC, α 2.5": Variant({"alpha": 2.5}),
            "TD3+BC, α 20": Variant({"alpha": 20.0}),
            "TD3+BC, 1-step": Variant({"n_step": 1}),
            "TD3+BC, 8-step": Variant({"n_step": 8}),
            "IQL": Variant({"algorithm": "iql"}),
            "CQL, α 1": Variant({"algorithm": "cql", "alpha": 1.0}),
            "discrete CQL, α 0.1": Variant({"algorithm": "discretecql", "alpha": 0.1}),
            "BC": Variant({"algorithm": "bc"}),
        },
    ),
    "action": Experiment(
        "Should a later action move the level, or name it, and how far?",
        {
            "move": PLAIN,
            "name": Variant(action={"moves": False}),
            "name, α 2.5": Variant({"alpha": 2.5}, action={"moves": False}),
            "move half as far": Variant(later=0.5),
            "hold what the first names": Variant(later=0.0),
        },
    ),
    "reward": Experiment(
        "What should a decision be paid for?",
        {
            "regret, nearly linear": PLAIN,
            "regret, knee 0.3": Variant(reward={"regret_weight": 1.0, "knee": 0.3}),
            "log regret": Variant(reward={"regret_weight": 1.0, "knee": 0.03}),
            "log loss": Variant(reward={"loss_weight": 1.0, "regret_weight": 0.0}),
            "log loss and log regret": Variant(reward={"loss_weight": 0.7, "regret_weight": 0.5, "knee": 0.03}),
        },
    ),
    "features": Experiment(
        "Which groups of features does it need?",
        {
            "all": PLAIN,
            "clock": Variant({"features": ("clock",)}),
            "clock, epochs, probe": Variant({"features": OPEN}),
            "and validation loss": Variant({"features": (*OPEN, "validation")}),
            "and losses": Variant({"features": (*OPEN, "loss")}),
            "and losses, gradients, updates": Variant({"features": (*OPEN, "loss", "sketch")}),
            "and level": Variant({"features": (*OPEN, "level")}),
            "all but the probe": Variant({"features": tuple(f for f in FEATURES if f != "probe")}),
        },
    ),
    "masks": Experiment(
        "How often should training hide what the default call does not tell?",
        {
            "validation half, data a third": PLAIN,
            "always": Variant({"mask_validation": 1.0, "mask_epochs": 1.0}),
            "four of five": Variant({"mask_validation": 0.8, "mask_epochs": 0.8}),
        },
    ),
    "data": Experiment(
        "How many recorded tasks, from how many families?",
        {
            "all": PLAIN,
            "half of the tasks": Variant(share=0.5),
            "a quarter": Variant(share=0.25),
            "a tenth": Variant(share=0.1),
            "half of the families": Variant(families=10),
        },
    ),
    "network": Experiment(
        "How large a network, trained for how long?",
        {
            "2 × 96, 8,000 steps": PLAIN,
            "2 × 32": Variant({"hidden": (32, 32)}),
            "2 × 256": Variant({"hidden": (256, 256)}),
            "3 × 96": Variant({"hidden": (96, 96, 96)}),
            "4,000 steps": Variant({"steps": 4000}),
            "16,000 steps": Variant({"steps": 16000}),
        },
    ),
}


class Later(torch.nn.Module):
    """A network whose actions after the first one are multiplied by a factor."""

    def __init__(self, network: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self._network, self._factor = network, factor

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        first = observation[:, NAMES.index("first"), None]
        return self._network(observation) * (first + self._factor * (1 - first))


def made_of(variant: Variant, params: Params, seed: int, data: str) -> str:
    """Hash of everything that decides a policy."""
    config, reward = settings(variant, params)
    content = asdict(variant) | {"params": asdict(config), "reward": asdict(reward)}
    content |= {"seed": seed, "data": data, "code": sources.digest(CODE)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def settings(variant: Variant, params: Params) -> tuple[TrainConfig, RewardConfig]:
    return replace(params.train, **variant.train), replace(params.reward, **variant.reward)


def chosen(variant: Variant, found: Sequence[Path]) -> list[Path]:
    """The recorded tasks that a variant learns from: the first ones of each family, whose names are hashes."""
    by_family: dict[str, list[Path]] = {}
    for path in sorted(found):
        by_family.setdefault(path.parent.name, []).append(path)
    kept = sorted(by_family)[:: max(len(by_family) // (variant.families or len(by_family)), 1)]
    return [p for name in kept for p in by_family[name][: max(round(variant.share * len(by_family[name])), 1)]]


def train(job: tuple[str, Variant, int], folder: Path, params: Params, golden: np.ndarray) -> str:
    """Train one agent on the store below `folder` and export it there as a policy; its name."""
    name, variant, seed = job
    config, reward = settings(variant, params)
    data = Store.open(folder / STORE).masked(Masks(config.mask_validation, config.mask_epochs), seed)
    data = data.limited(config.features)
    algorithm = agents.train(data, agents.Settings.of(config), seed)
    told = {"algorithm": config.algorithm, "params": asdict(config), "reward": asdict(reward), "seed": seed}
    protocol = Protocol(action=ActionEquation(**variant.action))
    manifest = Manifest(FORMAT, VERSION, NAMES, protocol, ("adam", "adamw", "sgd"), told, {})
    network = export.Masked(agents.Network(algorithm), mask(config.features))
    export.write(Later(network, variant.later), manifest, golden, folder / f"{name}.partial")
    (folder / f"{name}.partial").replace(folder / f"{name}.onnx")  # at once, or not at all
    return name


def policies(variants: Iterable[Variant], root: Path) -> dict[tuple[int, int], str]:
    """By number of the variant and training seed the path of its policy, trained where there is none."""
    paths, params = Paths(root), load(root)
    found = trajectories.files(paths.trajectories)
    data, golden = trajectories.fingerprint(found), export.recorded_observations(paths.trajectories, GOLDEN)
    pool, out = engine("local"), {}
    for i, variant in enumerate(variants):
        jobs = {seed: made_of(variant, params, seed, data) for seed in SEEDS}
        todo = [(name, variant, seed) for seed, name in jobs.items() if not (POLICIES / f"{name}.onnx").exists()]
        if todo:
            store = POLICIES / STORE
            store.mkdir(parents=True, exist_ok=True)
            reward = Reward(**asdict(settings(variant, params)[1]))
            equation = ActionEquation(**variant.action)
            build(
                chosen(variant, found), reward, store,
                lambda fn, items: results(pool.imap_unordered(fn, items)), equation,
            )  # fmt: skip
            work = partial(train, folder=POLICIES, params=params, golden=golden)
            list(progress(results(pool.imap_unordered(work, todo)), len(todo), f"variant {i}", lambda _: 1.0, "agents"))
        out |= {(i, seed): str(POLICIES / f"{name}.onnx") for seed, name in jobs.items()}
    return out


def judge(made: Mapping[tuple[int, int], str]) -> pd.DataFrame:
    """All runs of all policies on the selection split, with their regrets."""
    bench = Bench(
        tasks(names(SPLIT), spread.full(SPLIT)), RUNS, spread.TUNING_SEEDS, (), engine("local"), BENCHMARK_CACHE
    )
    _, runs = oracles(bench, train_grid(bench))
    methods = [
        Method(mode, f"{i}.{seed}", policy=path, validation=mode == "val", epochs=mode != "steps")
        for (i, seed), path in made.items()
        for mode in ("policy", "val", "steps")
    ]
    runs += [r for t in bench.tasks for r in bench.runs(methods, t)]
    rows = add_regret(with_facts(bench.compute(runs, "experiment"), bench))
    split = rows.method[rows.kind != "oracle"].str.partition(".")
    return rows.assign(variant=split[0].astype(float), agent=split[2].astype(float))


def figures(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """All figures, flat."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    shown = rows.query("kind == 'policy'")
    # (tasks, training seeds x evaluation seeds): both are resampled, within each task
    tables = [
        part.pivot(index="task", columns=["agent", "seed"], values="regret").to_numpy()
        for _, part in shown.groupby("variant")
    ]
    for i, (label, table) in enumerate(zip(labels, tables, strict=True)):
        mine = shown.query("variant == @i")
        estimate = stats.mean_estimate(table, n_resamples=RESAMPLES, rng=rng)
        told = {kind: part.regret for kind, part in rows[rows.variant == i].groupby("kind")}
        out |= {
            f"{label}.mean": estimate.value, f"{label}.low": estimate.low, f"{label}.high": estimate.high,
            f"{label}.worst": float(mine.groupby("family").regret.mean().max()),
            f"{label}.best": float(mine.best_regret.mean()), f"{label}.error": float(mine.error_regret.mean()),
            f"{label}.val": float(told["val"].mean()), f"{label}.steps": float(told["steps"].mean()),
            f"{label}.agents": mine.groupby("agent").regret.mean().tolist(),
        }  # fmt: skip
        if i:
            gap = stats.difference_estimate(table, tables[0], n_resamples=RESAMPLES, rng=rng)
            out |= {f"{label}.minus": gap.value, f"{label}.minus_low": gap.low, f"{label}.minus_high": gap.high}
    return out


def render(r: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Markdown: a row of each variant."""
    head = ["variant", "mean regret", "95 %", "single agents", "minus the first (95 %)", "worst family",
            "best checkpoint", "error", "with validation loss", "not told of the data"]  # fmt: skip
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for label in labels:
        of = {key.rpartition(".")[2]: value for key, value in r.items() if key.rpartition(".")[0] == label}
        gap = "–"
        if "minus" in of:
            low, high = (verdict.number(of[key], sign=True) for key in ("minus_low", "minus_high"))
            gap = f"{verdict.number(of['minus'], sign=True)} ({low} to {high})"
        rows.append([
            label, verdict.number(of["mean"]), verdict.interval(of["low"], of["high"]),
            ", ".join(f"{value:.3f}" for value in of["agents"]), gap,
            *(verdict.number(of[key], 2) for key in ("worst", "best", "error")),
            *(verdict.number(of[key]) for key in ("val", "steps")),
        ])  # fmt: skip
    last = f"{r['tasks']} tasks of the {SPLIT} split, {r['runs']} evaluation seeds, data `{r['data'][:12]}`."
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", last])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a policy is worth by how it was made.")
    parser.add_argument("name", nargs="?", choices=[*EXPERIMENTS], help="of the experiment; none: list them")
    parser.add_argument("--root", type=Path, default=Path("."), help="of the profile with the collection (default: .)")
    args = parser.parse_args(argv)
    if args.name is None:
        print(*(f"{name:12} {item.question}" for name, item in EXPERIMENTS.items()), sep="\n")
        return 0
    experiment = EXPERIMENTS[args.name]
    labels = [*experiment.variants]
    made = policies(experiment.variants.values(), args.root)
    rows = judge(made)
    data = trajectories.fingerprint(trajectories.files(Paths(args.root).trajectories))
    found = figures(rows, labels) | {"tasks": int(rows.task.nunique()), "runs": RUNS, "data": data}
    command.write(found, render(found, labels), RESULTS / f"{args.name}.json", PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
