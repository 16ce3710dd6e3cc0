"""How much of the effect of a departure critics can predict: by the number of tasks that they learned from, without
some of the features, and beside gradient-boosted trees.

    python -m experiments.policy.explained_returns    # minutes, from the last `make repro`; writes
                                                      # experiments/results/explained_returns.json, docs/experiments.md

The critics of params.yaml, one for each training seed, learn from a number of branched tasks, and answer for the fifth
of the tasks that none of them learned from. Figures, as <learner>.<figure>; a learner is each of COUNTS for which there
are enough tasks, then `without <group>` of all tasks but without a group of features, then `trees` of all tasks:

    later, first                         share of the variance of returns, at later decisions and of first levels, that
                                         the mean of the critics explains; 0 is what an advantage of 0 explains
    later_low, later_high, first_low ... of their 95 % intervals, over tasks
    single                               later, of one critic, on average
    moved                                share of later decisions at which the policy would move
    gained                               mean return of the departures that it agrees with, of all such decisions

and tasks, departures, data, and all: the number of tasks that the learners of all tasks learn from. A policy agrees
with a departure whose worth, with the caution of params.yaml, exceeds the margin. Such a departure is one that was
recorded, not the best possible one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.trees import trees
from lrpilot.features import GROUPS
from pipeline import agent_cache
from pipeline.config import Params, load
from pipeline.engines import engine, results
from pipeline.reporting import markdown, verdict
from policy import agents
from policy.advantage import FIRST
from policy.buffer import GRID
from policy.departures import NOTHING_INFERRED
from policy.settings import Caution, TrainConfig
from policy.store import Store, View, build

OUT, PAGE = Path("experiments/results/explained_returns.json"), Path("docs/experiments.md")
COUNTS = (40, 80, 150, 400, 1000, 3000)  # tasks
HELD_OUT = 5  # one of so many tasks is learned from by none
RESAMPLES = 2000
CLOCK = "clock"  # the group of features without which a first decision is no longer known as one
TREES = "trees"


def part(store: Store, tasks: np.ndarray) -> Store:
    """A store of departures that holds only some of its tasks."""
    runs = store.runs_of(tasks)
    rows = np.stack([2 * runs, 2 * runs + 1], axis=1).ravel()
    return Store(
        store.decisions[rows], store.actions[rows], store.rewards[rows], store.constants[runs],
        2 * np.arange(len(runs) + 1), store.tasks[tasks],
    )  # fmt: skip


def parted(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """The branched tasks of a store in a fixed random order: those that nobody learns from, and all others."""
    branched = np.random.default_rng(0).permutation(np.flatnonzero(store.tasks))
    held_out, rest = np.split(branched, [len(branched) // HELD_OUT])
    return held_out, rest


def answers(critics: Sequence[Any], view: View) -> tuple[np.ndarray, np.ndarray]:
    """Worth (critics, n) of the departures of a view as they were made, and whether each (n,) is that of a
    first level.
    """
    inputs, first = observed(view)
    observations, made = inputs[:, :-1], inputs[:, -1]
    values = np.stack([agents.values(critic, observations) for critic in critics])
    place = np.clip(np.searchsorted(GRID, made, side="right") - 1, 0, len(GRID) - 2)
    share = (made - GRID[place]) / (GRID[place + 1] - GRID[place])
    each = np.arange(len(made))
    worth = values[:, each, place] * (1 - share) + values[:, each, place + 1] * share
    return worth, first


def explained(
    worth: np.ndarray, first: np.ndarray, returns: np.ndarray, tasks: np.ndarray, caution: Caution
) -> dict[str, float]:
    """The figures of some critics: worth (critics, n), returns (n,), tasks (n,) that the departures belong to."""
    out, mean, rng = dict[str, float](), worth.mean(axis=0), np.random.default_rng(0)
    for name, these in (("later", ~first), ("first", first)):
        of = np.unique(tasks[these], return_inverse=True)[1]
        error, whole = (np.bincount(of, value[these] ** 2) for value in (returns - mean, returns))
        drawn = rng.integers(len(error), size=(RESAMPLES, len(error)))
        low, high = np.quantile(1 - error[drawn].sum(axis=1) / whole[drawn].sum(axis=1), (0.025, 0.975))
        out |= {name: float(1 - error.sum() / whole.sum()), f"{name}_low": float(low), f"{name}_high": float(high)}
    scale = np.mean(returns[~first] ** 2)
    out["single"] = float(np.mean([1 - np.mean((returns - one)[~first] ** 2) / scale for one in worth]))
    agreed = (mean - caution.later * worth.std(axis=0) > caution.margin)[~first]
    return out | {"moved": float(agreed.mean()), "gained": float((agreed * returns[~first]).mean())}


def measure(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """All figures of recorded tasks."""
    params, pool, out = load(root), engine("local"), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as unseen:
        # Critics are judged by departures of twins.
        for place, inferred in ((folder, agent_cache.inferred(params.train)), (unseen, NOTHING_INFERRED)):
            build(files, params.reward, Path(place), partial(results, pool), inferred=inferred)
        store = Store.open(Path(unseen))
        held_out, rest = parted(store)
        out |= {"tasks": len(held_out) + len(rest), "departures": int(store.tasks.sum()), "all": len(rest)}
        counts = [*(count for count in COUNTS if count < len(rest)), len(rest)]
        learners = {str(count): (params.train, rest[:count]) for count in counts}
        learners |= {f"without {group}": (without(params.train, group), rest) for group in GROUPS if group != CLOCK}
        judged = part(store, np.sort(held_out))
        task, caution = np.repeat(np.arange(len(held_out)), judged.tasks), params.export

        def judge(name: str, worth: np.ndarray, first: np.ndarray) -> dict[str, float]:
            figures = explained(worth, first, judged.rewards[::2], task, caution)
            return {f"{name}.{figure}": value for figure, value in figures.items()}

        for name, (config, tasks) in learners.items():
            work = partial(learn, params=replace(params, train=config), folder=Path(folder), tasks=np.sort(tasks))
            critics = [agents.load(path) for path in results(pool, work, config.seeds)]
            out |= judge(name, *answers(critics, agent_cache.masked(config, judged, 1000)))
        learned = agent_cache.masked(params.train, part(Store.open(Path(folder)), np.sort(rest)), 0)
        out |= judge(TREES, *answers_of_trees(learned, agent_cache.masked(params.train, judged, 1000)))
    return out


def without(config: TrainConfig, group: str) -> TrainConfig:
    """The same agents, which do not observe a group of features."""
    return replace(config, features=tuple(name for name in config.features if name != group))


def answers_of_trees(learned: View, judged: View) -> tuple[np.ndarray, np.ndarray]:
    """Like `answers`, of trees that were fitted on the departures of another view: worth (1, n)."""
    (known, _), (asked, first) = (observed(view) for view in (learned, judged))
    return trees().fit(known, learned.store.rewards[::2]).predict(asked)[None], first


def observed(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Observations and actions (n, F + 1) of the departures of a view, and whether each (n,) is of a first level."""
    rows, runs = view.rows_of(np.arange(len(view.variants)))
    observations = view.observations(rows, runs)
    return np.column_stack([observations, view.store.actions[rows]]), observations[:, FIRST] > 0


