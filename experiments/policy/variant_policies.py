"""From a variant to its policies: agents that are trained on a part of a collection, and exported alone and together.

What is made is kept in `WORK`, by the hash of what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from experiments.policy.variants import DISTILLED, DIVERGED, MEAN, WORSE, Variant
from lrpilot.actions import ActionEquation
from lrpilot.cadence import CadenceSpec
from lrpilot.features import NAMES, VERSION
from lrpilot.manifest import FORMAT, Manifest
from lrpilot.pilot import Protocol
from pipeline import agent_cache, code_hash
from pipeline.agent_cache import AgentSpec
from pipeline.collect import plan
from pipeline.config import Params, RewardConfig, TrainConfig, load
from pipeline.engines import engine, progress, results
from pipeline.export import GOLDEN
from pipeline.paths import AGENT_CACHE, Paths
from pipeline.simulation.recording import Spec, record
from policy import agents, graph, trajectories
from policy.mdp import Reward
from policy.observations import mask
from policy.store import View, build

Run = Callable[[Callable[[Any], Any], Sequence[Any], str], list[Any]]  # all results, and progress of a name

WORK, STORE = Path(".experiments_cache"), "store"
SEEDS = (10, 11, 12)  # of training
BEST = 4  # of so many runs of a task one is not WORSE


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
    text = json.dumps(content | {"code": code_hash.digest(__name__, unused=("pipeline",))}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def store_of(variant: Variant, params: Params) -> dict[str, Any]:
    """Everything that decides, of one collection, the store that a variant learns from."""
    content = {name: getattr(variant, name) for name in ("share", "families", "without")}
    content |= {"cadence": dict(variant.cadence), "action": dict(variant.action)}
    return content | {"reward": asdict(settings(variant, params)[1])}


def agents_of(variant: Variant, params: Params, data: str) -> list[AgentSpec]:
    """Its agents, one of each training seed; `data` is the fingerprint of the collection."""
    config, reward = settings(variant, params)
    code = code_hash.digest(__name__, unused=("lrpilot", "pipeline", "policy"))  # an agent's key has that of training
    selection = json.dumps(store_of(variant, params) | {"code": code}, sort_keys=True)
    return [AgentSpec(data, reward, config, seed, "cpu", selection) for seed in SEEDS]


def policies_of(variant: Variant, params: Params, data: str) -> dict[str, tuple[str, ...]]:
    """By name of each of its policies the agents that make it."""
    if variant.rule is not None:
        return {}
    keys = tuple(agent.key() for agent in agents_of(variant, params, data))
    parts = [keys] if variant.agents else [(key,) for key in keys]
    return {named({"agents": part, "later": variant.later, "how": variant.agents}): part for part in parts}


def together(variant: Variant) -> Variant:
    """The same with one policy alone, which all training seeds make."""
    return replace(variant, agents=variant.agents or MEAN)


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
    runs = np.array(table["run_id"].to_pylist())
    left = table.filter(pa.array(~np.isin(runs, _left_out(table, runs, without))))
    if trajectories.count_runs(left) < 2:
        return None
    copy = folder / path.parent.name / path.name
    trajectories.store(trajectories.encode(left), copy)
    return copy


def _left_out(table: pa.Table, runs: np.ndarray, without: str) -> np.ndarray:
    """Names of the runs that a variant leaves out; `runs` has that of each row."""
    if without == WORSE:
        last = np.flatnonzero(runs != np.append(runs[1:], ""))  # a run's last row
        final, reason = (np.array(table[name].to_pylist())[last] for name in ("val_loss", "reason"))
        ranked = np.argsort(np.where(reason == DIVERGED, np.inf, final.astype(float)), kind="stable")
        return runs[last[ranked[max(len(last) // BEST, 2) :]]]
    column = "reason" if without == DIVERGED else "schedule"
    return runs[np.array(table[column].to_pylist()) == without]


def anew(spec: Spec, variant: Variant, folder: Path) -> Path:
    """A task of the collection, recorded below `folder` in a variant's cadence."""
    path = folder / named({"cadence": dict(variant.cadence)}) / spec.file()
    if not path.exists():
        trajectories.store(record(spec, CadenceSpec(**variant.cadence)), path)
    return path


