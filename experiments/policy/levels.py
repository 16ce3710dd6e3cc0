"""How well the level of a training can be known before it begins.

    python -m experiments.policy.levels    # two minutes, from the last `make repro`; experiments/results/levels.json,
                                   # docs/experiments.md

Of every recorded task the runs that held a level, under linear decay, tell what other levels would have come to, by
interpolation between them. A rule names a level from what is observed at the first decision; its regret is the mean
over the tasks of what holding that level comes to. Gradient-boosted trees learn rules from parts of the observation
and answer for tasks that they were not fitted on (4 folds, three times); also from what no observation holds: how large
the model is, and at which rates the probe, run again, moves the weights by given shares of their norm. Figures, as
<rule>.<figure>:

    mean, low, high    regret in units of the task's room, 0 to 1.5, with a 95 % interval over the tasks
    minus, minus_low, minus_high    the same less that of `finder_tenth`, by pairs

and tasks, data. `best` picks the best of a task's own runs afterwards: no rule can, for part of it is luck.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks import command
from lrpilot import load_policy, probe
from lrpilot.actions import ActionEquation, reference
from lrpilot.cadence import Cadence
from lrpilot.pilot import Protocol
from pipeline.engines import engine, results
from pipeline.evaluation import stats
from pipeline.evaluation.trial import FINDERS
from pipeline.reporting import verdict
from pipeline.workloads.families import family
from pipeline.workloads.population import Population
from policy import mdp, trajectories
from policy.observations import TaskRecording, mask, observations

OUT, PAGE = Path("experiments/results/levels.json"), Path("docs/experiments.md")
HELD = "linear"  # the behaviour that holds its level
FOLDS, SPLITS, RESAMPLES = 4, 3, 2000  # of trees: one split of the tasks alone misleads by .02
GRID = np.linspace(-1, 1, 41) * ActionEquation().span  # decades from the anchor
MOVED = (0.003, 0.03, 0.3)  # of the norm of the weights
SMOOTH = 5  # points of the grid over which a learned regret is averaged
PARTS = {
    "learned: clock": ("clock",),
    "learned: and probe": ("clock", "probe"),
    "learned: and size of the data": ("clock", "probe", "epochs"),
}
TEXT = {
    "best": "best of the task's own runs, afterwards", "policy": "shipped policy's first action",
    "same": "one level for all", "finder_steepest": "finder: steepest descent",
    "finder_tenth": "finder: a tenth of the blow-up",
    "learned: and family": "learned: and the family's name",
    "learned: and moved": "learned: and how far rates move the weights",
    "learned: and weights": "learned: and the number of weights",
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """The runs of a task that held a level: levels (n,) in decades from the anchor, ascending, regrets (n,)."""

    family: str
    observation: np.ndarray  # (F,) at the first decision
    beside: Mapping[str, np.ndarray]  # what the observation does not hold, by name
    levels: np.ndarray
    regrets: np.ndarray

    def regret(self, level: float) -> float:
        """What holding `level` would come to."""
        return float(np.interp(level, self.levels, self.regrets))


def read(path: Path) -> Held | None:
    """Of a recorded task; None where it was not probed, or less than three runs held a level."""
    table = trajectories.read(path)
    task, which = TaskRecording(table), holding(table)
    if not task.probed or which.sum() < 3:
        return None
    regret = ends(task)
    level = task.column("level")[0] - task.column("anchor")[0]
    order = np.flatnonzero(which)[np.argsort(level[which])]
    seen = observations(task, np.zeros((task.length, task.runs), bool))[0]
    run = int(order[0])  # the one whose observation stands for the task
    anchor = float(task.column("anchor")[0, run])
    beside = weights(path.parent.name, int(table["seed"][0].as_py()), int(task.probe_used[run]), anchor, run)
    return Held(path.parent.name, seen[run], beside, level[order], regret[order])


def holding(table: pa.Table) -> np.ndarray:
    """(runs,) bool: which runs of a recorded task held their level."""
    first = np.equal(table["decision"].to_numpy(), 0)
    return np.array(table["schedule"].filter(first).to_pylist()) == HELD


def ends(task: TaskRecording) -> np.ndarray:
    """(runs,) regrets of a recorded task's runs against the best of them."""
    val = task.column("val_loss")
    loss0 = mdp.initial_loss(val[0], task.baseline_loss)
    final = np.where(task.diverged, np.nan, val[task.ends, np.arange(task.runs)])
    return np.nan_to_num(mdp.regret(final, loss0, mdp.best_loss(final, loss0)), nan=mdp.WORST)


def weights(name: str, seed: int, steps: int, anchor: float, run: int = 0) -> dict[str, np.ndarray]:
    """Of a run of the task that `seed` draws: log10 of the number of weights; the levels, in decades from the anchor,
    after which the steps of its probe have moved them by each of MOVED."""
    torch.set_num_threads(1)
    workload = family(name).sample(np.random.default_rng(seed))
    population = Population(workload, [seed + run])
    start = population.state.weights.clone()
    z = probe.levels(Cadence(Protocol().cadence, workload.n_steps, True).probe_steps)[:steps]
    moved = np.empty(steps)
    for step, level in enumerate(z):
        population.train_step(step, np.array([10 ** (reference(workload.optimizer) + level)]))
        moved[step] = float((population.state.weights - start).norm() / start.norm())
    farthest = np.maximum.accumulate(np.nan_to_num(moved, nan=np.inf, posinf=1e9).clip(1e-9, 1e9))
    reached = np.interp(np.log10(MOVED), np.log10(farthest), z) - anchor
    return {"size": np.array([np.log10(population.n_params)]), "moved": reached}