def learn(seed: int, params: Params, folder: Path, tasks: np.ndarray) -> Path:
    """A critic that learned from these tasks of the store in `folder`, in a file there."""
    data = agent_cache.masked(params.train, part(Store.open(folder), tasks), seed)
    agents.save(agents.train(data, params.train, seed), path := folder / f"{len(tasks)}-{seed}.d3")
    return path


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each learner."""

    def share(name: str) -> str:
        return f"{verdict.number(r[name])} ({verdict.interval(r[f'{name}_low'], r[f'{name}_high'])})"

    def title(name: str) -> str:
        if name.isdecimal():
            return f"{int(name):,} tasks"
        return f"{r['all']:,} tasks, {'gradient-boosted trees' if name == TREES else f'{name} features'}"

    rows = [
        [
            title(name), share(f"{name}.later"), share(f"{name}.first"), verdict.number(r[f"{name}.single"]),
            f"{r[f'{name}.moved']:.0%}", f"{r[f'{name}.gained']:+.4f}",
        ]
        for name in (key.removesuffix(".later") for key in r if key.endswith(".later"))
    ]  # fmt: skip
    head = [
        "learned from", "explained of later moves (95 %)", "explained of first levels (95 %)",
        "explained of later moves by one critic", "decisions with a move", "mean gain",
    ]  # fmt: skip
    scope = f"{r['departures']:,} departures of {r['tasks']} branched tasks, data `{r['data'][:12]}`."
    return f"{markdown.table(head, rows, 'lrrrrr')}\n\n{scope}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.of_collection(argv, "What critics know of departures.", OUT, PAGE, measure, render)


if __name__ == "__main__":
    sys.exit(main())
