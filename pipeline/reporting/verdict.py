"""The evaluation's figures as one record per method, and what they allow to say, in words.

A difference counts where its 95 % interval excludes zero, and only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting import result_keys
from pipeline.reporting.result_keys import POLICY

VALIDATED = "policy_val"
SPLITS = {
    "heldout": "held-out families",
    "selection": "families of the policy selection",
    "train": "families of the training",
}
NAMES = {
    POLICY: "learned policy",
    VALIDATED: "learned policy + validation loss",
    "policy_steps": "learned policy, not told of the data",
    "baseline.constant": "constant",
    "baseline.step": "StepLR",
    "baseline.exponential": "ExponentialLR",
    "baseline.cosine": "CosineAnnealingLR",
    "baseline.onecycle": "one-cycle",
    "baseline.warmup_cosine": "warm-up + cosine",
    "baseline.linear": "linear decay",
    "baseline.wsd": "WSD",
    "rival.calibrated": "calibrated schedule",
    "rival.finder_steepest": "LR finder (steepest descent)",
    "rival.finder_tenth": "LR finder (tenth of blow-up)",
    "rival.plateau": "ReduceLROnPlateau",
    "rival.greedy": "GreedyLR (transformers)",
    "rival.schedule_free": "schedule-free AdamW / SGD",
    "rival.prodigy": "Prodigy",
    "rival.prodigy_cosine": "Prodigy + cosine",
    "rival.d_adaptation": "D-Adaptation Adam / SGD",
    "rival.d_adaptation_cosine": "D-Adaptation + cosine",
    "rival.random_search_3": "random search, 3 trials",
    "rival.random_search_5": "random search, 5 trials",
    "floor.searched": "schedule searched for the task",
    "control.random_init": "random network",
    "control.state_blind": "state-blind policy",
    "control.mean_lr": "replay of the policy's mean curve",
}
MEANING = {
    "control.random_init": "a network that was never trained",
    "control.state_blind": "a policy that sees the clock alone",
    "control.mean_lr": "its own average learning-rate curve, replayed without looking at the training",
}
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Score:
    """Normalised regret of one method on one split; `gap` is the policy's minus this one's, None for the policy."""

    group: str  # as in metrics/evaluate.json: "policy", "baseline.cosine"
    mean: float
    iqm: float
    low: float  # of the mean's 95 % interval
    high: float
    worst: float  # the worst task's mean
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    wins: float | None = None  # share of (task, seed) that the policy wins against it

    @property
    def kind(self) -> str:
        return result_keys.kind_of(self.group)

    @property
    def name(self) -> str:
        return NAMES.get(self.group, self.group.partition(".")[2] or self.group)

    @property
    def beaten(self) -> bool:
        """Whether the policy's regret is lower, with an interval that excludes zero."""
        return self.gap_high is not None and self.gap_high < 0

    @property
    def ahead(self) -> bool:
        """Whether the policy's regret is higher, with an interval that excludes zero."""
        return self.gap_low is not None and self.gap_low > 0


def scores(figures: Mapping[str, Any], split: str) -> list[Score]:
    """All methods of a split, lowest mean regret first. Raises ValueError if the policy is not among them."""
    table = result_keys.groups(figures).get(split, {})
    if "mean" not in table.get(POLICY, {}):
        key = result_keys.ResultKey(split, POLICY, "mean").encode()
        raise ValueError(f"metrics/evaluate.json: {key} is missing; run `dvc repro evaluate`")
    out = [_score(group, values) for group, values in table.items() if "mean" in values]
    return sorted(out, key=lambda s: (s.mean, s.group))


def _score(group: str, values: Mapping[str, float]) -> Score:
    return Score(
        group,
        **{statistic: values[statistic] for statistic in result_keys.STATISTICS},
        gap=values.get("policy_minus"),
        gap_low=values.get("policy_minus_low"),
        gap_high=values.get("policy_minus_high"),
        wins=values.get("policy_wins"),
    )


def find(table: Iterable[Score], group: str) -> Score | None:
    return next((s for s in table if s.group == group), None)


def best(table: Iterable[Score], kind: str) -> Score | None:
    """The method of a kind with the lowest mean."""
    return next((s for s in table if s.kind == kind), None)


@dataclass(frozen=True)
class Verdict:
    """`tone` is "good" (everything beaten), "mixed", or "bad" (a control does as well)."""

    tone: str
    headline: str
    sentences: tuple[str, ...]


def judge(table: Sequence[Score]) -> Verdict:
    """What the scores of one split allow to say."""
    others = [s for s in table if s.kind in ("baseline", "rival")]
    controls = [s for s in table if s.kind == "control"]
    beaten = [s for s in others if s.beaten]
    ahead = [s for s in others if s.ahead]
    open_ = [s for s in others if not (s.beaten or s.ahead)]
    equal = [s for s in controls if not s.beaten]
    sentences = []
    if beaten:
        sentences.append(f"Lower regret than {_list(beaten)}; the interval of the difference excludes zero.")
    if open_:
        sentences.append(f"No difference can be shown from {_list(open_, gaps=True)}.")
    if ahead:
        sentences.append(f"Higher regret than {_list(ahead, gaps=True)}.")
    for control in equal:
        relation = "does better" if control.ahead else "does as well"
        sentences.append(
            f"The control “{control.name}” {relation}, {gap(control)}: "
            f"the policy has learned nothing beyond {MEANING.get(control.group, control.name)}."
        )
    if controls and not equal:
        sentences.append(f"All {len(controls)} controls are beaten: what the policy does with what it sees matters.")
    return Verdict(_tone(equal, open_, ahead), _headline(others, beaten, equal), tuple(sentences))


def _tone(equal: list[Score], open_: list[Score], ahead: list[Score]) -> str:
    if equal:
        return "bad"
    return "mixed" if open_ or ahead else "good"


def _headline(others: list[Score], beaten: list[Score], equal: list[Score]) -> str:
    if equal:
        return f"It has learned nothing beyond: {', '.join(s.name for s in equal)}"
    unbeaten = [s for s in others if not s.beaten]
    if not unbeaten:
        return "Lower regret than every schedule and every rival"
    if all(s.beaten for s in others if s.kind == "baseline"):
        return f"Lower regret than every schedule from a blindly chosen rate, but not than: {_names(unbeaten)}"
    return f"Lower regret than {len(beaten)} of {len(others)} schedules and rivals; not than: {_names(unbeaten)}"


def _names(table: Iterable[Score]) -> str:
    return ", ".join(s.name for s in table)


def _list(table: list[Score], gaps: bool = False) -> str:
    words = [f"{s.name} {gap(s)}" if gaps else s.name for s in table]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def gap(score: Score) -> str:
    """The policy's regret minus this one's, with its interval."""
    if score.gap is None:
        return number(None)
    return difference(score.gap, score.gap_low, score.gap_high)


def difference(value: float | None, low: float | None, high: float | None) -> str:
    """With its sign, and the interval in brackets."""
    return f"{number(value, sign=True)} ({interval(low, high, sign=True)})"


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for people: a true minus, a dash for none."""
    if value is None or value != value:
        return "–"
    rounded = round(value, digits) + 0.0  # the sum turns a negative zero into zero
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"
