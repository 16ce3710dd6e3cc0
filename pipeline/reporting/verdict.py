"""The evaluation's figures as one record per method, and what they allow to say, in words; losses come first.

A difference counts where its 95 % interval excludes zero, and only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting import result_keys
from pipeline.reporting.result_keys import POLICY

VALIDATED = "policy_val"
CALIBRATED = "rival.calibrated"
TEXTBOOK = "textbook.cosine"  # what people begin with who tune nothing
HOLD = "control.hold"
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
    TEXTBOOK: "textbook default",
    "textbook.constant": "constant at the textbook rate",
    "textbook.step": "StepLR at the textbook rate",
    "textbook.exponential": "ExponentialLR at the textbook rate",
    "textbook.onecycle": "one-cycle at the textbook rate",
    "textbook.warmup_cosine": "warm-up + cosine at the textbook rate",
    "textbook.linear": "linear decay at the textbook rate",
    "textbook.wsd": "WSD at the textbook rate",
    CALIBRATED: "calibrated schedule",
    "rival.finder_steepest": "LR finder (steepest descent)",
    "rival.finder_tenth": "LR finder (tenth of blow-up)",
    "rival.plateau": "ReduceLROnPlateau",
    "rival.greedy": "GreedyLR (transformers)",
    "rival.schedule_free": "schedule-free AdamW / SGD",
    "rival.prodigy": "Prodigy",
    "rival.prodigy_cosine": "Prodigy + cosine",
    "rival.d_adaptation": "D-Adaptation Adam / SGD",
    "rival.d_adaptation_cosine": "D-Adaptation + cosine",
    "rival.random_search_3": "random search (3 trials)",
    "rival.random_search_5": "random search (5 trials)",
    "floor.searched": "schedule searched for the task",
    "control.random_init": "random network",
    "control.state_blind": "state-blind policy",
    "control.mean_lr": "replay of the policy's mean curve",
    HOLD: "first level held",
    "control.no_loss": "the policy without the loss",
}
MEANING = {  # of a control that does as well
    "control.random_init": "the policy has learned nothing beyond a network that was never trained",
    "control.state_blind": "the policy has learned nothing beyond a policy that sees the clock alone",
    "control.mean_lr": "the policy has learned nothing beyond its own average learning-rate curve, replayed without "
    "looking at the training",
    HOLD: "the later moves are worth nothing",
    "control.no_loss": "what the policy makes of the training loss after the probe is worth nothing",
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
    lost: float | None = None  # share of the tasks on which the policy's mean is higher than its

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
    """All methods of a split that have an interval, lowest mean first.

    Raises ValueError if the policy is not among them.
    """
    table = result_keys.groups(figures).get(split, {})
    if "mean" not in table.get(POLICY, {}):
        key = result_keys.ResultKey(split, POLICY, "mean").encode()
        raise ValueError(f"metrics/evaluate.json: {key} is missing; run `dvc repro evaluate`")
    out = [_score(group, values) for group, values in table.items() if values.keys() >= set(result_keys.STATISTICS)]
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
    )


def find(table: Iterable[Score], group: str) -> Score | None:
    return next((s for s in table if s.group == group), None)


def best(table: Iterable[Score], kind: str) -> Score | None:
    """The method of a kind with the lowest mean; of rivals, beside the calibrated schedule."""
    return next((s for s in table if s.kind == kind and s.group != CALIBRATED), None)


def yardsticks(table: Sequence[Score]) -> list[Score]:
    """What the policy is measured by first: the calibrated schedule, the textbook default, the best rival.

    None of them needs to be tuned for the task either. Those that the scores lack are left out.
    """
    wanted = (find(table, CALIBRATED), find(table, TEXTBOOK), best(table, "rival"))
    return [score for score in wanted if score is not None]


@dataclass(frozen=True)
class Verdict:
    """`tone` is "good" (everything beaten), "mixed", or "bad" (a control does as well)."""

    tone: str
    headline: str
    sentences: tuple[str, ...]


def judge(table: Sequence[Score], worst_task: str | None = None) -> Verdict:
    """What the scores of one split allow to say, the losses first; `worst_task` is the label of the policy's worst."""
    others = [s for s in table if s.kind in ("baseline", "textbook", "rival")]
    controls = [s for s in table if s.kind == "control"]
    beaten = [s for s in others if s.beaten]
    ahead = [s for s in others if s.ahead]
    open_ = [s for s in others if not (s.beaten or s.ahead)]
    equal = [s for s in controls if not s.beaten]
    measures = yardsticks(table)
    sentences = [_of_control(control) for control in equal]
    if ahead:
        sentences.append(f"Higher regret than {_list(ahead, gaps=True)}.")
    sentences += _of_tasks(table, measures, worst_task)
    if open_:
        sentences.append(f"No difference can be shown from {_list(open_, gaps=True)}.")
    if first := [s for s in measures if s.beaten]:
        sentences.append(f"Lower regret than {_list(first, gaps=True)}; the interval of the difference excludes zero.")
    if rest := [s for s in beaten if s not in measures]:
        sentences.append(f"{'Also lower' if first else 'Lower'} regret than {_and(_counted(rest, others))}.")
    if controls and not equal:
        sentences.append(f"All {len(controls)} controls are beaten: what the policy does with what it sees matters.")
    return Verdict(_tone(equal, open_, ahead), _headline(measures, others, equal), tuple(sentences))