def write(
    job: tuple[str, Sequence[str], Variant], params: Params, golden: np.ndarray, folder: Path, cache: Path
) -> str:
    """Export agents of `cache` as one policy below `folder`; its name."""
    name, parts, variant = job
    config, reward = settings(variant, params)
    trained = [agents.load(agent_cache.file(part, cache)) for part in parts]
    if variant.agents == DISTILLED:
        data = agent_cache.view(config, SEEDS[0], folder / STORE)
        trained = [distil(trained, data, replace(config, algorithm="bc"), SEEDS[0])]
    told = {"algorithm": config.algorithm, "params": asdict(config), "reward": asdict(reward), "agents": [*parts]}
    protocol = Protocol(CadenceSpec(**variant.cadence), ActionEquation(**variant.action))
    manifest = Manifest(FORMAT, VERSION, NAMES, protocol, ("adam", "adamw", "sgd"), told, {})
    network = graph.Masked(graph.Mean([agents.Network(a) for a in trained]), mask(config.features))
    graph.write(Later(network, variant.later), manifest, golden, folder / f"{name}.written")
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


def learned(variant: Variant, params: Params, found: Sequence[Path], folder: Path, run: Run) -> list[Path]:
    """The files that a variant learns from; those that are made for it lie below `folder`, or are kept."""
    paths = chosen(variant, found)
    if variant.cadence:
        names = {path.name for path in paths}
        specs = [spec for spec in plan(params.collect) if Path(spec.file()).name in names]
        paths = sorted(run(partial(anew, variant=variant, folder=WORK), specs, "record"))
    if variant.without:
        copies = (lacking(path, variant.without, folder) for path in paths)
        paths = [copy for copy in copies if copy is not None]
    return paths


def make(variants: Iterable[Variant], root: Path) -> None:
    """Train and export what is missing of all variants, those that learn from one store side by side."""
    paths, params = Paths(root), load(root)
    found = trajectories.files(paths.trajectories)
    data, golden = trajectories.fingerprint(found), graph.recorded_observations(paths.trajectories, GOLDEN)
    pool = engine("local")

    def run(work: Callable[[Any], Any], jobs: Sequence[Any], what: str) -> list[Any]:
        return list(progress(results(pool, work, jobs), len(jobs), what, lambda _: 1.0, "pieces"))

    def store(variant: Variant) -> str:
        return json.dumps(store_of(variant, params), sort_keys=True)

    learning = [variant for variant in variants if variant.rule is None]
    for _, group in groupby(sorted(learning, key=store), store):
        same = [*group]
        wanted = dict.fromkeys(agent for variant in same for agent in agents_of(variant, params, data))
        agents_left = [agent for agent in wanted if not agent_cache.cached(agent.key(), AGENT_CACHE)]
        policies_left = dict[str, tuple[str, Any, Variant]]()
        for how in (how for variant in same for how in (variant, together(variant))):
            policies = policies_of(how, params, data)
            policies_left |= {
                name: (name, of, how) for name, of in policies.items() if not (WORK / f"{name}.onnx").exists()
            }
        if agents_left or any(how.agents == DISTILLED for *_, how in policies_left.values()):
            for place in (WORK / STORE, AGENT_CACHE):
                place.mkdir(parents=True, exist_ok=True)
            reward, equation = Reward(**asdict(settings(same[0], params)[1])), ActionEquation(**same[0].action)
            with tempfile.TemporaryDirectory(dir=WORK) as folder:
                files = learned(same[0], params, found, Path(folder), run)
                optimizers = build(files, reward, WORK / STORE, partial(results, pool), equation)
            work = partial(agent_cache.train, store=WORK / STORE, optimizers=optimizers, folder=AGENT_CACHE)
            run(work, agents_left, "train")
        export = partial(write, params=params, golden=golden, folder=WORK, cache=AGENT_CACHE)
        run(export, [*policies_left.values()], "export")
