"""What an evaluation allows to say, in words; losses come first.

A difference counts where its 95 % interval excludes zero, and only there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting import result_keys, scores
from pipeline.reporting.result_keys import POLICY
from pipeline.reporting.scores import CALIBRATED, HOLD, TEXTBOOK, TEXTBOOK_WSD, Score

MEANING = {  # of a control that does as well
    "control.random_init": "the policy has learned nothing beyond a network that was never trained",
    "control.state_blind": "the policy has learned nothing beyond a policy that sees the clock alone",
    "control.mean_lr": "the policy has learned nothing beyond its own average learning-rate curve, replayed without "
    "looking at the training",
    HOLD: "the later moves are worth nothing",
    "control.no_loss": "what the policy makes of the training loss after the probe is worth nothing",
}
MINUS = "\N{MINUS SIGN}"
MOST_NAMES = 3  # rivals in a sentence; more are counted


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
    ahead = [s for s in others if s.ahead]
    open_ = [s for s in others if not (s.beaten or s.ahead)]
    equal = [s for s in controls if not s.beaten]
    measures = scores.yardsticks(table)
    sentences = [_of_control(control) for control in equal]
    if ahead:
        sentences.append(f"Higher regret than {_with_gaps(ahead)}.")
    sentences += _of_regimes(table, measures)
    sentences += _of_tasks(table, measures, worst_task)
    if open_:
        sentences.append(f"No difference can be shown from {_with_gaps(open_)}.")
    if first := [s for s in measures if s.beaten]:
        gaps = _and([f"the {role(s)} {gap(s)}" for s in first])
        sentences.append(f"Lower regret than {gaps}; the interval of the difference excludes zero.")
    unmeasured = [s for s in others if s not in measures]
    if any(s.beaten for s in unmeasured):
        sentences.append(f"{'Also lower' if first else 'Lower'} regret than {_and(_counted(unmeasured))}.")
    if controls and not equal:
        sentences.append(f"All {len(controls)} controls are beaten: what the policy does with what it sees matters.")
    return Verdict(_tone(equal, open_, ahead), _headline(measures, others, equal), tuple(sentences))


def judged(figures: Mapping[str, Any], split: str) -> Verdict:
    """The verdict on one split of metrics/evaluate.json."""
    return judge(scores.table(figures, split), figures.get(result_keys.of_split(split, "worst_task")))


def role(score: Score) -> str:
    """In words, what one of `scores.yardsticks` is."""
    return score.name if score.group in (CALIBRATED, TEXTBOOK) else f"best rival, {score.name}"


def _of_control(control: Score) -> str:
    relation = "does better" if control.ahead else "does as well"
    return f"The control “{control.name}” {relation}, {gap(control)}: {MEANING.get(control.group, control.name)}."


def _counted(unmeasured: list[Score]) -> list[str]:
    """What is beaten of the methods that are no yardsticks: rivals by their names, or by their number where they are
    many; schedules by their number.
    """
    words = [score.name for score in unmeasured if score.kind == "rival" and score.beaten]
    if len(words) > MOST_NAMES:
        words = [f"{len(words)} of {len([s for s in unmeasured if s.kind == 'rival'])} other rivals"]
    for kind, rate in (("textbook", "at the textbook rate"), ("baseline", "from a blindly chosen rate")):
        every = [score for score in unmeasured if score.kind == kind and score.group != TEXTBOOK]
        if count := len([score for score in every if score.beaten]):
            words.append(f"{count} of {len(every)} {'other ' * (kind == 'textbook')}schedules {rate}")
    return words


def _of_regimes(table: Sequence[Score], measures: Sequence[Score]) -> list[str]:
    """Where a weighted mean hides that the policy is behind in one regime."""
    others = [*measures, *(s for s in table if s.group in (HOLD, TEXTBOOK_WSD))]
    out = []
    for regime, title in scores.REGIMES.items():
        parts = [(s.name, s.regimes[regime]) for s in others if regime in s.regimes]
        behind = [
            f"{name} {difference(part.gap, part.gap_low, part.gap_high)}"
            for name, part in parts
            if part.gap_low is not None and part.gap_low > 0
        ]
        if behind:
            out.append(f"In the regime “{title}” its regret is higher than that of {_and(behind)}.")
    return out


def _of_tasks(table: Sequence[Score], measures: Sequence[Score], worst_task: str | None) -> list[str]:
    """What a mean hides: the worst task, and how many tasks are lost."""
    policy, sentences = scores.find(table, POLICY), list[str]()
    if policy is not None and worst_task is not None:
        sentences.append(f"Worst task: {worst_task}, regret {number(policy.worst, 2)}.")
    if shares := [f"{percent(s.lost)} of the tasks to the {role(s)}" for s in measures if s.lost is not None]:
        sentences.append(f"It loses {_and(shares)}.")
    return sentences


def _tone(equal: list[Score], open_: list[Score], ahead: list[Score]) -> str:
    if equal:
        return "bad"
    return "mixed" if open_ or ahead else "good"


def _headline(measures: list[Score], others: list[Score], equal: list[Score]) -> str:
    if equal:
        better = [s for s in equal if s.ahead]
        as_well = [s for s in equal if not s.ahead]
        parts = [(better, "does better"), (as_well, "does as well")]
        sentence = "; a control ".join(f"{what}: {_names(which)}" for which, what in parts if which)
        return f"A control {sentence}"
    every = _counted([s for s in others if s not in measures])
    beaten = _and([f"the {role(s)}" for s in measures if s.beaten] or every)
    if unbeaten := [s for s in others if not s.beaten]:
        return f"Not better than: {_names(unbeaten)}" + (f"; lower regret than {beaten}" if beaten else "")
    return f"Lower regret than {beaten}"


def _names(table: Iterable[Score]) -> str:
    return ", ".join(s.name for s in table)


def _with_gaps(table: Iterable[Score]) -> str:
    return _and([f"{s.name} {gap(s)}" for s in table])


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
    if value is None or math.isnan(value):
        return "–"
    rounded = round(value, digits) + 0.0  # the sum turns a negative zero into zero
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"
