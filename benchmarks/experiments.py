"""What a policy is worth by how it was made: variants, trained on the last collection, judged on the selection split.

    python -m benchmarks.experiments reward    # minutes; writes benchmarks/results/experiments/reward.json and the part
                                               # of docs/experiments.md that has its name; no name: lists them

Every variant trains one agent for each of SEEDS; each agent is a policy of its own, so what training seeds change is
seen. A policy runs on all tasks of the selection split: as it comes (told the training loss and the size of the
data), shown the validation loss, and not told of the data. Keys, for every variant: <variant>.mean, .low, .high (95 %
interval, training seeds and evaluation seeds resampled), .worst (family), .best (checkpoint), .error, .val
(validation loss shown), .steps (not told how many data there are), .agents (mean of each), .promised (what the critics
of each say that its first actions are worth, on the recorded tasks, in units of the reward; null without critics), and
but for the first, .minus, .minus_low, .minus_high (its regret minus the first's). Trainings are kept, as those of the
benchmark are; agents, policies and tasks that were recorded anew in .experiments_cache, by the hash of what they were
made of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from benchmarks import command, spread
from benchmarks.ladder import DISTILLED, DIVERGED, EXPERIMENTS, Variant
from lrpilot.actions import ActionEquation
from lrpilot.cadence import CadenceSpec
from lrpilot.features import NAMES, VERSION
from lrpilot.manifest import FORMAT, Manifest
from lrpilot.pilot import Protocol
from pipeline import sources, stats, verdict
from pipeline.benchmark import Bench, add_regret, oracles, train_grid, with_facts
from pipeline.collect import plan
from pipeline.config import CollectConfig, Params, RewardConfig, TrainConfig, load
from pipeline.engines import engine, progress, results
from pipeline.export import GOLDEN
from pipeline.paths import BENCHMARK_CACHE, Paths
from pipeline.recording import record
from pipeline.splits import tasks
from pipeline.trial import Method
from pipeline.workloads.registry import names
from policy import agents, export, trajectories
from policy.dataset import mask
from policy.mdp import Reward
from policy.store import Masks, Store, View, build

RESULTS, PAGE = Path("benchmarks/results/experiments"), Path("docs/experiments.md")
WORK, STORE = Path(".experiments_cache"), "store"
SPLIT = "selection"
SEEDS = (10, 11, 12)  # of training
RUNS = 2  # evaluation seeds: those of training matter more
CODE = ("policy/*.py", "benchmarks/experiments.py")
MODES = {"policy": (True, False), "val": (True, True), "steps": (False, False)}  # told of the data, the validation loss
RESAMPLES = 2000


class Later(torch.nn.Module):
    """A network whose actions after the first one are multiplied by a factor."""

    def __init__(self, network: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self._network, self._factor = network, factor

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        first = observation[:, NAMES.index("first"), None]
        return self._network(observation) * (first + self._factor * (1 - first))


def settings(variant: Variant, params: Params) -> tuple[TrainConfig, RewardConfig]:
    return replace(params.train, **variant.train), replace(params.reward, **variant.reward)


def named(content: dict[str, Any]) -> str:
    """16 hex digits that stand for it, as the code of now makes something of it."""
    told = json.dumps(content | {"code": sources.digest(CODE)}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def agents_of(variant: Variant, params: Params, data: str) -> dict[int, str]:
    """By training seed the name of its agent: a hash of everything that decides it."""
    config, reward = settings(variant, params)
    content = {"train": asdict(config), "reward": asdict(reward), "action": dict(variant.action), "data": data}
    content |= {name: getattr(variant, name) for name in ("share", "families", "without")}
    content |= {"cadence": dict(variant.cadence)} if variant.cadence else {}
    return {seed: named(content | {"seed": seed}) for seed in SEEDS}


def policies_of(variant: Variant, params: Params, data: str) -> dict[str, tuple[str, ...]]:
    """By name of each of its policies the agents that make it."""
    if variant.rule is not None:
        return {}
    found = tuple(agents_of(variant, params, data).values())
    parts = [found] if variant.agents else [(agent,) for agent in found]
    return {named({"agents": part, "later": variant.later, "how": variant.agents}): part for part in parts}


def chosen(variant: Variant, found: Sequence[Path]) -> list[Path]:
    """The recorded tasks that a variant learns from: the first ones of each family, whose names are hashes."""
    by_family: dict[str, list[Path]] = {}
    for path in sorted(found):
        by_family.setdefault(path.parent.name, []).append(path)
    kept = sorted(by_family)[:: max(len(by_family) // (variant.families or len(by_family)), 1)]
    return [p for name in kept for p in by_family[name][: max(round(variant.share * len(by_family[name])), 1)]]


def lacking(path: Path, without: str, folder: Path) -> Path | None:
    """A copy of a recorded task below `folder` that lacks some of its runs; None where no two are left."""
    table = trajectories.read(path)
    column = "reason" if without == DIVERGED else "schedule"
    runs, marked = (np.array(table[name].to_pylist()) for name in ("run_id", column))
    left = table.filter(pa.array(~np.isin(runs, runs[marked == without])))
    if trajectories.count_runs(left) < 2:
        return None
    copy = folder / path.parent.name / path.name
    trajectories.store(trajectories.encode(left), copy)
    return copy


def anew(path: Path, variant: Variant, config: CollectConfig, folder: Path) -> Path:
    """The recorded task at `path`, recorded below `folder` in a variant's cadence."""
    cadence = named({"cadence": dict(variant.cadence)})
    other = folder / cadence / path.parent.name / path.name
    if not other.exists():
        spec = next(spec for spec in plan(config) if spec.name() == path.stem)
        trajectories.store(record(spec, CadenceSpec(**variant.cadence)), other)
    return other


