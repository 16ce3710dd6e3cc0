"""metrics/evaluate.json, as the stages after the evaluation read it.

Its keys are flat: <split>.<group>.<statistic> of the normalised regret (0: the tuned oracle, 1: nothing
learned; lower is better), where a group is `policy`, `baseline.<name>`, `control.<name>` or `rival.<name>`.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.paths import Paths

SCORE = "selection.policy.mean"  # what decides whether a policy is better
BENCHMARK = "benchmark"  # hash of tasks and protocol: only figures of an equal one may be compared
STATISTICS = ("mean", "iqm", "low", "high", "worst")

_KEY = re.compile(rf"(\w+)\.(policy|(?:baseline|control|rival)\..+)\.({'|'.join(STATISTICS)})")


def read(paths: Paths) -> dict[str, Any]:
    """The content of metrics/evaluate.json. Raises ValueError if the policy is not judged in it."""
    path = paths.evaluate_metrics
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `dvc repro evaluate`")
    figures = json.loads(path.read_text(encoding="utf-8"))
    score = figures.get(SCORE)
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(
            f"{path}: {SCORE} is {score!r}, want a number; have families of the selection split in evaluate.families"
        )
    if not isinstance(figures.get(BENCHMARK), str):
        raise ValueError(f"{path}: {BENCHMARK} is {figures.get(BENCHMARK)!r}, want its hash; run `dvc repro evaluate`")
    return figures


def groups(figures: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> group -> statistic -> normalised regret."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for key, value in figures.items():
        if match := _KEY.fullmatch(key):
            table.setdefault(match[1], {}).setdefault(match[2], {})[match[3]] = value
    return table


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The part that a bundle carries: the benchmark's hash and every group's regret."""
    return {key: value for key, value in figures.items() if key == BENCHMARK or _KEY.fullmatch(key)}
