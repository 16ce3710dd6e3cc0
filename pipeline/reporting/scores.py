"""The evaluation's figures as one record per method, and what they are figures of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.reporting import result_keys
from pipeline.reporting.result_keys import POLICY

VALIDATED = "policy_val"
CALIBRATED = "rival.calibrated"
TEXTBOOK = "textbook.default"  # what people begin with who tune nothing: it is written in the task
TEXTBOOK_WSD = "textbook.wsd"
HOLD = "control.hold"
SPLITS = {
    "heldout": "held-out families",
    "selection": "families of the policy selection",
    "train": "families of the training",
    "heldout_large": "large held-out trainings",
    "selection_large": "large trainings of the policy selection",
}
REGIMES = {
    "ordinary": "ordinary",
    "finetuning": "fine-tuning",
    "small_noisy": "small and noisy",
    "odd": "odd",
}
SCHEDULES = {
    "constant": "constant",
    "step": "StepLR",
    "exponential": "ExponentialLR",
    "cosine": "CosineAnnealingLR",
    "onecycle": "one-cycle",
    "warmup_cosine": "warm-up + cosine",
    "linear": "linear decay",
    "wsd": "WSD",
}
NAMES = {
    POLICY: "learned policy",
    VALIDATED: "learned policy + validation loss",
    "policy_steps": "learned policy, not told of the data",
    "policy_val_steps": "the same + validation loss",
    **{f"baseline.{name}": title for name, title in SCHEDULES.items()},
    **{f"textbook.{name}": f"{title} at the textbook rate" for name, title in SCHEDULES.items()},
    TEXTBOOK: "textbook default",
    CALIBRATED: "calibrated schedule",
    "rival.finder_steepest": "LR finder (steepest descent)",
    "rival.finder_tenth": "LR finder (tenth of blow-up)",
    "rival.plateau": "ReduceLROnPlateau",
    "rival.greedy": "GreedyLR (transformers)",
    "rival.nadamw": "NAdamW + warm-up + cosine, calibrated",
    "rival.schedule_free": "schedule-free AdamW / SGD",
    "rival.schedule_free_high": "schedule-free AdamW from 0.01",
    "rival.prodigy": "Prodigy",
    "rival.prodigy_cosine": "Prodigy + cosine",
    "rival.d_adaptation": "D-Adaptation Adam / SGD",
    "rival.d_adaptation_cosine": "D-Adaptation + cosine",
    "rival.mechanic_cosine": "Mechanic(AdamW / SGD) + cosine",
    "rival.momo": "MoMo-Adam / MoMo",
    "rival.dog": "DoG, weights averaged",
    "rival.ldog": "LDoG, weights averaged",
    "rival.random_search_3": "random search (3 trials)",
    "rival.random_search_5": "random search (5 trials)",
    "control.random_init": "random network",
    "control.state_blind": "state-blind policy",
    "control.mean_lr": "replay of the policy's mean curve",
    HOLD: "first level held",
    "control.hold_steps": "first level held, not told of the data",
    "control.unguarded": "learned policy, without guards",
    "control.no_loss": "the policy without the loss",
}


@dataclass(frozen=True)
class Part:
    """Normalised regret of one method on the tasks of one regime; `low`, `high` and `gap` as in `Score`."""

    mean: float
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Score:
    """Normalised regret of one method on one split; `gap` is the policy's minus this one's, None for the policy."""

    group: str  # as in metrics/evaluate.json: "policy", "baseline.cosine"
    mean: float  # over the regimes, by their shares
    iqm: float
    low: float  # of the mean's 95 % interval
    high: float
    worst: float  # the worst task's mean
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    wins: float | None = None  # share of (task, seed) that the policy wins against it
    lost: float | None = None  # share of the tasks on which the policy's mean is higher than its
    regimes: Mapping[str, Part] = field(default_factory=dict)  # of those that have tasks, in the order of `REGIMES`

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


def table(figures: Mapping[str, Any], split: str) -> list[Score]:
    """All methods of a split that have an interval, lowest mean first.

    Raises ValueError if the policy is not among them.
    """
    groups = result_keys.groups(figures).get(split, {})
    if "mean" not in groups.get(POLICY, {}):
        key = result_keys.ResultKey(split, POLICY, "mean").encode()
        raise ValueError(f"metrics/evaluate.json: {key} is missing; run `dvc repro evaluate`")
    out = [_score(group, values) for group, values in groups.items() if values.keys() >= set(result_keys.STATISTICS)]
    return sorted(out, key=lambda s: (s.mean, s.group))


def _score(group: str, values: Mapping[str, float]) -> Score:
    return Score(
        group,
        **{statistic: values[statistic] for statistic in result_keys.STATISTICS},
        gap=values.get("policy_minus"),
        gap_low=values.get("policy_minus_low"),
        gap_high=values.get("policy_minus_high"),
        wins=values.get("policy_wins"),
        lost=values.get("tasks_lost"),
        regimes={regime: _part(regime, values) for regime in REGIMES if f"{regime}_mean" in values},
    )


def _part(regime: str, values: Mapping[str, float]) -> Part:
    ends = ("policy_minus", "policy_minus_low", "policy_minus_high", "low", "high")
    return Part(values[f"{regime}_mean"], *(values.get(f"{regime}_{end}") for end in ends))


def find(scores: Iterable[Score], group: str) -> Score | None:
    return next((s for s in scores if s.group == group), None)


def best(scores: Iterable[Score], kind: str) -> Score | None:
    """The method of a kind with the lowest mean; of the rivals, the calibrated schedule aside."""
    return next((s for s in scores if s.kind == kind and s.group != CALIBRATED), None)


def yardsticks(scores: Sequence[Score]) -> list[Score]:
    """What the policy is measured by first: the calibrated schedule, the textbook default, the best rival.

    Those that the scores lack are left out.
    """
    wanted = (find(scores, CALIBRATED), find(scores, TEXTBOOK), best(scores, "rival"))
    return [score for score in wanted if score is not None]


def listed(scores: Iterable[Score]) -> list[Score]:
    """The scores that a table of all methods shows: of those from the textbook's rate the default and WSD."""
    return [score for score in scores if score.kind != "textbook" or score.group in (TEXTBOOK, TEXTBOOK_WSD)]