def view(variant: Variant, params: Params, seed: int, folder: Path) -> View:
    """The last store that was built below `folder`, as an agent of that seed sees it."""
    config, _ = settings(variant, params)
    store = Store.open(folder / STORE).masked(Masks(config.mask_validation, config.mask_epochs), seed)
    return store.limited(config.features)


def train(job: tuple[str, int], variant: Variant, params: Params, folder: Path) -> str:
    """Train one agent on the store, and note what its own critics promise; its name."""
    name, seed = job
    config, _ = settings(variant, params)
    data = view(variant, params, seed, folder)
    algorithm = agents.train(data, agents.Settings.of(config), seed)
    agents.save(algorithm, folder / f"{name}.partial")
    promised = {"promised": promise(algorithm, data) if config.algorithm != "bc" else None}  # bc has no critics
    (folder / f"{name}.json").write_text(json.dumps(promised) + "\n", encoding="utf-8")
    (folder / f"{name}.partial").replace(folder / f"{name}.d3")  # at once, or not at all
    return name


def promise(algorithm: Any, data: View) -> float:
    """The mean value that an agent's critics give to what it does first in the recorded tasks."""
    starts = data.store.starts[:-1]
    seen = data.observations(starts, np.arange(len(starts)))
    return float(np.mean(algorithm.predict_value(seen, algorithm.predict(seen))))


def write(
    job: tuple[str, int, Sequence[str]], variant: Variant, params: Params, golden: np.ndarray, folder: Path
) -> str:
    """Export agents as one policy; its name."""
    name, seed, parts = job
    config, reward = settings(variant, params)
    trained = [agents.load(folder / f"{part}.d3") for part in parts]
    if variant.agents == DISTILLED:
        trained = [distil(trained, view(variant, params, seed, folder), replace(config, algorithm="bc"), seed)]
    told = {"algorithm": config.algorithm, "params": asdict(config), "reward": asdict(reward), "agents": [*parts]}
    protocol = Protocol(CadenceSpec(**variant.cadence), ActionEquation(**variant.action))
    manifest = Manifest(FORMAT, VERSION, NAMES, protocol, ("adam", "adamw", "sgd"), told, {})
    network = export.Masked(export.Mean([agents.Network(a) for a in trained]), mask(config.features))
    export.write(Later(network, variant.later), manifest, golden, folder / f"{name}.written")
    (folder / f"{name}.written").replace(folder / f"{name}.onnx")
    return name


