"""The widths that a first guess and the policy should have when they are combined.

    python -m experiments.policy.guess_widths --root profiles/levels    # a minute; writes docs/experiments.md and
                                                                        # experiments/results/guess_widths.json

For every recorded task, the runs that held a level tell what other levels would have reached (`held_levels.py`). The
shipped policy, told the size of the data, names a level. A guess lies at a given distance from the level that was best
with hindsight. Both are combined (`lrpilot.decisions.guess`) by each of SPECS, and the result is held. Figures, as
<widths>.<off>: the mean regret over the tasks, minus that without a guess; <widths>.worst, the highest of OFF within a
decade; none, the regret without a guess; tasks, data.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from experiments.policy.held_levels import Held, read, regrets
from lrpilot.decisions.guess import GuessSpec
from pipeline.engines import engine, results
from pipeline.reporting import markdown, verdict

OUT, PAGE = Path("experiments/results/guess_widths.json"), Path("docs/experiments.md")
OFF = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # decades from the best level
GRID = np.linspace(-2.5, 2.5, 51)  # levels among which it is looked for
SPECS = tuple(
    GuessSpec(named, 2 * named, guessed, wrong)
    for named, guessed, wrong in itertools.product((0.3, 0.5), (0.3, 0.5, 0.7), (0.3, 0.5, 0.7))
)


def revised(tasks: Sequence[Held], spec: GuessSpec, guess: np.ndarray) -> np.ndarray:
    """Regrets (tasks,) with these guesses, levels (tasks,)."""
    named, blown = np.array([task.shipped[0] for task in tasks]), np.array([task.blown for task in tasks])
    return regrets(tasks, spec.combined(named, guess, blown))


def best(tasks: Sequence[Held]) -> np.ndarray:
    """The level (tasks,) of the grid that was best with hindsight."""
    return np.array([GRID[np.argmin([task.regret(z) for z in GRID])] for task in tasks])


def figures(tasks: Sequence[Held]) -> dict[str, Any]:
    """All figures, flat."""
    without, right = regrets(tasks, np.array([task.shipped[0] for task in tasks])).mean(), best(tasks)
    out: dict[str, Any] = {"none": float(without), "tasks": len(tasks)}
    for spec in SPECS:
        gaps = {off: float(revised(tasks, spec, right + off).mean() - without) for off in OFF}
        out |= {f"{_name(spec)}.{off:g}": gap for off, gap in gaps.items()}
        out[f"{_name(spec)}.worst"] = max(gap for off, gap in gaps.items() if 0 < abs(off) <= 1)
    return out


def _name(spec: GuessSpec) -> str:
    return f"{spec.named:g}, {spec.guessed:g}, {spec.wrong:g}"


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each spec, a column of each distance."""
    rows = [
        [_name(spec), *(verdict.number(r[f"{_name(spec)}.{off:g}"], sign=True) for off in OFF)] for spec in SPECS
    ]  # fmt: skip
    table = markdown.table(["widths of policy and guess, share of wrong guesses", *(f"{off:+g}" for off in OFF)], rows)
    return (
        f"{table}\n\nCells: regret minus that without a guess, {r['none']:.3f}. Columns: decades that the guess is "
        f"off. {r['tasks']} recorded tasks of the ordinary regime, data `{r['data'][:12]}`."
    )


def measure(files: Sequence[Path]) -> dict[str, Any]:
    """All figures of recorded tasks of the ordinary regime."""
    tasks = [held for held in results(engine("local"), read, files) if held is not None and held.regime == "ordinary"]
    return figures(sorted(tasks, key=lambda task: task.observation.tobytes()))


def main(argv: Sequence[str] | None = None) -> int:
    what = "How wide a first guess, and how wide the policy, should be taken to be."
    return command.of_collection(argv, what, OUT, PAGE, lambda files, _: measure(files), render)


if __name__ == "__main__":
    sys.exit(main())
