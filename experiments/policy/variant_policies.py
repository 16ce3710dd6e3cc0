"""From a variant to its policies: agents trained on a part of a collection, and exported one by one and together.

Agents are cached in `AGENT_CACHE`, policies in `WORK`, both under a hash of what they were made from.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.policy import rescaling, variant_data, variant_export
from experiments.policy.variant import DISTILLED, Variant
from lrpilot import digests
from lrpilot.decisions.actions import ActionEquation
from pipeline import agent_training, code_hash
from pipeline.agent_training import AgentSpec
from pipeline.collect import plan
from pipeline.config import Params, load
from pipeline.engines import engine, progress, results
from pipeline.export import GOLDEN
from pipeline.paths import AGENT_CACHE, Paths
from pipeline.result_cache import open_cache, through
from policy import graph, trajectories
from policy.store import build

WORK, STORE = Path(".experiments_cache"), "store"
SEEDS = (10, 11, 12)  # of training


def named(content: dict[str, Any]) -> str:
    """16 hex digits that identify a policy, as the current code makes it."""
    code = code_hash.digest(variant_export.__name__, unused=("pipeline",))
    return digests.of_json(content | {"code": code})[:16]


def store_of(variant: Variant, params: Params) -> dict[str, Any]:
    """Everything that decides, for one collection, the store that a variant learns from."""
    content = {name: getattr(variant, name) for name in ("share", "families", "without", "rescaled")}
    content |= {"cadence": dict(variant.cadence), "action": dict(variant.action)}
    config, reward = variant.settings(params)
    return content | {"reward": asdict(reward), "learns": config.learns_from, "inferred": asdict(config.inferred)}


def agents_of(variant: Variant, params: Params, data: str) -> list[AgentSpec]:
    """Its agents, one for each training seed. `data` is the fingerprint of the collection."""
    config, reward = variant.settings(params)
    # An agent's key has the code of training; that of recording is in the files' names, and so in the fingerprint.
    code = code_hash.digest(variant_data.__name__, rescaling.__name__, unused=("lrpilot", "pipeline", "policy"))
    selection = json.dumps(store_of(variant, params) | {"code": code}, sort_keys=True)
    return [AgentSpec(data, reward, config, seed, "cpu", selection) for seed in SEEDS]


def policies_of(variant: Variant, params: Params, data: str) -> dict[str, tuple[str, ...]]:
    """The keys of the agents of each of its policies, by the policy's name."""
    if variant.rule is not None:
        return {}
    keys = tuple(agent.key() for agent in agents_of(variant, params, data))
    parts = [keys] if variant.agents else [(key,) for key in keys]
    how = {"later": variant.later, "how": variant.agents, "caution": asdict(variant.choice(params))}
    return {named({"agents": part} | how): part for part in parts}


def missing(variants: Sequence[Variant], params: Params, data: str) -> tuple[list[AgentSpec], list[variant_export.Job]]:
    """The agents and the policies of variants that no cache has: policies of one agent, and of all agents together."""
    specs = dict.fromkeys(spec for variant in variants for spec in agents_of(variant, params, data))
    jobs = {
        name: (name, keys, how)
        for variant in variants for how in (variant, variant.together())
        for name, keys in policies_of(how, params, data).items()
    }  # fmt: skip
    with open_cache(AGENT_CACHE) as cache:
        untrained = [spec for spec in specs if spec.key() not in cache]
    return untrained, [job for name, job in jobs.items() if not (WORK / f"{name}.onnx").exists()]


def make(variants: Iterable[Variant], root: Path) -> None:
    """Train and export what is missing for all variants. Variants that learn from one store are trained side by
    side.
    """
    paths, params = Paths(root), load(root)
    files = trajectories.files(paths.trajectories)
    data, golden = trajectories.fingerprint(files), graph.recorded_observations(paths.trajectories, GOLDEN)
    pool, store = engine("local"), WORK / STORE

    def each(work: Callable[[Any], Any], jobs: Sequence[Any], what: str) -> Iterator[Any]:
        return progress(results(pool, work, jobs), len(jobs), what, lambda _: 1.0, "pieces")

    def run(work: Callable[[Any], Any], jobs: Sequence[Any], what: str) -> list[Any]:
        return list(each(work, jobs, what))

    def place(variant: Variant) -> str:
        return json.dumps(store_of(variant, params), sort_keys=True)

    learning = [variant for variant in variants if variant.rule is None]
    for _, group in groupby(sorted(learning, key=place), place):
        same = [*group]
        agents, policies = missing(same, params, data)
        if agents or any(variant.agents == DISTILLED for *_, variant in policies):
            store.mkdir(parents=True, exist_ok=True)
            first = same[0]
            specs = plan(params.collect, params.regimes.shares) if first.cadence else []
            recordings = WORK / named({"cadence": dict(first.cadence)})
            reward, equation = first.settings(params)[1], ActionEquation(**first.action)
            with tempfile.TemporaryDirectory(dir=WORK) as copies:
                learned = variant_data.learned(first, files, specs, recordings, Path(copies), run)
                inferred = agent_training.inferred(first.settings(params)[0])
                optimizers = build(learned, reward, store, partial(results, pool), equation, inferred=inferred)
            if first.rescaled:
                rescaling.rescale(store, first.rescaled)
            train = partial(agent_training.train, store=store, optimizers=optimizers)
            through(AGENT_CACHE, {agent: agent.key() for agent in agents}, partial(each, train, what="train"))
        export = partial(
            variant_export.write, params=params, golden=golden, folder=WORK, cache=AGENT_CACHE, store=store
        )
        run(export, policies, "export")
