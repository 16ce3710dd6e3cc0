"""The key figures of an evaluation, for metrics/headline.json: names without dots, numbers and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation import aggregates
from pipeline.reporting import scores
from pipeline.reporting.result_keys import POLICY, ResultKey
from pipeline.reporting.scores import CALIBRATED, HOLD, REGIMES, TEXTBOOK

ORDER = ("selection", "heldout", "train")  # the first of them that was judged is summed up
FIGURES = {  # name -> group and statistic
    "policy": (POLICY, "mean"),
    "policy_low": (POLICY, "low"),
    "policy_high": (POLICY, "high"),
    "worst": (POLICY, "worst"),
    "calibrated": (CALIBRATED, "mean"),
    "textbook": (TEXTBOOK, "mean"),
    "hold": (HOLD, "mean"),
    "lost_to_calibrated": (CALIBRATED, "tasks_lost"),
    "lost_to_textbook": (TEXTBOOK, "tasks_lost"),
}
BY_REGIME = {  # name -> group and statistic, for <name>_<regime>
    f"{name}_{regime}": (group, f"{regime}_mean")
    for name, group in (("policy", POLICY), ("hold", HOLD), ("textbook", TEXTBOOK))
    for regime in REGIMES
}


def headline(figures: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, float | int | str]:
    """Mean normalised regrets of one split and of its regimes, and facts that the policy's mean hides.

    `figures` are those of metrics/evaluate.json, `rows` those of artifacts/evaluation.parquet. Figures of methods that
    were not run are left out. Raises ValueError if the policy was not evaluated.
    """
    split = min(rows.split.unique(), key=ORDER.index)
    rival = scores.best(scores.table(figures, split), "rival")
    mine = rows.loc[(rows.split == split) & (rows.kind == "policy") & (rows.method == POLICY)]
    wanted = FIGURES | BY_REGIME
    keys = {name: ResultKey(split, group, statistic).encode() for name, (group, statistic) in wanted.items()}
    out: dict[str, float | int | str] = {name: figures[key] for name, key in keys.items() if key in figures}
    if rival is not None:
        out |= {"best_rival": rival.mean, "best_rival_name": rival.name}
    worst = str(mine.groupby("task").regret.mean().idxmax())
    said = {"split": split, "tasks": int(mine.task.nunique()), "seeds": int(mine.seed.nunique())}
    return out | {"worst_task": aggregates.labels(mine)[worst]} | said