def scope(figures: Mapping[str, Any], split: str) -> str:
    """What a split's figures are of: tasks, seeds, regimes, and the tasks that were left out with their reasons."""
    tasks, configured, seeds = (figures[result_keys.of_split(split, key)] for key in ("tasks", "configured", "seeds"))
    out = f"{tasks} of {configured} tasks, {seeds} seeds each"
    parts = shares(figures, split)
    if parts:
        said = (f"{title} {100 * share:.0f} % ({count})" for title, count, share in parts.values())
        out += f"; share and tasks of regimes: {', '.join(said)}"
    if without := unjudged(figures, split):
        out += f"; no task of {', '.join(without)}, so the other shares are scaled to 100 %"
    reasons = left_out(figures, split).values()
    return f"{out}; left out: {'; '.join(reasons)}" if reasons else out


def shares(figures: Mapping[str, Any], split: str) -> dict[str, tuple[str, int, float]]:
    """By regime that has tasks its title, their number, and its share in the means."""
    out = {}
    for regime, title in REGIMES.items():
        count, share = (figures.get(result_keys.of_split(split, f"{what}.{regime}")) for what in ("tasks", "share"))
        if count is not None and share is not None:
            out[regime] = title, count, share
    return out


def unjudged(figures: Mapping[str, Any], split: str) -> list[str]:
    """The titles of the regimes that have no task; the shares of the others are scaled to add up to 1."""
    known = shares(figures, split)
    return [title for regime, title in REGIMES.items() if known and regime not in known]


def left_out(figures: Mapping[str, Any], split: str) -> dict[str, str]:
    """By task, of those that a split's figures are not of, what it is and why it was left out."""
    prefix = result_keys.of_split(split, "left_out.")
    return {key.removeprefix(prefix): str(text) for key, text in figures.items() if key.startswith(prefix)}
