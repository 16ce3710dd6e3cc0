"""Whether critics name levels for networks that are wider than all that they learned from.

    python -m benchmarks.widths profiles/wide    # minutes; writes benchmarks/results/widths.json and its part of
                                                 # docs/large.md

Critics learn from the recorded tasks of a profile with their widest third left out, and, as a control, with a third
left out at random. A task's best level is the lowest point of the parabola through the best twin of its group of levels
and this one's neighbours. Keys: <left out>.<method>.{error,shift,regret}: root mean square and mean distance of the
named level from the best one, in decades; mean regret of the named level, against the best twin; <left
out>.{tasks,fan_in}.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from lrpilot import load_policy
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.protocol import Protocol
from pipeline import agent_training
from pipeline.config import Params, load
from pipeline.paths import Paths
from pipeline.reporting import markdown
from policy import agents, mdp, trajectories
from policy.choice import chosen
from policy.observations import TaskRecording, mask, observations
from policy.settings import TrainConfig
from policy.store import Store, build

OUT, PAGE = Path("benchmarks/results/widths.json"), Path("docs/large.md")
WIDEST, ANY = "widest", "random"  # which third is left out
SHIPPED, SIZED, UNSIZED = "shipped", "sized", "unsized"
Namer = Callable[[np.ndarray], np.ndarray]  # observations (n, F) -> first actions (n,)


@dataclass(frozen=True)
class Levels:
    """A group of twins that differ in their first level.

    Attributes:
        path: its file.
        family: of its task.
        weights: number of its network's.
        fan_in: of a weight matrix of its network, the median.
        observation: (F,) of the first decision.
        anchor: level that actions are counted from.
        levels: (twins,) in ascending order.
        regrets: (twins,) of their final validation losses against the best of them.
    """

    path: Path
    family: str
    weights: int
    fan_in: float
    observation: np.ndarray
    anchor: float
    levels: np.ndarray
    regrets: np.ndarray

    @property
    def best(self) -> float:
        """The level of the lowest point of the parabola through the best twin and its neighbours."""
        at = int(np.argmin(self.regrets))
        if not 0 < at < len(self.levels) - 1:
            return float(self.levels[at])
        (a, b, c), (low, least, high) = self.levels[at - 1 : at + 2], self.regrets[at - 1 : at + 2]
        left, right = (least - low) / (b - a), (high - least) / (c - b)  # slopes between the three
        vertex = (a + b) / 2 - left * (c - a) / 2 / max(right - left, 1e-12)
        return float(np.clip(vertex, a, c))

    def regret(self, level: float) -> float:
        """Of a level, between twins; beyond all of them, that of the last one."""
        return float(np.interp(level, self.levels, self.regrets))


def groups(paths: Sequence[Path]) -> list[Levels]:
    """The groups of levels in these files; one of which all twins diverged is none."""
    out: list[Levels] = []
    for path in paths:
        task = TaskRecording(trajectories.read(path))
        twins = np.flatnonzero((task.fact("group") == 0) & task.probed)
        final = np.where(task.diverged, np.nan, task.column("val_loss")[task.ends, np.arange(task.runs)])[twins]
        if len(twins) < 3 or not np.isfinite(final).any():
            continue
        initial = mdp.initial_loss(task.column("val_loss")[0], task.baseline_loss)
        regrets = np.nan_to_num(mdp.regret(final, initial, mdp.best_loss(final, initial)), nan=1.0).clip(max=1.0)
        levels, first = task.column("level")[0, twins], observations(task, np.ones((task.length, task.runs), bool))[0]
        order = np.argsort(levels)
        out.append(
            Levels(
                path, str(task.fact("family")[0]), int(task.fact("weights")[0]), float(task.fact("fan_in")[twins[0]]),
                first[twins[0]], float(task.column("anchor")[0, twins[0]]), levels[order], regrets[order],
            )
        )  # fmt: skip
    return out


def scored(of: Sequence[Levels], name: Namer, equation: ActionEquation) -> dict[str, float]:
    """The error and the regret of the levels that are named for these groups."""
    anchors = np.array([each.anchor for each in of])
    named = equation.apply(anchors, anchors, name(np.stack([each.observation for each in of])), True)
    away = named - [each.best for each in of]
    regrets = [each.regret(level) for each, level in zip(of, named, strict=True)]
    return {
        "error": float(np.sqrt(np.mean(away**2))), "shift": float(np.mean(away)), "regret": float(np.mean(regrets))
    }  # fmt: skip


def learned(paths: Sequence[Path], params: Params, config: TrainConfig) -> Namer:
    """Critics that learned from these files, as one policy."""
    with tempfile.TemporaryDirectory() as folder:
        build(paths, params.reward, Path(folder), inferred=agent_training.inferred(config))
        store = Store.open(Path(folder))
        trained = [agents.train(agent_training.masked(config, store, seed), config, seed) for seed in config.seeds]
    visible = mask(config.features)
    return lambda asked: chosen(params.export, asked, np.stack([agents.values(a, asked * visible) for a in trained]))


def measure(paths: Sequence[Path], params: Params, seed: int = 0) -> dict[str, Any]:
    """All figures, flat."""
    every, equation, out = groups(paths), Protocol().action, dict[str, Any]()
    third, fan_in = len(every) // 3, np.array([each.fan_in for each in every])
    shuffled = np.random.default_rng(seed).permutation(len(every))
    unsized = replace(params.train, features=tuple(group for group in params.train.features if group != "size"))
    for part, order in ((WIDEST, np.argsort(fan_in, kind="stable")), (ANY, shuffled)):
        judged = [every[i] for i in order[-third:]]
        rest = sorted({*paths} - {each.path for each in judged})
        namers = {
            SHIPPED: load_policy("default"), SIZED: learned(rest, params, params.train),
            UNSIZED: learned(rest, params, unsized),
        }  # fmt: skip
        out |= {f"{part}.tasks": third, f"{part}.fan_in": float(np.median(fan_in[order[-third:]]))}
        for method, name in namers.items():
            out |= {f"{part}.{method}.{key}": round(value, 4) for key, value in scored(judged, name, equation).items()}
    return out


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each method and left-out third."""
    methods = {SHIPPED: "shipped policy", UNSIZED: "critics without size", SIZED: "critics that see the size"}
    rows = [
        [f"{part} third", methods[m], *(f"{r[f'{part}.{m}.{key}']:.3f}" for key in ("error", "shift", "regret"))]
        for part in (WIDEST, ANY)
        for m in methods
    ]
    table = markdown.table(["left out", "level by", "error, decades", "mean shift, decades", "regret"], rows, "llrrr")
    fan_in = f"{r[f'{WIDEST}.fan_in']:.0f} in the widest third, {r[f'{ANY}.fan_in']:.0f} in the random one"
    return f"{table}\n\n{r[f'{WIDEST}.tasks']} tasks are left out. Their median fan-in is {fan_in}."


def main(argv: Sequence[str] | None = None) -> int:
    return command.of_profile(
        argv, "Levels for networks wider than the recorded ones.", OUT, PAGE,
        lambda root: measure(trajectories.files(Paths(root).trajectories), load(root)), render,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
