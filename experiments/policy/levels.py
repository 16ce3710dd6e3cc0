"""How well the level of a training can be known before it begins.

    python -m experiments.policy.levels    # two minutes, from the last `make repro`; writes
                                           # experiments/results/levels.json, docs/experiments.md

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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.held_levels import Held, read
from experiments.policy.trees import FOLDS, SPLITS, folds, trees
from lrpilot import load_policy
from lrpilot.actions import ActionEquation
from lrpilot.features import PROBE_NAMES
from pipeline.engines import engine, results
from pipeline.evaluation import stats
from pipeline.evaluation.methods.ruled import FINDERS
from pipeline.reporting import markdown, verdict
from policy.observations import mask

OUT, PAGE = Path("experiments/results/levels.json"), Path("docs/experiments.md")
RESAMPLES = 2000
GRID = np.linspace(-1, 1, 41) * ActionEquation().span  # decades from the anchor
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


def learned(tasks: Sequence[Held], inputs: np.ndarray, split: int = 0) -> np.ndarray:
    """Levels (tasks,) that look best to trees which were fitted on other tasks; inputs (tasks, F').

    `split`: which of the ways to part the tasks.
    """
    fold, out = folds(len(tasks), split), np.empty(len(tasks))
    for k in range(FOLDS):
        fit = [(np.append(x, z), r) for task, x, f in zip(tasks, inputs, fold, strict=True) if f != k
               for z, r in zip(task.levels, task.regrets, strict=True)]  # fmt: skip
        model = trees().fit(np.stack([x for x, _ in fit]), np.array([r for _, r in fit]))
        for i in np.flatnonzero(fold == k):
            predicted = model.predict(np.column_stack([np.tile(inputs[i], (len(GRID), 1)), GRID]))
            padded = np.pad(predicted, SMOOTH // 2, mode="edge")
            out[i] = GRID[np.convolve(padded, np.ones(SMOOTH), "valid").argmin()]
    return out


def same(tasks: Sequence[Held]) -> np.ndarray:
    """The one level that is best for all of them, (tasks,); chosen on the tasks that it is judged on."""
    table = np.array([[task.regret(z) for z in GRID] for task in tasks])
    return np.full(len(tasks), GRID[table.mean(0).argmin()])


def rules(tasks: Sequence[Held], policy: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Regrets (tasks,) of every rule."""
    observed = np.stack([task.observation for task in tasks])
    names = sorted({task.family for task in tasks})
    named = np.array([[task.family == name for name in names] for task in tasks], float)
    moved, size = (np.stack([task.beside[key] for task in tasks]) for key in ("moved", "size"))
    inputs = {name: observed[:, mask(groups) > 0] for name, groups in PARTS.items()}
    most = inputs["learned: and size of the data"]
    inputs |= {
        "learned: and family": np.hstack([most, named]), "learned: and moved": np.hstack([most, moved]),
        "learned: and weights": np.hstack([most, size]),
    }  # fmt: skip
    levels = {
        "same": same(tasks),
        **{name: rule(observed[:, -len(PROBE_NAMES) :]) for name, rule in FINDERS.items()},
        "policy": ActionEquation().span * np.clip(policy(observed), -1, 1),
    }

    def regrets(level: np.ndarray) -> np.ndarray:
        return np.array([task.regret(z) for task, z in zip(tasks, level, strict=True)])

    out = {name: regrets(level) for name, level in levels.items()}
    out |= {
        name: np.mean([regrets(learned(tasks, values, split)) for split in range(SPLITS)], axis=0)
        for name, values in inputs.items()
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
    rows = []
    for name in names:
        minus = verdict.difference(*(r[f"{name}.{key}"] for key in ("minus", "minus_low", "minus_high")))
        gap = "–" if name == "finder_tenth" else minus
        interval = verdict.interval(r[f"{name}.low"], r[f"{name}.high"])
        rows.append([TEXT.get(name, name), verdict.number(r[f"{name}.mean"]), interval, gap])
    table = markdown.table(["the level is", "mean regret", "95 %", "less than the finder's (95 %)"], rows)
    return f"{table}\n\n{r['tasks']} recorded tasks of the training families, data `{r['data'][:12]}`."


def measure(files: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks."""
    tasks = [held for held in results(engine("local"), read, files) if held is not None]
    tasks.sort(key=lambda task: task.observation.tobytes())  # as workers finish is no order
    return figures(rules(tasks, load_policy("default"))) | {"tasks": len(tasks)}


def main(argv: Sequence[str] | None = None) -> int:
    what = "How well a training's level can be known before it begins."
    return command.of_collection(argv, what, OUT, PAGE, lambda files, _: measure(files), render)


if __name__ == "__main__":
    sys.exit(main())
