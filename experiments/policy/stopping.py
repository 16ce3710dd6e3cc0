"""How many stops should be inferred from each twin? What a training gains where critics choose when to stop.

    python -m experiments.policy.stopping    # minutes, from the last `make repro`; writes
                                             # experiments/results/stopping.json, docs/experiments.md

Critics of params.yaml learn from four fifths of the branched tasks, each time from other inferred departures (VARIANTS;
`policy/departures.py` says what a stop is). In the other tasks, every twin that holds its level to the end is stopped
at the first decision at which the worth of the largest cut, with the caution of params.yaml, exceeds the margin. What
that changes is the potential there minus the final one. Figures, as <variant>.<regime>.<figure>:

    shown, hidden                        mean change, where the validation loss is shown to the critics, and where not
    shown_stopped, hidden_stopped        share of the twins that are stopped

and <variant>.first, the share of the variance of returns of first levels that the mean of the critics explains;
best.<regime>, the mean change if each twin stops at its best decision; and tasks, data.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import command
from experiments.policy.explained_returns import answers, learn, part, parted
from pipeline import agent_cache
from pipeline.config import Params, load
from pipeline.engines import engine, results
from pipeline.reporting import markdown, scores, verdict
from policy import agents, trajectories
from policy.departures import NOTHING_INFERRED, potentials, settled
from policy.observations import TaskRecording, observations
from policy.settings import Caution, Reward
from policy.store import Store, build

OUT, PAGE = Path("experiments/results/stopping.json"), Path("docs/experiments.md")
CRITICS = 4  # of params.yaml's, the first ones
MODES = ("shown", "hidden")  # the validation loss


class Variant(NamedTuple):
    """What critics learn from."""

    stops: int  # of each twin
    steps: int = 1  # factor on the gradient steps


VARIANTS = {
    "2 stops": Variant(2),
    "8 stops": Variant(8),
    "8 stops, twice the steps": Variant(8, 2),
    "12 stops, twice the steps": Variant(12, 2),
}


@dataclass(frozen=True)
class Held:
    """A twin from its last move on: n decisions at which it might stop."""

    regime: str
    observed: Mapping[str, np.ndarray]  # by mode: observations (n, F)
    changes: np.ndarray  # (n,) potential there minus the final one

    def stopped(self, mode: str, critics: Sequence[Any], caution: Caution) -> float | None:
        """The change where the critics stop it; None where they do not."""
        worth = np.stack([agents.values(critic, self.observed[mode])[:, 0] for critic in critics])
        at = np.flatnonzero(worth.mean(axis=0) - caution.later * worth.std(axis=0) > caution.margin)
        return float(self.changes[at[0]]) if len(at) else None


def held(path: Path, reward: Reward) -> Iterator[Held]:
    """The twins of a task that make decisions after their last move."""
    task = TaskRecording(trajectories.read(path))
    phi, level = potentials(task, reward), task.column("level")
    shape = (task.length, task.runs)
    views = {mode: observations(task, np.full(shape, mode == "shown")) for mode in MODES}
    for run in np.flatnonzero(task.fact("group") >= 0).tolist():
        end = task.ends[run]
        after = np.arange(settled(level[:end, run]), end)
        if len(after):
            observed = {mode: views[mode][after, run] for mode in MODES}
            yield Held(str(task.fact("regime")[run]), observed, phi[after, run] - phi[end, run])


def of_critics(twins: Sequence[Held], critics: Sequence[Any], caution: Caution) -> dict[str, float]:
    """The figures of some critics, as <regime>.<figure>."""
    out = dict[str, float]()
    for regime in sorted({twin.regime for twin in twins}):
        for mode in MODES:
            changes = [twin.stopped(mode, critics, caution) for twin in twins if twin.regime == regime]
            out[f"{regime}.{mode}"] = float(np.mean([change or 0.0 for change in changes]))
            out[f"{regime}.{mode}_stopped"] = float(np.mean([change is not None for change in changes]))
    return out


def best(twins: Sequence[Held]) -> dict[str, float]:
    """The change by regime if each twin stops at its best decision, or not at all."""
    by_regime: dict[str, list[float]] = {}
    for twin in twins:
        by_regime.setdefault(twin.regime, []).append(max(float(twin.changes.max()), 0.0))
    return {f"best.{regime}": float(np.mean(changes)) for regime, changes in sorted(by_regime.items())}


def measure(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """All figures of recorded tasks."""
    params, pool = load(root), engine("local")
    store_of = partial(build, files, params.reward, imap=partial(results, pool))
    with tempfile.TemporaryDirectory() as top:
        recorded = Path(top, "recorded")
        recorded.mkdir()
        store_of(recorded, inferred=NOTHING_INFERRED)
        store = Store.open(recorded)
        held_out, rest = map(np.sort, parted(store))
        judged = agent_cache.masked(params.train, part(store, held_out), 1000)
        returns, twins = judged.store.rewards[::2], [twin for i in held_out for twin in held(files[i], params.reward)]
        out = {"tasks": len(held_out) + len(rest), **best(twins)}
        for number, (name, variant) in enumerate(VARIANTS.items()):
            folder = Path(top, str(number))
            folder.mkdir()
            store_of(folder, inferred=replace(params.train.inferred, stops=variant.stops))
            paths = results(pool, taught(params, variant, folder, rest), params.train.seeds[:CRITICS])
            critics = [agents.load(path) for path in paths]
            worth, first = answers(critics, judged)
            error = returns[first] - worth.mean(axis=0)[first]
            out[f"{name}.first"] = float(1 - np.sum(error**2) / np.sum(returns[first] ** 2))
            out |= {f"{name}.{key}": value for key, value in of_critics(twins, critics, params.export).items()}
    return out


def taught(params: Params, variant: Variant, folder: Path, tasks: np.ndarray) -> partial[Path]:
    """What trains a critic of a seed on these tasks of the store in `folder`."""
    config = replace(params.train, steps=variant.steps * params.train.steps)
    return partial(learn, params=replace(params, train=config), folder=folder, tasks=tasks)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each variant and mode, a column of each regime."""
    regimes = [regime for regime in scores.REGIMES if f"best.{regime}" in r]

    def change(name: str, regime: str, mode: str) -> str:
        return f"{r[f'{name}.{regime}.{mode}']:+.3f} ({r[f'{name}.{regime}.{mode}_stopped']:.0%})"

    rows = [["the best decision", "–", "–", *(f"{r[f'best.{regime}']:+.3f}" for regime in regimes)]]
    rows += [
        [name, mode, verdict.number(r[f"{name}.first"]), *(change(name, regime, mode) for regime in regimes)]
        for name in VARIANTS
        for mode in MODES
    ]  # fmt: skip
    head = ["inferred from each twin", "validation loss", "explained of first levels"]
    head += [f"{scores.REGIMES[regime]} (stopped)" for regime in regimes]
    scope = f"{r['tasks']:,} branched tasks, data `{r['data'][:12]}`."
    return f"{markdown.table(head, rows, 'llr' + 'r' * len(regimes))}\n\n{scope}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.of_collection(argv, "How many stops to infer from each twin.", OUT, PAGE, measure, render)


if __name__ == "__main__":
    sys.exit(main())
