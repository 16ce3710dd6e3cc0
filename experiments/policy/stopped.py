"""Whether stops are as good as recorded cuts, and what critics learn from them.

    python -m experiments.policy.stopped    # minutes, from the last `make repro`; writes
                                            # experiments/results/stopped.json, docs/experiments.md

A stop is a departure that needs no twin (`policy/departures.py`). Where a twin did cut its level, its base has a stop
at the same decision. Figures, as <bin>.<figure>, for each of BINS of what that stop says it is worth:

    stop                                 mean worth of the stops
    large, small                         mean return of the recorded cuts of LARGE and of SMALL decades
    large_count, small_count             how many there are

and correlation, of stops and large cuts. Critics learn from four fifths of the tasks, without stops and with those of
params.yaml, and answer for the other fifth. Figures, as <stops>.<figure>:

    first, later, stopped                share of the variance of returns that the mean of the critics explains: of
                                         first levels, of later departures of twins, of these and stops together
    moved                                share of those at which the policy would make that move
    gained                               mean return of the moves that it would make

and tasks, data. Worth and returns are in units of the potential.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.explained_returns import HELD_OUT, answers, explained, learn, part
from lrpilot.actions import ActionEquation
from pipeline import agent_cache
from pipeline.config import Params, load
from pipeline.engines import engine, results
from pipeline.reporting import markdown, verdict
from policy import agents, trajectories
from policy.choice import Caution
from policy.departures import departures, potentials
from policy.mdp import Reward
from policy.observations import TaskRecording
from policy.store import Store, build

OUT, PAGE = Path("experiments/results/stopped.json"), Path("docs/experiments.md")
BINS = (-np.inf, -0.2, -0.05, 0.05, 0.2, np.inf)
LARGE, SMALL = (0.9, np.inf), (0.4, 0.9)  # decades
JUDGED = 6  # stops of each twin that critics answer for


def compare(files: Sequence[Path], reward: Reward) -> dict[str, float]:
    """The figures about recorded cuts of twins of these tasks."""
    rows = np.concatenate([cuts(TaskRecording(trajectories.read(path)), reward) for path in files])
    worth, returns, size = rows.T
    large = (size >= LARGE[0]) & (size < LARGE[1])
    out = {"correlation": float(np.corrcoef(worth[large], returns[large])[0, 1])}
    place = np.digitize(worth, BINS[1:-1])
    for i in range(len(BINS) - 1):
        out[f"{i}.stop"] = mean(worth[place == i])
        for name, (low, high) in (("large", LARGE), ("small", SMALL)):
            these = returns[(place == i) & (size >= low) & (size < high)]
            out |= {f"{i}.{name}": mean(these), f"{i}.{name}_count": len(these)}
    return out


def mean(values: np.ndarray) -> float:
    """The mean; 0 of none."""
    return float(values.mean()) if len(values) else 0.0


def cuts(task: TaskRecording, reward: Reward) -> np.ndarray:
    """(n, 3) of the later cuts of a task's twins: worth of the base's stop there, return, and size in decades."""
    group, twin, by = (task.fact(name) for name in ("group", "twin", "departs_by"))
    base = {g: run for run, g in enumerate(group) if twin[run] == 0}
    these = departures(task, reward, ActionEquation(), stops=0)
    cut = (these.decisions > 0) & (by[these.runs] < 0)
    runs, at = these.runs[cut], these.decisions[cut]
    bases, phi = np.array([base[group[run]] for run in runs], int), potentials(task, reward)
    return np.column_stack([phi[at, bases] - phi[task.ends[bases], bases], these.returns[cut], -by[runs]])


def learned(files: Sequence[Path], params: Params) -> dict[str, Any]:
    """The figures about critics."""
    pool, out, caution = engine("local"), dict[str, Any](), Caution(**asdict(params.export))
    with tempfile.TemporaryDirectory() as top:
        stores = {stops: Path(top, str(stops)) for stops in (0, params.train.stops, JUDGED)}
        for stops, folder in stores.items():
            folder.mkdir()
            build(files, Reward(**asdict(params.reward)), folder, partial(results, pool), stops=stops)
        branched = np.random.default_rng(0).permutation(np.flatnonzero(Store.open(stores[0]).tasks))
        held_out, rest = map(np.sort, np.split(branched, [len(branched) // HELD_OUT]))
        for stops in (0, params.train.stops):
            work = partial(learn, params=params, folder=stores[stops], tasks=rest)
            critics = [agents.load(path) for path in results(pool, work, params.train.seeds)]
            figures = []
            for folder in (stores[0], stores[JUDGED]):
                judged = agent_cache.masked(params.train, part(Store.open(folder), held_out), 1000)
                worth, first = answers(critics, judged)
                tasks = np.repeat(np.arange(len(held_out)), judged.store.tasks)
                figures.append(explained(worth, first, judged.store.rewards[::2], tasks, caution))
            twins, both = figures
            out |= {f"{stops}.first": twins["first"], f"{stops}.later": twins["later"]}
            out |= {f"{stops}.stopped": both["later"], f"{stops}.moved": both["moved"]}
            out[f"{stops}.gained"] = both["gained"] / both["moved"] if both["moved"] else 0.0
    return out | {"tasks": len(branched), "stops": params.train.stops}


def measure(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """All figures of recorded tasks."""
    params = load(root)
    return compare(files, Reward(**asdict(params.reward))) | learned(files, params)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a table of recorded cuts, and one of critics."""

    def of_cuts(i: int, name: str) -> str:
        return f"{verdict.number(r[f'{i}.{name}'])} ({r[f'{i}.{name}_count']:,})"

    ends = [f"{low:g} to {high:g}" for low, high in pairwise(BINS[1:-1])]
    names = [f"below {BINS[1]:g}", *ends, f"above {BINS[-2]:g}"]
    recorded = [
        [name, verdict.number(r[f"{i}.stop"]), of_cuts(i, "large"), of_cuts(i, "small")] for i, name in enumerate(names)
    ]
    critics = [
        [
            str(stops), *(verdict.number(r[f"{stops}.{name}"]) for name in ("first", "later", "stopped")),
            f"{r[f'{stops}.moved']:.1%}", f"{r[f'{stops}.gained']:+.3f}",
        ]
        for stops in (0, r["stops"])
    ]  # fmt: skip
    cut_head = [
        "a stop is worth", "mean", f"recorded cuts by {LARGE[0]:g} decades or more: mean return (cuts)",
        f"by {SMALL[0]:g} to {SMALL[1]:g} decades",
    ]  # fmt: skip
    head = [
        "stops of each twin", "explained of first levels", "of later departures of twins", "of these and stops",
        "moves made", "mean return of a move",
    ]  # fmt: skip
    return (
        f"{markdown.table(cut_head, recorded, 'rrrr')}\n\n{markdown.table(head, critics, 'rrrrrr')}\n\n"
        f"{r['tasks']:,} branched tasks, data `{r['data'][:12]}`. Correlation of stops and cuts by {LARGE[0]:g} "
        f"decades or more: {r['correlation']:.2f}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return command.of_collection(argv, "What stops are worth.", OUT, PAGE, measure, render)


if __name__ == "__main__":
    sys.exit(main())
