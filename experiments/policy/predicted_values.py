"""Can critics choose agents as well as trainings do? Predicted values and regrets over all experiments.

    python -m experiments.policy.predicted_values    # seconds; reads what experiments/results/variants has of the last
                                                     # collection, writes docs/experiments.md,
                                                     # experiments/results/predicted_values.json

It counts each agent of the experiments once whose critics were paid in the same units and which was used as it was
trained. It compares the value that the agent's own critics predict (an estimate without new trainings, of fitted values
as in Fujimoto & Gu 2021, arXiv:2106.06860) with its mean regret on the selection split. Figures:

    agents                     number of agents
    rank, rank_low, rank_high  Spearman's correlation of predicted value and regret, with a 95 % interval over the
                               agents; -1: the higher the value, the lower the regret
    promised, mean, best       regret of the agent with the highest predicted value, mean regret, lowest regret
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, rankdata

from benchmarks import command
from experiments.policy.variant import Variant
from experiments.policy.variant_study import PAGE, RESULTS
from experiments.policy.variants import EXPERIMENTS
from pipeline.reporting import markdown, verdict
from policy import trajectories

OUT = Path("experiments/results/predicted_values.json")
RESAMPLES = 2000


def comparable(variant: Variant) -> bool:
    """Whether its critics saw the same tasks, paid in the same units, and its agents are used as they were trained."""
    return variant == Variant(variant.train, action=variant.action)


def pairs(results: Path, data: str) -> Iterator[tuple[float, float]]:
    """Predicted value and mean regret of every agent of the experiments on one collection.

    `results` is the folder of their files, `data` the collection's fingerprint.
    """
    for name, experiment in EXPERIMENTS.items():
        path = results / f"{name}.json"
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stored.get("data") != data:
            continue
        for label, variant in experiment.variants.items():
            values = stored.get(f"{label}.promised")
            if comparable(variant) and values is not None:
                yield from zip(values, stored[f"{label}.agents"], strict=True)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of values (n,) by pairs."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def figures(agents: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """All figures of (predicted value, regret) pairs, in any order.

    A pair that occurs several times counts once, because experiments share their first variant.
    """
    value, regret = np.array(sorted(set(agents))).T
    interval = bootstrap(
        (value, regret), correlation, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return {
        "agents": len(value), "rank": correlation(value, regret),
        "rank_low": float(interval.low), "rank_high": float(interval.high),
        "promised": float(regret[value.argmax()]), "mean": float(regret.mean()), "best": float(regret.min()),
    }  # fmt: skip


def render(r: Mapping[str, Any]) -> str:
    """Markdown: one row."""
    header = ["agents", "rank correlation of predicted value and regret", "95 %",
              "regret of the agent with the highest value", "mean regret", "lowest regret"]  # fmt: skip
    low, high = (verdict.number(r[f"rank_{end}"], 2, sign=True) for end in ("low", "high"))
    row = [str(r["agents"]), verdict.number(r["rank"], 2, sign=True), f"{low} to {high}"]
    row += [verdict.number(r[key]) for key in ("promised", "mean", "best")]
    return markdown.table(header, [row], "r" * len(header))


def main(argv: Sequence[str] | None = None) -> int:
    def measure(files: list[Path], _: Path) -> dict[str, Any]:
        return figures([*pairs(RESULTS, trajectories.fingerprint(files))])

    return command.of_collection(
        argv, "Whether critics choose agents as well as trainings do.", OUT, PAGE, measure, render
    )


if __name__ == "__main__":
    sys.exit(main())