def folds(tasks: int, split: int) -> np.ndarray:
    """(tasks,) which of FOLDS parts each task is in; `split`: which of the ways to part them."""
    return np.random.default_rng(split).permutation(tasks) % FOLDS


def trees() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        learning_rate=0.06, max_iter=250, max_leaf_nodes=16, l2_regularization=1.0, random_state=0
    )


def learned(tasks: Sequence[Held], seen: np.ndarray, split: int = 0) -> np.ndarray:
    """Levels (tasks,) that look best to trees which were fitted on other tasks; seen (tasks, F').

    `split`: which of the ways to part the tasks.
    """
    fold, out = folds(len(tasks), split), np.empty(len(tasks))
    for k in range(FOLDS):
        fit = [(np.append(x, z), r) for task, x, f in zip(tasks, seen, fold, strict=True) if f != k
               for z, r in zip(task.levels, task.regrets, strict=True)]  # fmt: skip
        model = trees().fit(np.stack([x for x, _ in fit]), np.array([r for _, r in fit]))
        for i in np.flatnonzero(fold == k):
            asked = model.predict(np.column_stack([np.tile(seen[i], (len(GRID), 1)), GRID]))
            padded = np.pad(asked, SMOOTH // 2, mode="edge")
            out[i] = GRID[np.convolve(padded, np.ones(SMOOTH), "valid").argmin()]
    return out


def same(tasks: Sequence[Held]) -> np.ndarray:
    """The one level that is best for all of them, (tasks,); chosen on the tasks that it is judged on."""
    table = np.array([[task.regret(z) for z in GRID] for task in tasks])
    return np.full(len(tasks), GRID[table.mean(0).argmin()])


def rules(tasks: Sequence[Held], policy: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Regrets (tasks,) of every rule."""
    seen = np.stack([task.observation for task in tasks])
    names = sorted({task.family for task in tasks})
    named = np.array([[task.family == name for name in names] for task in tasks], float)
    moved, size = (np.stack([task.beside[key] for task in tasks]) for key in ("moved", "size"))
    equation, told_of = ActionEquation(), {name: seen[:, mask(groups) > 0] for name, groups in PARTS.items()}
    told = told_of["learned: and size of the data"]
    told_of |= {
        "learned: and family": np.hstack([told, named]), "learned: and moved": np.hstack([told, moved]),
        "learned: and weights": np.hstack([told, size]),
    }  # fmt: skip
    levels = {
        "same": same(tasks),
        **{name: rule(seen[:, mask(("probe",)) > 0]) for name, rule in FINDERS.items()},
        "policy": equation.span * np.clip(policy(seen), -1, 1),
    }

    def regrets(level: np.ndarray) -> np.ndarray:
        return np.array([task.regret(z) for task, z in zip(tasks, level, strict=True)])

    out = {name: regrets(level) for name, level in levels.items()}
    out |= {
        name: np.mean([regrets(learned(tasks, parts, split)) for split in range(SPLITS)], axis=0)
        for name, parts in told_of.items()
    }
    return out | {"best": np.array([task.regrets.min() for task in tasks])}


def figures(regrets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All figures, flat."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    finder = regrets["finder_tenth"][None]  # one stratum: tasks are resampled
    for name, values in regrets.items():
        mean = stats.mean_estimate(values[None], n_resamples=RESAMPLES, rng=rng)
        gap = stats.difference_estimate(values[None], finder, n_resamples=RESAMPLES, rng=rng)
        out |= {
            f"{name}.mean": mean.value, f"{name}.low": mean.low, f"{name}.high": mean.high,
            f"{name}.minus": gap.value, f"{name}.minus_low": gap.low, f"{name}.minus_high": gap.high,
        }  # fmt: skip
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each rule, the worst first."""
    names = sorted((key.rpartition(".")[0] for key in r if key.endswith(".mean")), key=lambda name: -r[f"{name}.mean"])
    rows = [["the level is", "mean regret", "95 %", "less than the finder's (95 %)"], ["---", *["---:"] * 3]]
    for name in names:
        minus = verdict.difference(*(r[f"{name}.{key}"] for key in ("minus", "minus_low", "minus_high")))
        gap = "–" if name == "finder_tenth" else minus
        interval = verdict.interval(r[f"{name}.low"], r[f"{name}.high"])
        rows.append([TEXT.get(name, name), verdict.number(r[f"{name}.mean"]), interval, gap])
    last = f"{r['tasks']} recorded tasks of the training families, data `{r['data'][:12]}`."
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", last])


def measure(found: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks."""
    tasks = [held for held in results(engine("local"), read, found) if held is not None]
    tasks.sort(key=lambda task: task.observation.tobytes())  # as workers finish is no order
    return figures(rules(tasks, load_policy("default"))) | {"tasks": len(tasks)}


def main(argv: Sequence[str] | None = None) -> int:
    what = "How well a training's level can be known before it begins."
    return command.of_collection(argv, what, OUT, PAGE, lambda found, _: measure(found), render)


if __name__ == "__main__":
    sys.exit(main())
