"""The keys of metrics/evaluate.json: <split>.<group>.<statistic>. Only this module writes and reads them.

A group is one method: `policy` (`policy_val`: shown the validation loss, `policy_steps`: not told of the data), or a
kind and a name, such as `baseline.cosine`. The name of a rival may be that of a user's own scheduler, `module:factory`.
Values are normalised regrets (0: the tuned oracle, 1: nothing learned; lower is better) unless their statistic says
otherwise. `mean` is the mean over the regimes, weighted by their shares; <regime>_mean, <regime>_low and <regime>_high
are those of one regime's tasks. The file also has `benchmark`, calibrated.<optimizer>, and for each split

    <split>.configured       number of tasks that were asked for
    <split>.tasks            number of tasks behind the figures
    <split>.tasks.<regime>   how many of them belong to this regime
    <split>.share.<regime>   its weight in the means; if a regime has no task, those of the others add up to 1
    <split>.left_out.<task>  what a task that was left out is, and why
    <split>.seeds            runs of a task that each method is judged on; those that choose the oracle do not count
    <split>.worst_task       the label of the task with the policy's highest mean regret, which is `policy.worst`
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.paths import Paths

SPLITS = ("heldout", "selection", "train", "heldout_large", "selection_large")  # in the order of the pages
POLICY = "policy"
BENCHMARK = "benchmark"  # hash of tasks and protocol: only figures of an equal one may be compared
STATISTICS = ("mean", "iqm", "low", "high", "worst")  # what a bundle carries of every group, beside
REGIME_MEAN = "_mean"  # the end of <regime>_mean

GROUP = re.compile(r"policy(?:_\w+)?|(?:baseline|textbook|rival|control)\.[\w:.]+")
STATISTIC = re.compile(r"\w+")


@dataclass(frozen=True)
class ResultKey:
    """One key. Raises ValueError for an unknown split, group or statistic."""

    split: str
    group: str
    statistic: str

    def __post_init__(self) -> None:
        if not (self.split in SPLITS and GROUP.fullmatch(self.group) and STATISTIC.fullmatch(self.statistic)):
            raise ValueError(
                f"{self}: want a split of {', '.join(SPLITS)}, a group as policy or baseline.cosine, a word"
            )

    @property
    def kind(self) -> str:
        return kind_of(self.group)

    def encode(self) -> str:
        return f"{self.split}.{self.group}.{self.statistic}"

    @classmethod
    def decode(cls, text: str) -> ResultKey | None:
        """The key that encodes to `text`; None if there is none, as for `benchmark`."""
        split, _, rest = text.partition(".")
        group, _, statistic = rest.rpartition(".")
        try:
            return cls(split, group, statistic)
        except ValueError:
            return None


SCORE = ResultKey("selection", POLICY, "mean").encode()  # what decides whether a policy is better


def kind_of(group: str) -> str:
    """The kind of a group: "policy", "baseline", "textbook", "rival" or "control"."""
    return POLICY if group.startswith(POLICY) else group.partition(".")[0]


def encode(split: str, group: str, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of one group, by statistic, under their keys."""
    return {ResultKey(split, group, statistic).encode(): value for statistic, value in figures.items()}


def groups(figures: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> group -> statistic -> value."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for text, value in figures.items():
        if key := ResultKey.decode(text):
            table.setdefault(key.split, {}).setdefault(key.group, {})[key.statistic] = value
    return table


def of_split(split: str, what: str) -> str:
    """The key of a fact about a split: "tasks", "configured", "seeds", "worst_task", "left_out.<task>",
    "tasks.<regime>", "share.<regime>".
    """
    return f"{split}.{what}"


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The part that a bundle carries: the benchmark's hash, and for every group `STATISTICS` and the regimes' means."""
    return {text: value for text, value in figures.items() if text == BENCHMARK or _carried(ResultKey.decode(text))}


def _carried(key: ResultKey | None) -> bool:
    return key is not None and (key.statistic in STATISTICS or key.statistic.endswith(REGIME_MEAN))


def read(paths: Paths) -> dict[str, Any]:
    """The content of metrics/evaluate.json. Raises ValueError if it has no figures of the policy."""
    path = paths.evaluate_metrics
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `dvc repro evaluate`")
    figures = json.loads(path.read_text(encoding="utf-8"))
    score = figures.get(SCORE)
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(
            f"{path}: {SCORE} is {score!r}, want a number; add families of the selection split to evaluate.families"
        )
    if not isinstance(figures.get(BENCHMARK), str):
        raise ValueError(f"{path}: {BENCHMARK} is {figures.get(BENCHMARK)!r}, want its hash; run `dvc repro evaluate`")
    return figures
