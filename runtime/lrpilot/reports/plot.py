"""A picture of a training as its pilot saw it. Needs matplotlib, imported when a picture is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.restart import SENT_BACK
from lrpilot.decisions.warm_up import WarmUp
from lrpilot.reports.explain import is_alarm
from lrpilot.reports.history import History
from lrpilot.reports.style import PLAIN, POLICY, RC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "Xvs^DP*h<>"  # one per kind of guard event
POINTS = 64  # drawn per interval, whose curve bends on a log axis


def draw(history: History, total_steps: int, equation: ActionEquation, ax: Axes | None = None) -> Axes:
    """Draw learning rate, loss, probe and guard events over the optimizer steps.

    The left axis shows the rate, with a dot for each decision, and dotted the rate to come if the level is held. In a
    warm-up the dot is the rate that the line rises to. The right axis shows, in grey, the mean batch loss of each
    interval. Guard events are named above the axes.

    Args:
        history: decisions of a training.
        total_steps: number of optimizer steps of the whole training.
        equation: the policy's, whose envelope the rate follows.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes of the rate.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install matplotlib; or use history.array()") from error
    with cast(Any, pyplot).rc_context(RC):
        left: Any = ax if ax is not None else pyplot.subplots(figsize=(8, 4), layout="constrained")[1]
        right = left.twinx()
    ink = pyplot.rcParams["text.color"]
    # The rate lies over the loss; only the lower axes may have a background.
    left.set_zorder(right.get_zorder() + 1)
    left.patch.set_visible(False)
    right.patch.set_visible(True)
    right.grid(False)
    rows = history.array()
    if len(rows) and rows["step"][0]:
        _draw_probe(left, rows["step"][0])
    handles = _draw_rate(left, rows, total_steps, equation) + _draw_events(left, rows, ink)
    _draw_loss(right, rows)
    left.set(xlabel="optimizer step", yscale="log", xlim=(0, total_steps))
    left.set_ylabel("learning rate", color=POLICY)
    left.tick_params(axis="y", which="both", colors=POLICY)
    _limit(left, rows)
    if handles:
        left.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small")
    return left


def _draw_probe(ax: Any, steps: float) -> None:
    ax.axvspan(0, steps, color=PLAIN, alpha=0.2, lw=0)
    ax.text(
        steps / 2, 0.5, "probe, rolled back", transform=ax.get_xaxis_transform(), rotation=90, ha="center", va="center",
        color=PLAIN, fontsize="small",
    )  # fmt: skip


def _draw_rate(ax: Any, rows: np.ndarray, total_steps: int, equation: ActionEquation) -> list[Any]:
    """Draw the rate. Returns the entries of the legend: the dotted part, if there is one."""
    if not len(rows):
        return []
    step, lr = rows["step"], rows["lr"]
    since = _warm_up_begins(rows)
    steps, rates = list[float](), list[float]()
    for begin, end, rate, before, at in zip(step, step[1:], lr, rows["lr_before"][1:], since, strict=False):
        passed, factors = _envelope(equation, begin, end, total_steps, at)
        fallen = (factors[0] - factors) / (factors[0] - factors[-1]) if factors[-1] < factors[0] else 0.0 * factors
        levels = rate + fallen * (before - rate)  # their end, whatever length the training had by then
        steps += passed.tolist()
        rates += (levels * _warm_up_factors(equation, passed, total_steps, at)).tolist()
    rest, factors = _envelope(equation, step[-1], total_steps - 1, total_steps, since[-1])
    held = lr[-1] * factors / factors[0] * _warm_up_factors(equation, rest, total_steps, since[-1])
    ax.plot([*steps, step[-1]], [*rates, held[0]], color=POLICY, lw=1.5)
    ax.plot(step, lr, ".", color=POLICY, ms=5)
    settled = len(rows) > 1 and total_steps - step[-1] < 1.5 * (step[-1] - step[-2])  # no decision comes any more
    lines = ax.plot(rest, held, "-" if settled else ":", color=POLICY, lw=1.5, label="rate if the level is held")
    return [] if settled else lines


def _warm_up_begins(rows: np.ndarray) -> list[int]:
    """Return, for each decision, the step after which the latest warm-up began."""
    first = rows["step"][0]
    begins = [step if event in SENT_BACK else first for step, event in zip(rows["step"], rows["event"], strict=True)]
    return np.maximum.accumulate(begins).tolist()


def _envelope(
    equation: ActionEquation, begin: int, end: int, total_steps: int, since: int
) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) from `begin` to `end`, those around the bends of the rate among them, and their factors (n,)."""
    bends = total_steps * (1 - equation.decay) - 0.5, since + total_steps * equation.warm_up - 0.5
    around = [step for bend in bends for step in (np.floor(bend), np.ceil(bend)) if begin < step < end]
    steps = np.union1d(np.linspace(begin, end, POINTS), around)
    return steps, np.array([equation.envelope(step, total_steps) for step in steps])


def _warm_up_factors(equation: ActionEquation, steps: np.ndarray, total_steps: int, since: int) -> np.ndarray:
    """Factors (n,) at steps (n,) of a warm-up that began after `since` steps."""
    warm_up = WarmUp(1, equation.warm_up, total_steps)
    warm_up.start(np.ones(1, bool), since, total_steps)
    return np.array([warm_up.factor(step) for step in steps])


def _draw_loss(ax: Any, rows: np.ndarray) -> None:
    """Interval means as steps over their intervals; an interval without a loss is a gap."""
    ax.yaxis.set_visible(False)
    if len(rows) < 2 or not np.isfinite(rows["telemetry_loss_mean"]).any():
        return
    loss = np.where(np.isfinite(rows["telemetry_loss_mean"]), rows["telemetry_loss_mean"], np.nan)[1:]
    ax.yaxis.set_visible(True)
    ax.set_ylabel("mean training loss", color=PLAIN)
    ax.tick_params(axis="y", which="both", colors=PLAIN)
    if np.nanmin(loss) > 0 and np.nanmax(loss) > 10 * np.nanmin(loss):
        ax.set_yscale("log")
    ax.stairs(loss, rows["step"], baseline=None, color=PLAIN, lw=1.5)


def _draw_events(ax: Any, rows: np.ndarray, ink: str) -> list[Any]:
    """One marker per kind of event, on the rate that the guard left; the legend names and counts them."""
    handles: list[Any] = []
    for at, (event, count) in enumerate(Counter(e for e in rows["event"].tolist() if e and is_alarm(e)).items()):
        hit = rows[rows["event"] == event]
        marker = MARKERS[at % len(MARKERS)]
        label = f"guard: {event}" if count == 1 else f"guard: {event} ({count})"
        handles += ax.plot(hit["step"], hit["lr"], marker, color=ink, mec="none", ms=7, label=label)
    return handles


def _limit(ax: Any, rows: np.ndarray) -> None:
    """Fit the rates at decisions: the envelope's end, at zero, would stretch a log axis."""
    rates = rows["lr"][(rows["lr"] > 0) & np.isfinite(rows["lr"])]
    if len(rates):
        ax.set_ylim(rates.min() / 3, rates.max() * 2)
