"""How well the level of a training can be known before it begins, and which further measurements would help.

    python -m experiments.policy.levels --root profiles/levels    # minutes; writes experiments/results/levels.json,
                                                                  # docs/experiments.md

For every recorded task, the runs that held a level tell, by interpolation, what other levels would have reached. A rule
names a level from what is known at the first decision. Its regret is the mean over the tasks of the regret of holding
that level. Gradient-boosted trees learn rules and answer for tasks that they were not fitted on (4 folds, three times).
Their inputs are a policy's observation, told the size of the data or not, and the observation with each group of
`candidates.py`. Figures, as <rule>.<group>.<figure>, where a group is `all`, a regime, or `calm`, the tasks whose probe
had no blow-up:

    mean                            regret in units of the task's room, 0 to 1.5
    minus, minus_low, minus_high    the same minus that of trees with the told observation, paired, and its 95 %
                                    interval

and tasks.<group>, data, and curve: the regret of trees with all candidates by the number of tasks that they are fitted
on. `best` picks the best of a task's own runs with hindsight, which is what a perfect level would give, and part luck.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.candidates import GROUPS
from experiments.policy.held_levels import Held, read
from experiments.policy.held_levels import regrets as held_regrets
from experiments.policy.trees import FOLDS, SPLITS, folds, trees
from lrpilot.actions import ActionEquation
from pipeline.engines import engine, results
from pipeline.evaluation import stats
from pipeline.evaluation.methods.policies import FINDERS
from pipeline.reporting import markdown, scores, verdict
from pipeline.workloads.base import REGIMES
from policy.observations import mask

OUT, PAGE = Path("experiments/results/levels.json"), Path("docs/experiments.md")
RESAMPLES = 2000
GRID = np.linspace(-1, 1, 41) * ActionEquation().span  # decades from the anchor
SMOOTH = 5  # points of the grid over which a learned regret is averaged
TOLD, UNTOLD, EVERYTHING, NAMED = "told", "untold", "everything", "family"
ALL, CALM = "all", "calm"
FEWER = (0.125, 0.25, 0.5)  # shares of the tasks that trees are fitted on, for the curve
TEXT = {
    "best": "best of the task's own runs, with hindsight", "policy": "shipped policy's first action",
    "policy_steps": "shipped policy's first action, not told of the data", "same": "one level for all",
    "finder_steepest": "finder: steepest descent", "finder_tenth": "finder: a tenth of the blow-up",
    TOLD: "trees: the observation", UNTOLD: "trees: the observation, not told of the data",
    EVERYTHING: "trees: the observation and all of these groups",
    NAMED: "trees: the observation and the family's name",
} | {name: f"trees: the observation and {what}" for name, what in GROUPS.items()}  # fmt: skip


def learned(tasks: Sequence[Held], inputs: np.ndarray, split: int = 0, share: float = 1.0) -> np.ndarray:
    """Levels (tasks,) that look best to trees that were fitted on other tasks; inputs (tasks, F').

    `split`: which partition of the tasks; `share` of the other tasks that they are fitted on.
    """
    fold, out = folds(len(tasks), split), np.empty(len(tasks))
    drawn = np.random.default_rng([split, 1]).random(len(tasks)) < share
    for k in range(FOLDS):
        fit = [(np.append(x, z), r) for task, x, f, use in zip(tasks, inputs, fold, drawn, strict=True)
               if f != k and use for z, r in zip(task.levels, task.regrets, strict=True)]  # fmt: skip
        model = trees().fit(np.stack([x for x, _ in fit]), np.array([r for _, r in fit]))
        mine = np.flatnonzero(fold == k)
        rows = np.column_stack([np.repeat(inputs[mine], len(GRID), axis=0), np.tile(GRID, len(mine))])
        for i, predicted in zip(mine, model.predict(rows).reshape(len(mine), len(GRID)), strict=True):
            padded = np.pad(predicted, SMOOTH // 2, mode="edge")
            out[i] = GRID[np.convolve(padded, np.ones(SMOOTH), "valid").argmin()]
    return out


def same(tasks: Sequence[Held]) -> np.ndarray:
    """The one level (tasks,) that is best for all tasks, chosen on the tasks that it is judged on."""
    table = np.array([[task.regret(z) for z in GRID] for task in tasks])
    return np.full(len(tasks), GRID[table.mean(0).argmin()])


def inputs(tasks: Sequence[Held]) -> dict[str, np.ndarray]:
    """The inputs (tasks, F') of trees, by the name of the rule."""
    told, untold = (np.stack([getattr(task, name) for task in tasks]) for name in ("observation", "untold"))
    more = {name: np.stack([task.beside[name] for task in tasks]) for name in GROUPS}
    names = sorted({task.family for task in tasks})
    named = np.array([[task.family == name for name in names] for task in tasks], float)
    return {
        UNTOLD: untold, TOLD: told, **{name: np.hstack([told, values]) for name, values in more.items()},
        EVERYTHING: np.hstack([told, *more.values()]), NAMED: np.hstack([told, named]),
    }  # fmt: skip


def rules(tasks: Sequence[Held]) -> dict[str, np.ndarray]:
    """Regrets (tasks,) of every rule."""
    known = inputs(tasks)
    shipped = np.array([task.shipped for task in tasks])
    levels: dict[str, np.ndarray] = {
        "same": same(tasks),
        **{name: rule(known[TOLD][:, mask(("probe",)) > 0]) for name, rule in FINDERS.items()},
        "policy": shipped[:, 0], "policy_steps": shipped[:, 1],
    }  # fmt: skip
    out = {name: held_regrets(tasks, level) for name, level in levels.items()}
    out |= {name: _of_trees(tasks, values) for name, values in known.items()}
    return out | {"best": np.array([task.regrets.min() for task in tasks])}


def curve(tasks: Sequence[Held]) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of tasks that trees with all candidates are fitted on, and their regrets (tasks,)."""
    everything = inputs(tasks)[EVERYTHING]
    for share in FEWER:
        yield round(share * len(tasks) * (1 - 1 / FOLDS)), _of_trees(tasks, everything, share)


def _of_trees(tasks: Sequence[Held], values: np.ndarray, share: float = 1.0) -> np.ndarray:
    named = [learned(tasks, values, split, share) for split in range(SPLITS)]
    return np.mean([held_regrets(tasks, level) for level in named], axis=0)


def groups(tasks: Sequence[Held]) -> dict[str, np.ndarray]:
    """By name which tasks (tasks,) bool belong to each group; none is empty."""
    regimes = {regime: np.array([task.regime == regime for task in tasks]) for regime in REGIMES}
    every = {ALL: np.ones(len(tasks), bool), **regimes, CALM: np.array([not task.blown for task in tasks])}
    return {name: which for name, which in every.items() if which.any()}


def figures(tasks: Sequence[Held], regrets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All figures of the rules, flat."""
    rng, out = np.random.default_rng(0), dict[str, Any]()
    for group, which in groups(tasks).items():
        out[f"tasks.{group}"] = int(which.sum())
        for name, values in regrets.items():
            mine, base = values[None, which], regrets[TOLD][None, which]  # one stratum: tasks are resampled
            gap = stats.difference_estimate(mine, base, n_resamples=RESAMPLES, rng=rng)
            out |= {
                f"{name}.{group}.mean": float(mine.mean()), f"{name}.{group}.minus": gap.value,
                f"{name}.{group}.minus_low": gap.low, f"{name}.{group}.minus_high": gap.high,
            }  # fmt: skip
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each rule, the worst first; a column of each group; and the curve."""
    of_all = {key.split(".")[0]: r[key] for key in r if key.endswith(f".{ALL}.mean")}
    shown = [key.partition(".")[2] for key in r if key.startswith("tasks.")]
    names = sorted(of_all, key=lambda name: -of_all[name])
    rows = [[TEXT[name], *(_cell(r, name, group) for group in shown)] for name in names]
    heads = [f"{_title(group)} ({r[f'tasks.{group}']})" for group in shown]
    table = markdown.table(["rule that names the level", *heads], rows)
    points = ", ".join(f"{tasks} tasks {regret:.3f}" for tasks, regret in r["curve"])
    return (
        f"{table}\n\nRegret of trees with all groups, by the number of tasks that they are fitted on: {points}.\n\n"
        f"{r[f'tasks.{ALL}']} recorded tasks of the training families, data `{r['data'][:12]}`."
    )


def _title(group: str) -> str:
    return "no blow-up" if group == CALM else scores.REGIMES.get(group, group)


def _cell(r: Mapping[str, Any], name: str, group: str) -> str:
    mean = verdict.number(r[f"{name}.{group}.mean"])
    if name == TOLD:
        return mean
    gap = (r[f"{name}.{group}.{key}"] for key in ("minus", "minus_low", "minus_high"))
    return f"{mean}; {verdict.difference(*gap)}"


def measure(files: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks."""
    tasks = [held for held in results(engine("local"), read, files) if held is not None]
    tasks.sort(key=lambda task: task.observation.tobytes())  # as workers finish is no order
    regrets = rules(tasks)
    fitted = round(len(tasks) * (1 - 1 / FOLDS))
    points = [*curve(tasks), (fitted, regrets[EVERYTHING])]
    return figures(tasks, regrets) | {"curve": [[n, float(values.mean())] for n, values in points]}


def main(argv: Sequence[str] | None = None) -> int:
    what = "How well a training's level can be known before it begins."
    return command.of_collection(argv, what, OUT, PAGE, lambda files, _: measure(files), render)


if __name__ == "__main__":
    sys.exit(main())