def distil(trained: Sequence[Any], data: View, config: TrainConfig, seed: int) -> Any:
    """An agent that was taught to answer as the mean of others does, on all recorded decisions."""
    actions = np.zeros_like(data.store.actions)
    rows, runs = data.rows_of(np.arange(len(data.variants)))
    for part in np.array_split(np.arange(len(rows)), max(len(rows) // 50_000, 1)):
        seen = data.observations(rows[part], runs[part])
        actions[rows[part]] = np.mean([agents.predict(a, seen) for a in trained], axis=0)
    taught = replace(data, store=replace(data.store, actions=actions))
    return agents.train(taught, agents.Settings.of(config), seed)


def make(variants: Iterable[Variant], root: Path) -> None:
    """Train and export what is missing of all variants."""
    paths, params = Paths(root), load(root)
    found = trajectories.files(paths.trajectories)
    data, golden = trajectories.fingerprint(found), export.recorded_observations(paths.trajectories, GOLDEN)
    pool = engine("local")

    def run(work: Callable[[Any], Any], jobs: Sequence[Any], what: str) -> list[Any]:
        return list(progress(results(pool.imap_unordered(work, jobs)), len(jobs), what, lambda _: 1.0, "pieces"))

    for i, variant in enumerate(variants):
        policies = policies_of(variant, params, data)
        todo = [(name, SEEDS[0], parts) for name, parts in policies.items() if not (WORK / f"{name}.onnx").exists()]
        wanted = agents_of(variant, params, data) if policies else {}
        untrained = [(name, seed) for seed, name in wanted.items() if not (WORK / f"{name}.d3").exists()]
        if untrained or (todo and variant.agents == DISTILLED):
            (WORK / STORE).mkdir(parents=True, exist_ok=True)
            reward, equation = Reward(**asdict(settings(variant, params)[1])), ActionEquation(**variant.action)
            with tempfile.TemporaryDirectory(dir=WORK) as folder:
                learned = chosen(variant, found)
                if variant.cadence:
                    again = partial(anew, variant=variant, config=params.collect, folder=WORK)
                    learned = sorted(run(again, learned, f"variant {i}, record"))
                if variant.without:
                    copies = (lacking(path, variant.without, Path(folder)) for path in learned)
                    learned = [copy for copy in copies if copy is not None]
                build(
                    learned, reward, WORK / STORE, lambda fn, items: results(pool.imap_unordered(fn, items)), equation
                )
        run(partial(train, variant=variant, params=params, folder=WORK), untrained, f"variant {i}, train")
        run(partial(write, variant=variant, params=params, golden=golden, folder=WORK), todo, f"variant {i}, export")


def methods(variants: Sequence[Variant], params: Params, data: str) -> list[Method]:
    """What is judged: every policy of every variant in every mode, named <number of the variant>.<of the policy>."""
    out = []
    for mode, (epochs, validation) in MODES.items():
        for i, variant in enumerate(variants):
            made = policies_of(variant, params, data)
            out += [
                Method(
                    mode,
                    f"{i}.{j}",
                    policy=str(WORK / f"{name}.onnx"),
                    unprobed=variant.unprobed,
                    epochs=epochs,
                    validation=validation,
                )
                for j, name in enumerate(made)
            ]
            out += [Method(mode, f"{i}.0", rule=variant.rule)] if variant.rule else []
    return out


def judge(judged: Sequence[Method]) -> pd.DataFrame:
    """All their runs on the selection split, with their regrets."""
    bench = Bench(
        tasks(names(SPLIT), spread.full(SPLIT)), RUNS, spread.TUNING_SEEDS, (), engine("local"), BENCHMARK_CACHE
    )
    _, runs = oracles(bench, train_grid(bench))
    runs += [r for t in bench.tasks for r in bench.runs(judged, t)]
    rows = add_regret(with_facts(bench.compute(runs, "experiment"), bench))
    split = rows.method[rows.kind != "oracle"].str.partition(".")
    return rows.assign(variant=split[0].astype(float), agent=split[2].astype(float))


def promises(variant: Variant, params: Params, data: str) -> list[float] | None:
    """What the critics of each of a variant's agents promise; None where it has none."""
    if variant.rule or variant.agents == DISTILLED:
        return None
    told = [json.loads((WORK / f"{name}.json").read_text()) for name in agents_of(variant, params, data).values()]
    return None if told[0]["promised"] is None else [value["promised"] for value in told]


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
            beside = np.tile(table, (1, tables[0].shape[1] // table.shape[1]))  # one policy beside several agents
            gap = stats.difference_estimate(beside, tables[0], n_resamples=RESAMPLES, rng=rng)
            out |= {f"{label}.minus": gap.value, f"{label}.minus_low": gap.low, f"{label}.minus_high": gap.high}
    return out


def render(r: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Markdown: a row of each variant."""
    head = ["variant", "mean regret", "95 %", "single agents", "minus the first (95 %)", "worst family",
            "best checkpoint", "error", "with validation loss", "not told of the data", "critics promise"]  # fmt: skip
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
            "–" if of["promised"] is None else verdict.number(float(np.mean(of["promised"]))),
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
    variants, params = [*experiment.variants.values()], load(args.root)
    make(variants, args.root)
    data = trajectories.fingerprint(trajectories.files(Paths(args.root).trajectories))
    rows = judge(methods(variants, params, data))
    found = figures(rows, labels) | {"tasks": int(rows.task.nunique()), "runs": RUNS, "data": data}
    found |= {f"{label}.promised": promises(v, params, data) for label, v in experiment.variants.items()}
    command.write(found, render(found, labels), RESULTS / f"{args.name}.json", PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
