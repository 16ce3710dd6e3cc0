"""Whether critics choose agents as well as trainings do: their promises beside the regrets, over all experiments.

    python -m experiments.policy.predicted_values    # seconds; reads what experiments/results/variants has of the last
                                                     # collection, writes docs/experiments.md,
                                                     # experiments/results/predicted_values.json

Every agent of the experiments whose critics were paid in the same units, and which was used as it was trained, counts
once: what its own critics promise (an estimate without a single new training, of fitted values as in Fujimoto & Gu
2021, arXiv:2106.06860) and its mean regret on the selection split. Figures:

    agents                     of so many
    rank, rank_low, rank_high  Spearman's correlation of promise and regret, with a 95 % interval over the agents;
                               -1: the more is promised, the lower the regret
    promised, mean, best       regret of the agent that is promised most, of the mean agent, of the best one afterwards
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
from experiments.policy.variant_study import PAGE, RESULTS
from experiments.policy.variants import EXPERIMENTS, Variant
from pipeline.reporting import verdict
from policy import trajectories

OUT = Path("experiments/results/predicted_values.json")
RESAMPLES = 2000


def comparable(variant: Variant) -> bool:
    """Whether its critics saw the same tasks, paid in the same units, and its agents are used as they were trained."""
    return variant == Variant(variant.train, action=variant.action)


def pairs(results: Path, data: str) -> Iterator[tuple[float, float]]:
    """Promise and mean regret of every agent of the experiments that were made from a collection, by fingerprint."""
    for name, experiment in EXPERIMENTS.items():
        path = results / f"{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if found.get("data") != data:
            continue
        for label, variant in experiment.variants.items():
            promised = found.get(f"{label}.promised")
            if comparable(variant) and promised is not None:
                yield from zip(promised, found[f"{label}.agents"], strict=True)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of values (n,) by pairs."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def figures(found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """All figures of (promise, regret) pairs, in whatever order; the first variant of every experiment is one."""
    promised, regret = np.array(sorted(set(found))).T
    interval = bootstrap(
        (promised, regret), correlation, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return {
        "agents": len(promised), "rank": correlation(promised, regret),
        "rank_low": float(interval.low), "rank_high": float(interval.high),
        "promised": float(regret[promised.argmax()]), "mean": float(regret.mean()), "best": float(regret.min()),
    }  # fmt: skip


def render(r: Mapping[str, Any]) -> str:
    """Markdown: one row."""
    head = ["agents", "rank correlation of promise and regret", "95 %",
            "regret of the most promising", "of the mean agent", "of the best afterwards"]  # fmt: skip
    low, high = (verdict.number(r[f"rank_{end}"], 2, sign=True) for end in ("low", "high"))
    row = [str(r["agents"]), verdict.number(r["rank"], 2, sign=True), f"{low} to {high}"]
    row += [verdict.number(r[key]) for key in ("promised", "mean", "best")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---:"] * len(head), row))


def main(argv: Sequence[str] | None = None) -> int:
    def measure(found: list[Path], _: Path) -> dict[str, Any]:
        return figures([*pairs(RESULTS, trajectories.fingerprint(found))])

    return command.of_collection(
        argv, "Whether critics choose agents as well as trainings do.", OUT, PAGE, measure, render
    )


if __name__ == "__main__":
    sys.exit(main())
