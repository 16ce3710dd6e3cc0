"""What the wide families cost, and what they have to teach.

    python -m benchmarks.costs profiles/wide    # minutes; writes benchmarks/results/costs.json and its part of
                                                # docs/workloads.md

Keys, for each family with dear trainings: <family>.{tasks,weights,tera,error,regret}: recorded tasks; median number of
weights; mean floating-point operations of a training, in 10^12; root mean square distance, in decades, of the level
that the shipped policy names from the best one of the task's twins; mean regret of the named level.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.widths import Levels, groups, scored
from lrpilot import load_policy
from lrpilot.decisions.protocol import Protocol
from pipeline.paths import Paths
from pipeline.reporting import markdown
from pipeline.workloads.base import Workload, find
from pipeline.workloads.recorded.families import FAMILIES
from pipeline.workloads.recorded.wide import flops
from policy import trajectories

OUT, PAGE = Path("benchmarks/results/costs.json"), Path("docs/workloads.md")
TERA = 1e12


def measure(paths: Sequence[Path], families: Sequence[str]) -> dict[str, Any]:
    """The figures of these families, flat; a family without a recorded group of levels has none."""
    every, policy, out = groups(paths), load_policy("default"), dict[str, Any]()
    for name in families:
        if mine := [each for each in every if each.family == name]:
            figures = scored(mine, policy, Protocol().action)
            out |= {
                f"{name}.tasks": len(mine),
                f"{name}.weights": int(np.median([each.weights for each in mine])),
                f"{name}.tera": round(float(np.mean([flops(drawn(each)) for each in mine])) / TERA, 4),
                f"{name}.error": round(figures["error"], 4),
                f"{name}.regret": round(figures["regret"], 4),
            }
    return out


def drawn(of: Levels) -> Workload:
    """The task, anew from the seed in its file's name."""
    return find(FAMILIES, of.family).sample(np.random.default_rng(int(of.path.name.partition("-")[0])))


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each family, the one with most to teach for its cost first."""
    names = [key.removesuffix(".tasks") for key in r if key.endswith(".tasks")]
    gain = {name: r[f"{name}.regret"] / r[f"{name}.tera"] for name in names}
    rows = [
        [
            f"`{name}`", f"{r[f'{name}.tasks']}", f"{r[f'{name}.weights']:,}", f"{r[f'{name}.tera']:.2f}",
            f"{r[f'{name}.error']:.2f}", f"{r[f'{name}.regret']:.3f}", f"{gain[name]:.2f}",
        ]
        for name in sorted(gain, key=lambda name: -gain[name])
    ]  # fmt: skip
    head = ["family", "tasks", "weights", "10¹² FLOPs", "level error, decades", "regret", "regret per 10¹² FLOPs"]
    return markdown.table(head, rows, "lrrrrrr")


def main(argv: Sequence[str] | None = None) -> int:
    dear = [name for name, item in FAMILIES.items() if item.dear]
    return command.of_profile(
        argv, "What the wide families cost, and what they have to teach.", OUT, PAGE,
        lambda root: measure(trajectories.files(Paths(root).trajectories), dear), render,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