def judged(figures: Mapping[str, Any], split: str) -> Verdict:
    """The verdict on one split of metrics/evaluate.json."""
    return judge(scores(figures, split), figures.get(result_keys.of_split(split, "worst_task")))


def listed(table: Iterable[Score]) -> list[Score]:
    """The scores that a table of all methods shows: of schedules from the textbook's rate the default alone."""
    return [score for score in table if score.kind != "textbook" or score.group == TEXTBOOK]


def scope(figures: Mapping[str, Any], split: str) -> str:
    """What a split's figures are of: tasks, seeds, and the tasks that were left out with their reasons."""
    tasks, configured, seeds = (figures[result_keys.of_split(split, key)] for key in ("tasks", "configured", "seeds"))
    out = f"{tasks} of {configured} tasks, {seeds} seeds each"
    reasons = left_out(figures, split).values()
    return f"{out}; left out: {'; '.join(reasons)}" if reasons else out


def left_out(figures: Mapping[str, Any], split: str) -> dict[str, str]:
    """By task, of those that a split's figures are not of, what it is and why it was left out."""
    prefix = result_keys.of_split(split, "left_out.")
    return {key.removeprefix(prefix): str(text) for key, text in figures.items() if key.startswith(prefix)}


def _of_control(control: Score) -> str:
    relation = "does better" if control.ahead else "does as well"
    return f"The control “{control.name}” {relation}, {gap(control)}: {MEANING.get(control.group, control.name)}."


def _counted(beaten: list[Score], others: list[Score]) -> list[str]:
    """Rivals by their names, schedules by their number."""
    words = [score.name for score in beaten if score.kind == "rival"]
    for kind, rate in (("textbook", "at the textbook rate"), ("baseline", "from a blindly chosen rate")):
        every = [score for score in others if score.kind == kind and score.group != TEXTBOOK]
        if count := len([score for score in beaten if score in every]):
            words.append(f"{count} of {len(every)} {'other ' * (kind == 'textbook')}schedules {rate}")
    return words


def _of_tasks(table: Sequence[Score], measures: Sequence[Score], worst_task: str | None) -> list[str]:
    """What a mean hides: the worst task, and how many tasks are lost."""
    policy, sentences = find(table, POLICY), list[str]()
    if policy is not None and worst_task is not None:
        sentences.append(f"Worst task: {worst_task}, regret {number(policy.worst, 2)}.")
    if shares := [f"{percent(s.lost)} of the tasks to the {_role(s)}" for s in measures if s.lost is not None]:
        sentences.append(f"It loses {_and(shares)}.")
    return sentences


def _role(score: Score) -> str:
    return score.name if score.group in (CALIBRATED, TEXTBOOK) else f"best rival, {score.name}"


def _tone(equal: list[Score], open_: list[Score], ahead: list[Score]) -> str:
    if equal:
        return "bad"
    return "mixed" if open_ or ahead else "good"


def _headline(measures: list[Score], others: list[Score], equal: list[Score]) -> str:
    if equal:
        better = [s for s in equal if s.ahead]
        as_well = [s for s in equal if not s.ahead]
        parts = [(better, "does better"), (as_well, "does as well")]
        return "; ".join(f"A control {what}: {_names(which)}" for which, what in parts if which)
    beaten = _and([f"the {_role(s)}" for s in measures if s.beaten])
    unbeaten = [s for s in others if not s.beaten]
    if unbeaten:
        return f"Not better than: {_names(unbeaten)}" + (f"; lower regret than {beaten}" if beaten else "")
    return f"Lower regret than {beaten}"


def _names(table: Iterable[Score]) -> str:
    return ", ".join(s.name for s in table)


def _list(table: list[Score], gaps: bool = False) -> str:
    return _and([f"{s.name} {gap(s)}" if gaps else s.name for s in table])


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def gap(score: Score) -> str:
    """The policy's regret minus this one's, with its interval."""
    return difference(score.gap, score.gap_low, score.gap_high)


def difference(value: float | None, low: float | None, high: float | None) -> str:
    """With its sign, and the interval in brackets; a dash for none."""
    return number(None) if value is None else f"{number(value, sign=True)} ({interval(low, high, sign=True)})"


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for people: a true minus, a dash for none."""
    if value is None or value != value:
        return "–"
    rounded = round(value, digits) + 0.0  # the sum turns a negative zero into zero
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"
