"""The picture of a training; drawn for real, without a screen."""

import math
import re
import sys
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")  # before anything chooses a screen
import numpy as np
import pytest
from matplotlib import pyplot

from lrpilot import load_policy
from lrpilot.reports.explain import is_alarm
from lrpilot.reports.history import History
from lrpilot.reports.plot import draw
from recorded_training import STEPS, training

pytestmark = pytest.mark.filterwarnings("ignore:PilotLR. step.. got no loss")


def labels(ax) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def broken(history: History) -> History:
    """The same training, with nothing finite in it."""
    return History(
        replace(d, lr=math.nan, lr_before=math.nan, telemetry=dict.fromkeys(d.telemetry, math.nan)) for d in history
    )


EQUATION = load_policy().protocol.action
HELD = "rate if the level is held"
CASES = {  # what is drawn, what the legend says, whether there is a loss
    "empty": (lambda h: h[:0], [], False),
    "one decision": (lambda h: h[:1], [HELD], False),
    "half": (lambda h: h[:8], [HELD], True),
    "whole": (lambda h: h, ["EVENTS"], True),
    "nan": (broken, ["EVENTS"], False),
}


@pytest.mark.parametrize("case", CASES)
def test_draw(case: str) -> None:
    cut, want, lost = CASES[case]
    history = cut(training()[0].history)
    events = dict.fromkeys(f"guard: {d.event}" for d in history if is_alarm(d.event))
    want = [label for each in want for label in (events if each == "EVENTS" else [each])]
    ax = draw(history, STEPS, EQUATION)
    ax.figure.canvas.draw()
    assert [re.sub(r" \(\d+\)$", "", label) for label in labels(ax)] == want
    assert ax.get_yscale() == "log" and ax.get_xlim() == (0, STEPS)
    assert [text.get_text() for text in ax.texts] == ["probe, rolled back"] * bool(len(history))
    loss = ax.figure.axes[1].yaxis
    assert loss.get_visible() == lost and ("loss" in loss.label.get_text()) == lost
    pyplot.close(ax.figure)


@pytest.mark.parametrize(("style", "ink"), [("default", "black"), ("dark_background", "white")])
def test_events_have_the_colour_of_text(style: str, ink: str) -> None:
    """So that they stand out from light and from dark."""
    with pyplot.style.context(style):
        ax = draw(training()[0].history, STEPS, EQUATION)
        marks = [line.get_color() for line in ax.lines if str(line.get_label()).startswith("guard: ")]
    assert marks and set(marks) == {ink}
    pyplot.close(ax.figure)


def test_the_curve_is_the_rate_that_every_step_used() -> None:
    scheduler, used = training()
    start = scheduler.history[0].step
    ax = draw(scheduler.history, STEPS, EQUATION)
    curve = ax.lines[0]
    # At a decision the curve jumps: what it has just before belongs to the steps before.
    decided = {d.step for d in scheduler.history}
    steps = [step for step in range(start, scheduler.history[-1].step) if step not in decided]
    np.testing.assert_allclose(np.interp(steps, *curve.get_data()), [used[step] for step in steps], rtol=1e-6)
    assert used[start] < 0.1 * scheduler.history[0].lr  # a warm-up
    dots = dict(zip(*ax.lines[1].get_data(), strict=True))
    assert dots == {d.step: d.lr for d in scheduler.history}
    assert all(dots[step] == used[step] for step in decided if step > start + EQUATION.warm_up * STEPS)
    pyplot.close(ax.figure)


def test_draws_into_the_axes_given() -> None:
    figure, ax = pyplot.subplots()
    assert draw(training()[0].history, STEPS, EQUATION, ax) is ax
    assert len(figure.axes) == 2  # its twin, of the loss
    pyplot.close(figure)


def test_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        draw(History(), STEPS, EQUATION)
