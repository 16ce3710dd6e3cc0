"""What figures allow to say: losses first, and nothing that an interval does not show."""

from dataclasses import replace

import pytest

from pipeline.reporting import verdict
from pipeline.reporting.scores import Part, Score
from pipeline.reporting.verdict import MINUS

LOST, OPEN, WON = (0.1, 0.05, 0.15), (-0.02, -0.08, 0.04), (-0.3, -0.4, -0.2)  # the policy's regret minus another's


def score(group: str, gap: tuple[float, float, float] | None = None) -> Score:
    mean = 0.4 - (gap[0] if gap else 0.0)
    return Score(group, mean, mean, mean - 0.05, mean + 0.05, 1.0, *(gap or (None, None, None)))


@pytest.mark.parametrize(
    ("changed", "tone", "headline", "sentence"),
    [
        ({}, "good", "Lower regret than the calibrated schedule, the textbook default and the best rival, Prodigy",
         "All 3 controls are beaten"),
        ({"rival.calibrated": OPEN}, "mixed", "Not better than: calibrated schedule; lower regret than the textbook",
         "No difference can be shown from calibrated"),
        ({"rival.calibrated": LOST}, "mixed", "Not better than: calibrated schedule; lower", "Higher regret than cal"),
        ({"baseline.cosine": LOST}, "mixed", "Not better than: Cosine", "Higher regret than CosineAnnealingLR +0.100"),
        ({"textbook.wsd": OPEN}, "mixed", "Not better than: WSD at the textbook rate", "No difference can be shown"),
        ({"control.state_blind": OPEN}, "bad", "A control does as well: state-blind policy", f"well, {MINUS}0.020"),
        ({"control.state_blind": LOST}, "bad", "A control does better: state-blind policy", "sees the clock alone"),
        ({"control.hold": LOST}, "bad", "A control does better: first level held", "the later moves are worth nothing"),
        ({"control.hold": LOST, "control.no_loss": OPEN}, "bad",
         "A control does better: first level held; a control does as well: the policy without the loss",
         "what the policy makes of the training loss after the probe is worth nothing"),
    ],
)  # fmt: skip
def test_verdict(changed: dict[str, tuple[float, float, float]], tone: str, headline: str, sentence: str) -> None:
    groups = (
        "baseline.cosine", "rival.calibrated", "rival.prodigy", "textbook.default", "textbook.wsd",
        "control.state_blind", "control.hold", "control.no_loss",
    )  # fmt: skip
    table = [score("policy"), score("policy_val", LOST), *(score(g, changed.get(g, WON)) for g in groups)]
    judged = verdict.judge(table)
    assert judged.tone == tone
    assert headline in judged.headline
    assert sentence in " ".join(judged.sentences)


def test_losses_are_said_before_wins() -> None:
    table = [
        score("policy"), score("control.hold", OPEN), score("rival.finder_tenth", LOST), score("textbook.wsd", OPEN),
        replace(score("rival.calibrated", WON), lost=0.25), replace(score("textbook.default", WON), lost=0.0),
        score("rival.prodigy", WON), score("baseline.cosine", WON),
    ]  # fmt: skip
    said = verdict.judge(table, "digits MLP").sentences
    starts = [
        "The control “first level held” does as well", "Higher regret than LR finder",
        "Worst task: digits MLP, regret 1.00",
        "It loses 25\N{NO-BREAK SPACE}% of the tasks to the calibrated schedule and 0",
        "No difference can be shown from WSD at the textbook rate", "Lower regret than the calibrated schedule",
        "Also lower regret than Prodigy and 1 of 1 schedules from a blindly chosen rate",
    ]  # fmt: skip
    assert len(said) == len(starts)
    assert all(sentence.startswith(start) for sentence, start in zip(said, starts, strict=True))


def test_a_regime_in_which_the_policy_is_behind_is_said() -> None:
    """The mean of all regimes does not show it; a rival that is not among the first ones is not named."""
    behind, level, ahead = Part(0.2, *LOST), Part(0.2, *OPEN), Part(0.2, *WON)
    table = [
        score("policy"), replace(score("control.hold", WON), regimes={"ordinary": behind, "odd": ahead}),
        replace(score("textbook.wsd", WON), regimes={"ordinary": behind, "odd": level}),
        replace(score("textbook.default", WON), regimes={"ordinary": level, "odd": behind}),
        replace(score("rival.prodigy", WON), regimes={"ordinary": ahead}),
        replace(score("rival.greedy", WON), regimes={"ordinary": behind}),
    ]  # fmt: skip
    first, second, *_ = verdict.judge(table).sentences
    gap = "+0.100 (+0.050 to +0.150)"
    hold = f"first level held {gap} and WSD at the textbook rate {gap}"
    assert first == f"In the regime “ordinary” its regret is higher than that of {hold}."
    assert second == f"In the regime “odd” its regret is higher than that of textbook default {gap}."


def test_without_the_first_rivals_everything_else_is_counted() -> None:
    headline = verdict.judge([score("policy"), score("baseline.cosine", WON), score("baseline.linear", WON)]).headline
    assert headline == "Lower regret than 2 of 2 schedules from a blindly chosen rate"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (float("nan"), "–"), (-0.0001, "0.000"), (-0.5, f"{MINUS}0.500"), (1.25, "1.250")]
)
def test_numbers_for_people(value, text) -> None:
    assert verdict.number(value) == text


def test_many_rivals_are_counted() -> None:
    names = ("prodigy", "momo", "dog", "ldog", "plateau")
    table = [score("policy"), *(score(f"rival.{name}", WON) for name in names), score("rival.greedy", OPEN)]
    assert "Also lower regret than 4 of 5 other rivals." in verdict.judge(table).sentences
