"""Whether inferred departures are as good as recorded ones, and what critics learn from them.

    python -m experiments.policy.inferred    # minutes, from the last `make repro`; writes
                                             # experiments/results/inferred.json, docs/experiments.md

`policy/departures.py` says what is inferred. Where a twin did cut its level, its base has a stop at the same decision.
Figures, as <bin>.<figure>, for each of BINS of what that stop says it is worth:

    stop                                 mean worth of the stops
    large, small                         mean return of the recorded cuts of LARGE and of SMALL decades
    large_count, small_count             how many there are

and correlation, of stops and large cuts. Then the critics of params.yaml learn from four fifths of the tasks, each time
from other KINDS of departures, and answer for the recorded departures of the other fifth. Figures, as <kind>.<figure>:

    first                                share of the variance of returns of first levels that the mean of the critics
                                         explains
    early, later                         the same of departures in the first EARLY of the steps, and of all others
    early_moved, later_moved             share of those at which the policy would make the recorded move
    early_gained, later_gained           mean return of these moves

and tasks, data. Worth and returns are in units of the potential.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.explained_returns import answers, learn, part, parted
from lrpilot.actions import ActionEquation
from lrpilot.features import BY_NAME, NAMES
from pipeline import agent_cache
from pipeline.config import Params, load
from pipeline.engines import engine, results
from pipeline.reporting import markdown, verdict
from policy import agents, trajectories
from policy.departures import EARLY, NOTHING_INFERRED, bases, departures, potentials
from policy.observations import TaskRecording
from policy.settings import Caution, Reward
from policy.store import Store, build

OUT, PAGE = Path("experiments/results/inferred.json"), Path("docs/experiments.md")
BINS = (-np.inf, -0.2, -0.05, 0.05, 0.2, np.inf)
LARGE, SMALL = (0.9, np.inf), (0.4, 0.9)  # decades
KINDS = ("recorded alone", "and stops", "and corrections", "and both")


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
    group, by = task.fact("group"), task.fact("departs_by")
    these = departures(task, reward, ActionEquation(), NOTHING_INFERRED)
    cut = (these.decisions > 0) & (by[these.runs] < 0)
    runs, at = these.runs[cut], these.decisions[cut]
    base, phi = bases(task), potentials(task, reward)
    held = np.array([base[int(g)] for g in group[runs]], int)
    return np.column_stack([phi[at, held] - phi[task.ends[held], held], these.returns[cut], -by[runs]])


def learned(files: Sequence[Path], params: Params) -> dict[str, Any]:
    """The figures about critics."""
    pool, out, both = engine("local"), dict[str, Any](), params.train.inferred
    inferred = (NOTHING_INFERRED, replace(both, corrections=0), replace(both, stops=0), both)
    with tempfile.TemporaryDirectory() as top:
        stores = {kind: Path(top, str(i)) for i, kind in enumerate(KINDS)}
        for folder, these in zip(stores.values(), inferred, strict=True):
            folder.mkdir()
            build(files, params.reward, folder, partial(results, pool), inferred=these)
        recorded = Store.open(stores[KINDS[0]])
        held_out, rest = map(np.sort, parted(recorded))
        judged = agent_cache.masked(params.train, part(recorded, held_out), 1000)
        for kind, folder in stores.items():
            work = partial(learn, params=params, folder=folder, tasks=rest)
            critics = [agents.load(path) for path in results(pool, work, params.train.seeds)]
            worth, first = answers(critics, judged)
            progress = judged.observations(*judged.rows_of(np.arange(len(worth[0]))))[:, NAMES.index("progress")]
            early = progress <= BY_NAME["progress"].scaled(EARLY)
            figures = shares(worth, first, early, judged.store.rewards[::2], params.export)
            out |= {f"{kind}.{name}": value for name, value in figures.items()}
    return out | {"tasks": len(held_out) + len(rest)}


def shares(
    worth: np.ndarray, first: np.ndarray, early: np.ndarray, returns: np.ndarray, caution: Caution
) -> dict[str, float]:
    """The figures of some critics: worth (critics, n), returns (n,), and which departures (n,) bool are of a first
    level, and which are early.
    """
    error, made = returns - worth.mean(axis=0), worth.mean(axis=0) - caution.later * worth.std(axis=0) > caution.margin
    out = dict[str, float]()
    for name, these in (("first", first), ("early", ~first & early), ("later", ~first & ~early)):
        whole = np.sum(returns[these] ** 2)
        out[name] = float(1 - np.sum(error[these] ** 2) / whole) if whole else 0.0
        out |= {f"{name}_moved": mean(made[these]), f"{name}_gained": mean(returns[these & made])}
    return out


def measure(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """All figures of recorded tasks."""
    params = load(root)
    return compare(files, params.reward) | learned(files, params)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a table of recorded cuts, and one of critics."""

    def of_cuts(i: int, name: str) -> str:
        return f"{verdict.number(r[f'{i}.{name}'])} ({r[f'{i}.{name}_count']:,})"

    def moves(kind: str, name: str) -> str:
        return f"{r[f'{kind}.{name}_moved']:.1%}: {r[f'{kind}.{name}_gained']:+.3f}"

    ends = [f"{low:g} to {high:g}" for low, high in pairwise(BINS[1:-1])]
    names = [f"below {BINS[1]:g}", *ends, f"above {BINS[-2]:g}"]
    recorded = [
        [name, verdict.number(r[f"{i}.stop"]), of_cuts(i, "large"), of_cuts(i, "small")] for i, name in enumerate(names)
    ]
    critics = [
        [
            kind, *(verdict.number(r[f"{kind}.{name}"]) for name in ("first", "early", "later")),
            moves(kind, "early"), moves(kind, "later"),
        ]
        for kind in KINDS
    ]  # fmt: skip
    cut_head = [
        "a stop is worth", "mean", f"recorded cuts by {LARGE[0]:g} decades or more: mean return (cuts)",
        f"by {SMALL[0]:g} to {SMALL[1]:g} decades",
    ]  # fmt: skip
    head = [
        "departures learned from", "explained of first levels", "of early departures", "of later ones",
        "early moves made: mean return", "later moves made: mean return",
    ]  # fmt: skip
    return (
        f"{markdown.table(cut_head, recorded, 'rrrr')}\n\n{markdown.table(head, critics, 'lrrrrr')}\n\n"
        f"{r['tasks']:,} branched tasks, data `{r['data'][:12]}`. Correlation of stops and cuts by {LARGE[0]:g} "
        f"decades or more: {r['correlation']:.2f}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    return command.of_collection(argv, "What inferred departures are worth.", OUT, PAGE, measure, render)


if __name__ == "__main__":
    sys.exit(main())
